"""The state of a run: built or restored from a checkpoint, and saved after every turn."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.clustering.clusters import Clusters
from mgta_tf.clustering.journal import Journal
from mgta_tf.clustering.table import clusters_table
from mgta_tf.data.pipeline import Feed
from mgta_tf.data.store import ImageStore
from mgta_tf.errors import UserError
from mgta_tf.runtime import files, hosts, preemption
from mgta_tf.runtime.checkpoints import Checkpoints, Position, load_net, save_net
from mgta_tf.runtime.progress import Progress, duration
from mgta_tf.runtime.strategy import make_strategy, share_operations
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.training import guidance, needs, summary, wording
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.guidance import Turn
from mgta_tf.training.learner import Learner
from mgta_tf.training.timeline import Timeline, work_of


@dataclasses.dataclass
class Session:
    """Everything that the turns of a run share.

    nets: N1 and N2; the same net twice where one net takes all turns.
    labels: the pseudo labels in use, int32 [n], by half (0, 1, or ALL).
    history: one row per finished turn; `summary.json` is made of them.
    position: state of the newest checkpoint without weights and optimizers; in a new run, the
      initial state.
    first_turn: number of the turn at which this process started.
    counted: `time.monotonic` up to which elapsed time is recorded in the history.
    """

    config: TrainConfig
    workdir: Workdir
    store: ImageStore
    timeline: Timeline
    strategy: tf.distribute.Strategy
    nets: list[Learner]
    feed: Feed
    checkpoints: Checkpoints
    position: Position
    progress: Progress
    journal: Journal
    first_turn: int
    counted: float

    @classmethod
    def open(
        cls, config: TrainConfig, workdir: Workdir, store: ImageStore, began: float
    ) -> Session:
        """Starts a run, or resumes it from its newest checkpoint.

        config and store have passed `preflight.check`. began: start time of the command by
        `time.monotonic`.

        Raises:
          UserError: all checkpoints are damaged, or the images are not those that the run began
            with.
        """
        timeline = Timeline.of(config, len(store))
        # 1. Devices and nets.
        if config.robustness.deterministic:
            tf.config.experimental.enable_op_determinism()
        strategy = make_devices(config)
        nets = _nets(config, strategy, guidance.count_nets(config.guidance))
        # 2. Weights, optimizers, labels and history from the newest valid checkpoint.
        checkpoints = Checkpoints(
            workdir.checkpoints, nets, config.robustness.keep, workdir.own_checkpoints
        )
        position = checkpoints.restore(store.fingerprint(), store.fingerprint_of_names())
        # 3. A new run with --iae_checkpoint loads another run's IAE and skips stage 1.
        if not position.history and config.run.iae_checkpoint:
            _load_iaes(nets, config.run.iae_checkpoint, workdir)
            position.turn = sum(turn.stage == "iae" for turn in timeline.turns)
        session = cls(
            config,
            workdir,
            store,
            timeline,
            strategy,
            nets,
            Feed(store, config.batch.size, strategy),
            checkpoints,
            position,
            _progress(config, timeline, position, store.labels is not None),
            Journal(workdir.kmeans, config.robustness.checkpoint_every_secs),
            position.turn,
            began - position.log.get("seconds", 0.0),  # spent on this turn by an earlier command
        )
        _announce(session)
        return session

    @property
    def labels(self) -> dict[int | None, np.ndarray]:
        return self.position.labels

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.position.history

    def remaining_turns(self) -> Iterator[tuple[int, Turn]]:
        """The turns that are left for this process, with their numbers; prints each description."""
        for number in range(self.first_turn, len(self.timeline.turns)):
            turn = self.timeline.turns[number]
            self.progress.note(title(self, turn))
            yield number, turn

    def resume_point(self, number: int) -> tuple[int, dict[str, Any] | None]:
        """The step at which turn `number` starts, and the `StepLog` state before it, if any."""
        if number == self.position.turn and self.position.step:
            return self.position.step, self.position.log
        return 0, None

    def seed_of(self, turn: Turn) -> list[int]:
        """The seed of a turn's batches and augmentation."""
        return [self.config.run.seed, turn.round, turn.net]

    def steps_to_trace(self, number: int) -> int:
        """Number of steps to profile in a turn: --profile_steps in this process's first TMP."""
        trained = any(self.timeline.steps[self.first_turn : number])
        return 0 if trained else self.config.device.profile_steps

    # ------------------------------------------------------------------------------- Save and end

    def keep_labels(
        self, turn: Turn, images: np.ndarray, labels: np.ndarray, clusters: Clusters | None
    ) -> None:
        """Keeps the labels of a GLP, int32 [n], for the next TMP, and writes them to files.

        clusters: None on hosts other than the chief, which write no files.
        """
        self.labels[turn.half] = labels
        if clusters is not None:
            workdir, distances = self.workdir, clusters.distances
            workdir.save_labels(turn.round, turn.net, images, labels, distances)
            clusters_table(workdir.clusters, self.store.names, images, labels, distances)

    def save_step(self, number: int, step: int, log: dict[str, Any]) -> None:
        """Saves a checkpoint within turn `number`, after `step` of its steps."""
        self._save(dataclasses.replace(self.position, turn=number, step=step, log=log))

    def finish(self, number: int, row: dict[str, Any]) -> None:
        """Saves a finished turn and its row of the history; stops if a signal has arrived."""
        self.progress.begin("save", "writing a checkpoint")
        if self.timeline.turns[number].stage == "iae":
            save_net(self.nets[0].model, self.workdir.iae)
        now = time.monotonic()
        waited, self.counted = now - self.counted, now
        memory = needs.peak_memory_mb()
        self.history.append({**row, "wall_seconds": waited, "peak_memory_mb": memory})
        self._save(dataclasses.replace(self.position, turn=number + 1, step=0, log={}))
        self.write_summary()
        self.progress.end()
        self.progress.note(f"  {wording.result(row)} · {duration(waited)}")
        hosts.stop_if_signalled(self.strategy)
        preemption.release()  # signals were deferred in `labeller.label` or `trainer.train`

    def close(self) -> None:
        """Writes `summary.json` and prints the closing lines."""
        self.write_summary()
        print(summary.closing_lines(self.history, self.workdir, self.config), flush=True)

    def write_summary(self) -> None:
        turns, model = len(self.timeline.turns), self.nets[0].model
        content = summary.build(self.position, turns, self.store, model)
        files.write_json(self.workdir.summary, content)

    def _save(self, position: Position) -> None:
        self.checkpoints.save(position)
        self.position = position


def title(session: Session, turn: Turn) -> str:
    """The description of a turn, for the terminal and for messages."""
    images = guidance.count_images(turn, len(session.store))
    clusters = wording.clusters_of(turn, session.config.cluster, session.history)
    return wording.title(turn, session.config, images, clusters)


def _progress(
    config: TrainConfig, timeline: Timeline, position: Position, labelled: bool
) -> Progress:
    """The progress of the whole run, starting at the turn and step at which it resumes."""
    turns = work_of(timeline, config, position.turn, labelled)
    done = sum(len(pieces) for pieces in turns[: position.turn])
    return Progress(tuple(itertools.chain(*turns)), done, position.step)


def _announce(session: Session) -> None:
    """Prints at which turn a resumed run continues, and the resources that the run needs."""
    number, step = session.position.turn, session.position.step
    if session.history or step:
        timeline, where = session.timeline, "its end"
        if number < len(timeline.turns):
            where = title(session, timeline.turns[number])
            if step:
                where = f"step {step} of {timeline.steps[number]}: {where}"
        print(f"resuming in {session.workdir.path} at {where}")
    print(needs.estimate_line(_needs(session), session.workdir.path), flush=True)


def _needs(session: Session) -> needs.Needs:
    config, images = session.config, len(session.store)
    outputs = session.nets[0].model.encoder.output
    dimensions = outputs[config.cluster.cluster_features].shape[-1]
    return needs.estimate(
        list(dict.fromkeys(session.nets)),
        config.model,
        config.batch.size,
        config.augment.image_size,
        config.robustness.keep,
        images=0 if session.store.pixels is None else session.store.pixels.nbytes,
        features=min(images * dimensions * 4, config.cluster.feature_budget_mb * 2**20),
        labels=12 * images * sum(turn.process == "GLP" for turn in session.timeline.turns),
    )


def _nets(config: TrainConfig, strategy: tf.distribute.Strategy, count: int) -> list[Learner]:
    """N1 and N2; the same net twice if `count` is 1."""
    nets = [make_net(config, strategy) for _ in range(count)]
    return [nets[0], nets[-1]]


def make_net(config: TrainConfig, strategy: tf.distribute.Strategy) -> Learner:
    """Builds an untrained net on the devices of the run."""
    return Learner(
        strategy,
        config.model,
        config.augment,
        config.loss,
        config.optimizer,
        seed=config.run.seed,
        mixed_precision=config.device.mixed_precision,
        jit_compile=config.device.jit_compile,
    )


def make_devices(config: TrainConfig) -> tf.distribute.Strategy:
    """The devices of a run.

    Each device needs at least two whole clusters if it searches its own triplets.

    Raises:
      UserError: a batch cannot be split among the devices, or --jit_compile is given for several.
    """
    share_operations(config.device.threads_per_operation)
    if config.loss.triplet_scope == "global":
        strategy = make_strategy(config.batch.size, "global_batch")
    else:
        strategy = make_strategy(config.batch.clusters_per_batch, "clusters_per_batch", least=2)
    if config.device.jit_compile and strategy.num_replicas_in_sync > 1:
        raise UserError("--jit_compile supports a single device; remove it")
    return strategy


def _load_iaes(nets: list[Learner], folder: str, workdir: Workdir) -> None:
    """Loads the IAEs of other runs into both nets: one folder, or one for each net."""
    for net, source in zip(nets, itertools.cycle(folder.split(","))):
        load_net(net.model, Workdir(source).iae)
    save_net(nets[0].model, workdir.iae)
