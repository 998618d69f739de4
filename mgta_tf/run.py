"""A run: its state, and what GLP and TMP do to it. `mgta_tf.train` is the algorithm over it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import platform
import time
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

import mgta_tf
from mgta_tf import clustering
from mgta_tf.clustering import curve
from mgta_tf.clustering.choose import Choice
from mgta_tf.clustering.journal import Journal
from mgta_tf.config import flag, to_dict, to_flagfile
from mgta_tf.data import sampler
from mgta_tf.data.pipeline import Feed
from mgta_tf.data.store import ImageStore
from mgta_tf.errors import UserError
from mgta_tf.evaluation import online
from mgta_tf.runtime import hosts, preemption
from mgta_tf.runtime.checkpoints import Cadence, Checkpoints, Position, load_net, save_net
from mgta_tf.runtime.files import write_json
from mgta_tf.runtime.progress import Part, Progress, duration
from mgta_tf.runtime.step_log import StepLog
from mgta_tf.runtime.strategy import make_strategy
from mgta_tf.runtime.tensorboard import TensorBoardWriter, profiled
from mgta_tf.runtime.workdir import NEUTRAL, Workdir
from mgta_tf.training import guidance, needs
from mgta_tf.training.guidance import Turn
from mgta_tf.training.learner import Learner
from mgta_tf.training.losses import looks_collapsed
from mgta_tf.training.needs import peak_memory_mb
from mgta_tf.training.optimization import learning_rate
from mgta_tf.training.visualizer import Show

if TYPE_CHECKING:
    from mgta_tf.train import TrainConfig

AGREEMENT_IMAGES = 1000  # on which the labellings of the two nets are compared
SHOWN_BATCHES = 4  # of a turn, whose distances make its histograms

DETERMINISTIC = (
    "TensorFlow's deterministic operations only: a run that was interrupted ends with the bits of "
    "one that was not. docs/robustness.md says what may differ without it."
)
MAX_SKIPPED_STEPS = (
    "Steps in a row that may be left out because their loss or gradient is not finite, before the "
    "run stops."
)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The run."""

    workdir: str = flag("", "Folder for everything that the run leaves; resumes what it holds.")
    seed: int = flag(1, "Of the weights, the split, the clusters, the batches.", minimum=0)
    iae_checkpoint: str = flag(
        "",
        "Folder of a run whose IAE both nets start from, in place of stage 1; two folders, with a "
        "comma between them, give each net its own.",
    )
    checkpoint_every_steps: int = flag(
        0,
        "Steps between checkpoints within a turn; there is one after each turn. 0: none.",
        minimum=0,
    )
    checkpoint_every_secs: float = flag(
        600.0, "Seconds between checkpoints within a turn, and within a k-means.", minimum=0.0
    )
    keep: int = flag(2, "Checkpoints that are kept.", minimum=1)
    deterministic: bool = flag(False, DETERMINISTIC)
    max_skipped_steps: int = flag(10, MAX_SKIPPED_STEPS, minimum=0)
    probe_every_rounds: int = flag(
        0,
        "Judge a net by SVM and 20-NN when it has trained, every so many rounds and after stages 1 "
        "and 3; 0 never. On labelled images of the run, half to fit and half to test.",
        minimum=0,
    )
    probe_images: int = flag(2000, "Images that are judged with.", minimum=4)
    log_every_steps: int = flag(20, "Steps between two points of a curve.", minimum=1)


class Run:
    """The state of a run.

    nets: N1 and N2, a list of two.
    labels: by half (0, 1, or None for all images), the pseudo labels in use, int32 [n].
    history: a row for every turn that is done, GLP and TMP; `summary.json` is made of them.
    """

    def __init__(
        self, config: TrainConfig, workdir: Workdir, store: ImageStore, schedule: list[Turn]
    ):
        self.config, self.workdir, self.store, self.schedule = config, workdir, store, schedule
        if config.run.deterministic:
            tf.config.experimental.enable_op_determinism()
        strategy = self._strategy = _strategy(config)
        self.nets = [
            Learner(
                strategy,
                config.model,
                config.augment,
                config.loss,
                config.optimizer,
                seed=config.run.seed,
                mixed_precision=config.device.mixed_precision,
                jit_compile=config.device.jit_compile,
            )
            for _ in range(2)
        ]
        self.labels: dict[int | None, np.ndarray] = {}
        self.history: list[dict[str, Any]] = []
        self._feed = Feed(store, config.batch.size, strategy)
        self._board = TensorBoardWriter(workdir.tensorboard)
        self._checkpoints = Checkpoints(
            workdir.checkpoints, self.nets, config.run.keep, workdir.own_checkpoints
        )
        self._data = store.fingerprint()
        self._log_state: dict[str, Any] = {}  # of a turn that was interrupted
        self._steps_to_profile = config.device.profile_steps
        self._journal = Journal(workdir.kmeans, config.run.checkpoint_every_secs)
        self._offsets, self._totals = self._count_steps()
        for turn in schedule:
            if turn.process == "GLP":
                clustering.check(config.cluster, self._num_images(turn))
        if config.run.probe_every_rounds and store.labels is None:
            raise UserError("--probe_every_rounds: the images have no classes to judge by")
        self._album = Show(workdir, store, self._board)

    # ------------------------------------------------------------------- Generating labels (GLP)

    def encode(self, net: Learner, images: np.ndarray) -> np.ndarray:
        """F = E(images): the features that are clustered, float32 [n, D]."""
        cluster = self.config.cluster
        batches = net.encode(self._feed, images, cluster.cluster_features, self.config.batch.size)
        return clustering.collect(
            batches, len(images), cluster.feature_budget_mb, self.workdir.features
        )

    def cluster(self, turn: Turn, images: np.ndarray, features: np.ndarray) -> np.ndarray:
        """k-means on the features (§3.2): the pseudo labels of the images, int32 [n].

        Of several hosts the chief clusters, and all take its labels.
        """
        chosen = np.linspace(0, len(images) - 1, min(AGREEMENT_IMAGES, len(images)), dtype=int)
        of_other_net = np.concatenate(  # in memory: `features` may lie in the file of `encode`
            list(
                self.nets[1 - turn.net].encode(
                    self._feed,
                    images[chosen],
                    self.config.cluster.cluster_features,
                    self.config.batch.size,
                )
            )
        )
        labels, row = hosts.from_chief(
            self._strategy, lambda: self._cluster(turn, images, features, chosen, of_other_net)
        )
        self.history.append(row)
        return np.asarray(labels, np.int32)

    def _cluster(self, turn: Turn, images, features, chosen, of_other_net):
        """The labels, the row of the history; files and pictures of them."""
        config, began = self.config.cluster, time.monotonic()
        try:
            found, choice = clustering.cluster(
                features, config, self._cluster_seed(turn), self._chosen_k(), self._journal
            )
        except UserError as error:
            raise UserError(f"{turn}: {error}") from None
        preemption.defer()  # until `finish` has saved the labels
        truth = self.store.labels
        row = {
            **_name(turn),
            "images": len(images),
            "seconds": time.monotonic() - began,
            **clustering.diagnostics(
                found,
                None if truth is None else truth[images],
                self._labels_of_last_round(turn, images),
            ),
            **self._agreement_of_nets(turn, found.labels[chosen], of_other_net),
        }
        if choice:
            row.update(k_table=choice.table, k_criterion=choice.criterion, k_on_edge=choice.on_edge)
        step = self._offsets[self.schedule.index(turn)]
        self._album.clusters(turn, step, row, found, choice)
        row["telling"] = self._album.members(turn, step, images, features, found)
        self._remark(turn, row, choice)
        labels = clustering.core(found.labels, found.distances, config.core_fraction)
        self.workdir.save_labels(turn.round, turn.net, images, labels, found.distances)
        return labels, {**row, "show_seconds": self._album.take_seconds()}

    def _cluster_seed(self, turn: Turn) -> int:
        return (self.config.run.seed * 1000 + turn.round) * 2 + turn.net

    def _chosen_k(self) -> int | None:
        """The K of the first labels, if there are any."""
        return next((row["num_clusters"] for row in self.history if row["process"] == "GLP"), None)

    def _agreement_of_nets(
        self, turn: Turn, labels: np.ndarray, features: np.ndarray
    ) -> dict[str, float | None]:
        """How far the other net, clustered by itself, would give a sample the same labels.

        labels: [n], of the sample. features: [n, D], those of the other net.
        """
        k = min(len(np.unique(labels)), len(labels) - 1)
        config = dataclasses.replace(
            self.config.cluster, num_clusters=k, clusterer="kmeans", kmeans_impl="tf"
        )
        try:
            other, _ = clustering.cluster(features, config, self._cluster_seed(turn))
        except UserError:  # the other net has collapsed, which its own turn will say
            return {"nmi_nets": None, "ari_nets": None}
        nmi, ari = clustering.agreement(other.labels, labels)
        return {"nmi_nets": nmi, "ari_nets": ari}

    def _remark(self, turn: Turn, row: dict[str, Any], choice: Choice | None) -> None:
        """A line where something looks wrong, and what K was chosen, with the picture of CH(k)."""
        limit = self.config.cluster.max_cluster_fraction
        if row["largest_fraction"] > limit:
            self._progress.note(
                f"collapse? {turn}: one cluster holds {row['largest_fraction']:.0%} of the images, "
                f"more than --max_cluster_fraction={limit}"
            )
        if choice is None:
            return
        picture = self.workdir.k_curve(turn.round, turn.net)
        curve.draw(choice, picture)
        self._progress.note(f"{turn} · K = {choice.best_k} by {choice.criterion}: {picture}")
        if choice.on_edge:
            self._progress.note(f"{turn} · {choice.warning()}")

    def _labels_of_last_round(self, turn: Turn, images: np.ndarray) -> np.ndarray | None:
        """What the net called the same images a round ago, NOISE where it did not: int32 [n]."""
        asked, config = ("GLP", turn.round - 1, turn.net), self.config
        before = next((t for t in self.schedule if (t.process, t.round, t.net) == asked), None)
        if before is None:
            return None
        label_of = np.full(len(self.store), sampler.NO_CLUSTER, np.int32)
        last = guidance.images_of(before, len(self.store), config.guidance, config.run.seed)
        label_of[last] = self.labels[before.half]
        return label_of[images]

    # --------------------------------------------------------------------- Training models (TMP)

    def fit(
        self, number: int, net: Learner, images: np.ndarray, labels: np.ndarray | None, start: int
    ) -> None:
        """Trains a net on the images (§3.3), from step `start` of turn `number`."""
        config, turn = self.config, self.schedule[number]
        label_of = np.full(len(self.store), sampler.NO_CLUSTER, np.int32)
        seed = [config.run.seed, turn.round, turn.net]
        if labels is None:
            plan = sampler.shuffled_plan(images, config.batch.size, turn.epochs, seed)
        else:
            label_of[images] = sampler.labels_for_triplets(labels, config.batch.smallest_cluster)
            plan = sampler.pk_plan(images, labels, config.batch, turn.epochs, seed)
        log = StepLog(
            str(turn),
            len(plan),
            turn.epochs,
            config.run.log_every_steps,
            config.run.max_skipped_steps,
            self._log_state if start else None,
        )
        cadence = Cadence(config.run.checkpoint_every_steps, config.run.checkpoint_every_secs)
        batches = self._feed.batches(plan, label_of, seed, start)
        steps = net.fit(batches, turn.lambda1, self._rate(number), start)
        traced, self._steps_to_profile = self._steps_to_profile, 0
        preemption.defer()  # until `finish` has saved the end of the turn
        for step, monitors in profiled(steps, traced, self.workdir.tensorboard):
            log.add(monitors)
            if step == start:
                self._progress.advance_to(step + 1)  # builds the graph, and is counted alone
            if log.full() or step + 1 == len(plan):
                self._show(number, step + 1, log.point(step + 1))
            if hosts.any_of(self._strategy, cadence.due(step + 1)):
                self._save(number, step + 1, log.state(step + 1))
                cadence.saved()
                hosts.leave(self._strategy)
        self._show_turn(number, net, plan, label_of)
        judged = self._judge(number, net)
        self.history.append(
            {
                **_name(turn),
                "images": len(images),
                "steps": len(plan),
                "lambda": turn.lambda1,
                **log.summary(),
                **judged,
                "show_seconds": self._album.take_seconds(),
            }
        )

    def _show(self, number: int, step: int, point: dict[str, float]) -> None:
        """Shows the means of a window that ends with `step`, and says what looks wrong."""
        turn = self.schedule[number]
        if point["skipped"]:
            self._progress.note(
                f"{turn}, step {step}: {point['skipped']:.0f} of the last steps were left out, for "
                "their loss or gradient was not finite"
            )
        if turn.lambda1 and looks_collapsed(point, self.config.loss):
            self._progress.note(
                f"collapse? {turn}, step {step}: the triplet loss rests on its margin and all "
                f"embeddings are {point['pair_distance']:.2g} apart; lower λ₁ or --learning_rate"
            )
        net = f"net{turn.net + 1}"
        rate = self._rate(number)(step - 1)
        self._board.scalars(
            net, self._offsets[number] + step, {**point, "lambda": turn.lambda1, "rate": rate}
        )
        self._progress.advance_to(step)
        speed = self._progress.speed() * self.config.batch.size
        self._board.scalars(net, self._offsets[number] + step, {"images_per_second": speed})
        per_epoch = self._totals[number] / turn.epochs
        self._progress.show(
            f"{turn} · epoch {min(int(step / per_epoch) + 1, turn.epochs)}/{turn.epochs} · "
            f"loss {point['loss']:.4g} (reconstruction {point['reconstruction_loss']:.4g}, "
            f"triplet {point['triplet_loss']:.4g}) · {speed:.0f} images/s"
        )

    def _judge(self, number: int, net: Learner) -> dict[str, float]:
        """The online probe of the net that has just trained, if its turn has come."""
        every, turn = self.config.run.probe_every_rounds, self.schedule[number]
        labels = self.store.labels
        if not every or labels is None or (turn.stage == "mutual" and turn.round % every):
            return {}
        images = online.choose(labels, self.config.run.probe_images)
        batches = net.encode(self._feed, images, online.ENDPOINT, self.config.batch.size)
        found = online.judge(np.concatenate(list(batches)), labels[images])
        step = self._offsets[number] + self._totals[number]
        self._board.scalars(f"net{turn.net + 1}", step, found)
        return found

    def _show_turn(self, number: int, net: Learner, plan: np.ndarray, label_of: np.ndarray) -> None:
        """Reconstructions; after labels, the distances of the last batches, not augmented."""
        turn, step = self.schedule[number], self._offsets[number] + self._totals[number]
        self._album.reconstructions(turn, step, net.reconstruct(self._album.images))
        if not turn.round:
            return
        batches = plan[-SHOWN_BATCHES:]
        found = net.encode(self._feed, batches.ravel(), "embedding", self.config.batch.size)
        embeddings = np.stack(list(found))  # [batches, P*K, D]
        normalize = self.config.loss.normalize_embedding
        self._album.distances(turn, step, embeddings, label_of[batches], normalize)

    @staticmethod
    def copy(source: Learner, target: Learner) -> None:
        """Gives `target` the weights of `source`: both nets "copy the parameters of IAE"."""
        target.model.set_weights(source.model.get_weights())

    # ----------------------------------------------------------------------------- Steps and rates

    def _count_steps(self) -> tuple[list[int], list[int]]:
        """For every turn: the steps its net has done before it, and its own steps (0 for a GLP)."""
        done, offsets, totals = [0, 0], [], []
        for turn in self.schedule:
            steps = 0
            if turn.process == "TMP":
                images = self._num_images(turn)
                steps = sampler.steps_of(images, turn.epochs, self.config.batch.size)
            offsets.append(done[turn.net])
            totals.append(steps)
            done[turn.net] += steps
            if turn.stage == "iae":
                done[1] = done[0]  # N2 will start where the IAE ends
        return offsets, totals

    def _num_images(self, turn: Turn) -> int:
        if turn.half is guidance.ALL:
            return len(self.store)
        return len(guidance.halves(len(self.store), 0, self.config.guidance, 0)[turn.half])

    def _rate(self, number: int) -> Callable[[int], float]:
        """The learning rate by step of a turn: one schedule for the IAE, one for what follows."""
        turn = self.schedule[number]
        phase = [
            (i, self._totals[i])
            for i, other in enumerate(self.schedule)
            if other.net == turn.net and (other.stage == "iae") == (turn.stage == "iae")
        ]
        before = sum(steps for i, steps in phase if i < number)
        total = sum(steps for _, steps in phase)
        return lambda step: learning_rate(self.config.optimizer, before + step, total)

    # ---------------------------------------------------------------------------- Stop and go on

    def restore(self) -> tuple[int, int]:
        """Goes back to the newest checkpoint. Returns the turn and the step to go on with.

        In this order: 1. weights and optimisers; 2. history, what the turn has shown, the labels in
        use; 3. in a new run, the weights of `--iae_checkpoint`; 4. the progress line.

        Raises:
          UserError: no checkpoint is whole, or the images are not those that the run began with.
        """
        position = self._checkpoints.restore(self._data)
        number, step, self.history = position.turn, position.step, position.history
        self._log_state = position.log
        self.labels.update(position.labels)
        pending = self.schedule[number] if number < len(self.schedule) else None
        if not self.history and self.config.run.iae_checkpoint:
            number = self._start_from_iae(self.config.run.iae_checkpoint)
        parts = [
            Part(turn.stage, steps, 0 if steps else self._num_images(turn))
            for turn, steps in zip(self.schedule, self._totals)
        ]
        self._progress = Progress(parts, number, step, self.config.batch.size)
        if self.history or step:
            print(f"resuming in {self.workdir.path} at {pending or 'its end'}, step {step}")
        print(needs.said(self._needs(), self.workdir.path), flush=True)
        flags = {name: v for name, v in to_dict(self.config).items() if name not in NEUTRAL}
        hparams = {n: v if isinstance(v, (bool, int, float)) else str(v) for n, v in flags.items()}
        self._album.start(to_flagfile(self.config), hparams, self.nets[0].model)
        return number, step

    def _needs(self) -> needs.Needs:
        config, images = self.config, len(self.store)
        dimensions = self.nets[0].model.encoder.output[config.cluster.cluster_features].shape[-1]
        rounds = sum(turn.process == "GLP" for turn in self.schedule)
        return needs.of_run(
            self.nets,
            config.model,
            config.batch.size,
            config.augment.image_size,
            config.run.keep,
            images=0 if self.store.pixels is None else self.store.pixels.nbytes,
            features=min(images * dimensions * 4, config.cluster.feature_budget_mb * 2**20),
            labels=12 * images * rounds,
        )

    def _start_from_iae(self, folder: str) -> int:
        """Loads the IAEs of other runs. Returns the first turn after stage 1."""
        folders = folder.split(",")
        if len(folders) > len(self.nets):
            raise UserError(f"--iae_checkpoint={folder}: at most two folders, one for each net")
        for net, source in zip(self.nets, itertools.cycle(folders)):
            load_net(net.model, Workdir(source).iae)
        save_net(self.nets[0].model, self.workdir.iae)
        return sum(turn.stage == "iae" for turn in self.schedule)

    def finish(self, number: int) -> None:
        """Saves what a turn has changed, shows it, and leaves if a signal has come meanwhile."""
        turn, row = self.schedule[number], self.history[-1]
        if turn.stage == "iae":
            save_net(self.nets[0].model, self.workdir.iae)
        if turn.process == "TMP":
            self._album.result(self._offsets[number] + self._totals[number], row)
        row["peak_memory_mb"] = peak_memory_mb()
        self._save(number + 1, 0, {})
        self._board.flush()
        self._write_summary()
        self._progress.end_part()
        self._progress.note(f"{turn} · {_words(row)} · {duration(row['seconds'])}")
        hosts.leave(self._strategy)
        preemption.release()  # what `fit` and `_cluster` have put off

    def _save(self, number: int, step: int, log: dict[str, Any]) -> None:
        position = Position(number, step, self.history, log, self.labels, self._data)
        self._checkpoints.save(position)

    def _write_summary(self) -> None:
        """`summary.json`: a row for every TMP, with what is known of the labels it used."""
        glp = {(r["round"], r["half"]): r for r in self.history if r["process"] == "GLP"}
        stages = []
        for row in self.history:
            if row["process"] == "TMP":
                labels = glp.get((row["round"], row["half"]), {}) if row["round"] else {}
                stages.append({**labels, "label_seconds": labels.get("seconds"), **row})
        keys = ("num_clusters", "empty_clusters", "nmi_previous", "nmi_truth")
        write_json(
            self.workdir.summary,
            {
                "stages": [{**dict.fromkeys(keys), **stage} for stage in stages],
                "labellings": list(glp.values()),
                "turns": len(self.schedule),
                "turns_done": len(self.history),
                "data": self.store.format,
                "num_images": len(self.store),
                "num_skipped": len(self.store.skipped),
                "class_names": self.store.class_names if self.store.labels is not None else None,
                "num_parameters": self.nets[0].model.count_params(),
                "versions": versions(),
                "saved_model": None,
            },
        )

    def report(self) -> None:
        """The last lines on the terminal: what came out, and where it lies."""
        self._write_summary()
        path, rows = self.workdir.path, self.history
        if not hosts.is_chief():
            print(f"done: {len(rows)} turns; the chief has written {path}", flush=True)
            return
        total = sum(row["seconds"] for row in rows)
        shown = sum(row.get("show_seconds", 0.0) for row in rows)
        last = {row["process"]: row for row in rows}
        lines = [
            f"done: {len(rows)} turns in {duration(total)}, {shown / max(total, 1e-9):.1%} of it "
            "for pictures",
            *([f"  last training:     {_words(last['TMP'])}"] if "TMP" in last else []),
            *([f"  last labels:       {_words(last['GLP'])}"] if "GLP" in last else []),
            f"  losses, clusters:  {self.workdir.summary}",
            f"  pictures:          {os.path.dirname(self.workdir.originals)}",
            f"  pseudo labels:     {os.path.join(path, 'labels')}",
            f"  curves:            tensorboard --logdir={self.workdir.tensorboard}",
            f"  report:            python -m mgta_tf.report --workdir={path}",
            f"  encoder:           python -m mgta_tf.export --workdir={path} "
            f"--output={os.path.join(path, 'saved_model')}",
        ]
        print("\n".join(lines), flush=True)


def _strategy(config: TrainConfig):
    """The devices. One that mines by itself needs whole clusters, two of them at least."""
    if config.loss.triplet_scope == "global":
        strategy = make_strategy(config.batch.size, "global_batch")
    else:
        strategy = make_strategy(config.batch.clusters_per_batch, "clusters_per_batch", least=2)
    if config.device.jit_compile and strategy.num_replicas_in_sync > 1:
        raise UserError(
            "--jit_compile: what XLA compiles cannot speak with other devices; leave it"
        )
    return strategy


def _name(turn: Turn) -> dict[str, Any]:
    """What a row of the history is about."""
    return {
        "process": turn.process,
        "stage": turn.stage,
        "round": turn.round,
        "net": turn.net + 1,
        "half": turn.half,
    }


def _words(row: dict[str, Any]) -> str:
    if row["process"] == "GLP":
        truth = "" if row["nmi_truth"] is None else f", NMI with the truth {row['nmi_truth']:.3f}"
        return (
            f"{row['num_clusters']} clusters of {row['smallest']} to {row['largest']} images, "
            f"{row['empty_clusters']} re-seeded{truth}"
        )
    first = row["first"]
    judged = f", 20-NN {row['probe_knn']:.1f}" if "probe_knn" in row else ""
    return (
        f"reconstruction {first['reconstruction_loss']:.4g} → {row['reconstruction_loss']:.4g}, "
        f"triplet {first['triplet_loss']:.4g} → {row['triplet_loss']:.4g}{judged}"
    )


@functools.lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of everything that decides a result."""
    return {
        "mgta_tf": mgta_tf.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("tensorflow", "keras", "numpy")},
    }
