"""A run that is open: it starts or resumes, it is saved, it ends."""

from __future__ import annotations

import dataclasses
import itertools
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
from mgta_tf.runtime.progress import Part, Progress, duration
from mgta_tf.runtime.strategy import make_strategy, resolve_precision
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.training import guidance, needs, preflight, summary
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.guidance import Turn
from mgta_tf.training.learner import Learner
from mgta_tf.training.timeline import Timeline


@dataclasses.dataclass
class Session:
    """Everything that a turn works with, as the run's newest checkpoint has it.

    nets: N1 and N2, a list of two; one and the same net twice where no net labels another.
    labels: the pseudo labels in use, int32 [n], by half (0, 1, or ALL).
    history: a row for every turn that is done; `summary.json` is made of them.
    position: the newest checkpoint; of a new run, its start.
    first_turn: the number of the first turn since the command was started.
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

    @classmethod
    def open(cls, config: TrainConfig, workdir: Workdir, store: ImageStore) -> Session:
        """Builds the nets and goes to where the run stands: its checkpoint, or the beginning.

        In this order: 1. what the flags ask of the images; 2. devices and nets; 3. weights,
        optimisers, labels and history from the newest whole checkpoint; 4. in a new run, the
        weights of `--iae_checkpoint`.

        Raises:
          UserError: flags and images do not fit; no checkpoint is whole; or the images are not
            those that the run began with.
        """
        timeline = Timeline.of(config, len(store))
        preflight.check(config, len(store), store.labels)
        if config.run.deterministic:
            tf.config.experimental.enable_op_determinism()
        strategy = _strategy(config)
        precision = resolve_precision(config.device.mixed_precision)
        distinct = [
            _net(config, strategy, precision) for _ in range(guidance.nets_of(timeline.turns))
        ]
        nets = [distinct[0], distinct[-1]]
        checkpoints = Checkpoints(
            workdir.checkpoints, nets, config.run.keep, workdir.own_checkpoints
        )
        position = checkpoints.restore(store.fingerprint(), store.fingerprint_of_names())
        if not position.history and config.run.iae_checkpoint:
            _load_iaes(nets, config.run.iae_checkpoint, workdir)
            position.turn = sum(turn.stage == "iae" for turn in timeline.turns)
        parts = [
            Part(turn.stage, steps, 0 if steps else images)
            for turn, steps, images in zip(timeline.turns, timeline.steps, timeline.images)
        ]
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
            Progress(parts, position.turn, position.step, config.batch.size),
            Journal(workdir.kmeans, config.run.checkpoint_every_secs),
            position.turn,
        )
        _announce(session)
        return session

    @property
    def labels(self) -> dict[int | None, np.ndarray]:
        return self.position.labels

    @property
    def history(self) -> list[dict[str, Any]]:
        return self.position.history

    def turns_left(self) -> Iterator[tuple[int, Turn]]:
        """Every turn that was not done when the command was started, with its number."""
        yield from enumerate(self.timeline.turns[self.first_turn :], self.first_turn)

    def resume_point(self, number: int) -> tuple[int, dict[str, Any] | None]:
        """The step at which turn `number` starts, and the log of its steps before, if any."""
        if number == self.position.turn and self.position.step:
            return self.position.step, self.position.log
        return 0, None

    def seed_of(self, turn: Turn) -> list[int]:
        """The seed of a turn's batches and augmentation."""
        return [self.config.run.seed, turn.round, turn.net]

    def steps_to_trace(self, number: int) -> int:
        """--profile_steps in the first TMP since this start of the run, 0 in the others."""
        trained = any(self.timeline.steps[self.first_turn : number])
        return 0 if trained else self.config.device.profile_steps

    # ------------------------------------------------------------------------------- Save and end

    def keep_labels(
        self, turn: Turn, images: np.ndarray, labels: np.ndarray, clusters: Clusters | None
    ) -> None:
        """Puts the labels of a GLP to use, int32 [n], and into files where they were found."""
        self.labels[turn.half] = labels
        if clusters is not None:
            workdir, distances = self.workdir, clusters.distances
            workdir.save_labels(turn.round, turn.net, images, labels, distances)
            clusters_table(workdir.clusters, self.store.names, images, labels, distances)

    def save_step(self, number: int, step: int, log: dict[str, Any]) -> None:
        """Saves the run within a turn, `step` steps of it being done."""
        self._save(dataclasses.replace(self.position, turn=number, step=step, log=log))

    def finish(self, number: int, row: dict[str, Any]) -> None:
        """Keeps what a turn has changed, then leaves if a signal has come meanwhile."""
        turn = self.timeline.turns[number]
        if turn.stage == "iae":
            save_net(self.nets[0].model, self.workdir.iae)
        self.history.append({**row, "peak_memory_mb": needs.peak_memory_mb()})
        self._save(dataclasses.replace(self.position, turn=number + 1, step=0, log={}))
        self.write_summary()
        self.progress.end_part()
        self.progress.note(f"{turn} · {summary.in_words(row)} · {duration(row['seconds'])}")
        hosts.leave(self.strategy)
        preemption.release()  # what the labeller and the trainer have deferred

    def close(self) -> None:
        """The last lines on the terminal: what came out, and where it lies."""
        self.write_summary()
        if hosts.is_chief():
            print(summary.closing_lines(self.history, self.workdir), flush=True)
        else:
            print(f"done: {len(self.history)} turns; the chief has written {self.workdir.path}")

    def write_summary(self) -> None:
        turns, model = len(self.timeline.turns), self.nets[0].model
        said = summary.of_run(self.history, turns, self.store, model)
        files.write_json(self.workdir.summary, said)

    def _save(self, position: Position) -> None:
        self.checkpoints.save(position)
        self.position = position


def _announce(session: Session) -> None:
    """Prints where a resumed run stands, and what the run needs."""
    number, step = session.position.turn, session.position.step
    if session.history or step:
        turns = session.timeline.turns
        where = turns[number] if number < len(turns) else "its end"
        print(f"resuming in {session.workdir.path} at {where}, step {step}")
    print(needs.estimate_line(_needs(session), session.workdir.path), flush=True)


def _needs(session: Session) -> needs.Needs:
    config, images = session.config, len(session.store)
    outputs = session.nets[0].model.encoder.output
    dimensions = outputs[config.cluster.cluster_features].shape[-1]
    return needs.of_run(
        list(dict.fromkeys(session.nets)),
        config.model,
        config.batch.size,
        config.augment.image_size,
        config.run.keep,
        images=0 if session.store.pixels is None else session.store.pixels.nbytes,
        features=min(images * dimensions * 4, config.cluster.feature_budget_mb * 2**20),
        labels=12 * images * sum(turn.process == "GLP" for turn in session.timeline.turns),
    )


def _net(config: TrainConfig, strategy: tf.distribute.Strategy, precision: str) -> Learner:
    return Learner(
        strategy,
        config.model,
        config.augment,
        config.loss,
        config.optimizer,
        seed=config.run.seed,
        mixed_precision=precision,
        jit_compile=config.device.jit_compile,
    )


def _strategy(config: TrainConfig) -> tf.distribute.Strategy:
    """The devices. One that mines by itself needs whole clusters, two of them at least."""
    if config.loss.triplet_scope == "global":
        strategy = make_strategy(config.batch.size, "global_batch")
    else:
        strategy = make_strategy(config.batch.clusters_per_batch, "clusters_per_batch", least=2)
    if config.device.jit_compile and strategy.num_replicas_in_sync > 1:
        raise UserError("--jit_compile supports a single device; remove it")
    return strategy


def _load_iaes(nets: list[Learner], folder: str, workdir: Workdir) -> None:
    """Gives both nets the IAEs of other runs, one folder or one for each net."""
    folders = folder.split(",")
    if len(folders) > len(set(nets)):
        raise UserError(
            f"--iae_checkpoint={folder}: {len(folders)} folders, but {len(set(nets))} net(s); name "
            "one folder, or one for each net"
        )
    for net, source in zip(nets, itertools.cycle(folders)):
        load_net(net.model, Workdir(source).iae)
    save_net(nets[0].model, workdir.iae)
