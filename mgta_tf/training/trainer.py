"""Training models (TMP, §3.3): one net trains on the images of a turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from mgta_tf.data import sampler
from mgta_tf.runtime import hosts, preemption
from mgta_tf.runtime.checkpoints import Cadence
from mgta_tf.runtime.step_log import StepLog, steps_between_points
from mgta_tf.runtime.tensorboard import profiled
from mgta_tf.training import guidance
from mgta_tf.training.session import Session, title

# Called with a turn's number, its steps so far, and the mean metrics of the newest window.
ShowPoint = Callable[[int, int, dict[str, float]], None]


@dataclasses.dataclass(frozen=True)
class Training:
    """The result of a TMP.

    row: the turn's row of the history.
    plan: int32 [steps, P*K], the image indices of every batch.
    label_of: int32 [N], the label of every image of the run; -1 is no label.
    """

    row: dict[str, Any]
    plan: np.ndarray
    label_of: np.ndarray


def train(
    session: Session,
    number: int,
    images: np.ndarray,
    labels: np.ndarray | None,
    show: ShowPoint,
) -> Training:
    """Trains the net of turn `number`, from step 0 or from the step at which it was interrupted.

    Args:
      session: The run.
      number: Number of the turn.
      images: int32 [n] indices.
      labels: int32 [n], by which batches are drawn, or None in stage 1, which uses no labels.
      show: Called with every point of the curves.

    Raises:
      UserError: too many consecutive steps had a loss or gradient that is not finite, or there are
        too few clusters for a P×K batch.
    """
    config, turn = session.config, session.timeline.turns[number]
    plan, label_of = _plan(session, number, images, labels)
    start, log_state = session.resume_point(number)
    log = StepLog(
        title(session, turn),
        len(plan),
        turn.epochs,
        config.run.log_every_steps or steps_between_points(len(plan)),
        config.robustness.max_skipped_steps,
        log_state,
    )
    cadence = Cadence(
        config.robustness.checkpoint_every_steps, config.robustness.checkpoint_every_secs
    )
    batches = session.feed.batches(plan, label_of, session.seed_of(turn), start)
    rate = session.timeline.learning_rate(number)
    steps = session.nets[turn.net].fit(batches, turn.lambda1, rate, start)
    traced = session.steps_to_trace(number)
    session.progress.begin("train", "building the graph of a training step")
    preemption.defer()  # from here a signal is recorded; the run stops after its next checkpoint
    for step, metrics in profiled(steps, traced, session.workdir.tensorboard):
        log.add(metrics)
        session.progress.advance_to(step + 1)
        if log.window_is_full() or step + 1 == len(plan):
            show(number, step + 1, log.point(step + 1))
        if hosts.any_of(session.strategy, cadence.due(step + 1)):
            session.save_step(number, step + 1, log.state(step + 1))
            cadence.saved()
            hosts.stop_if_signalled(session.strategy)
    row = {
        **turn.about(),
        "images": len(images),
        "steps": len(plan),
        "lambda": turn.lambda1,
        **log.summary(),
    }
    return Training(row, plan, label_of)


def _plan(session: Session, number: int, images: np.ndarray, labels: np.ndarray | None):
    """The turn's batches, image indices [steps, P*K], and every image's label for triplets, [N]."""
    turn, batch = session.timeline.turns[number], session.config.batch
    stages = session.config.guidance
    label_of = np.full(len(session.store), sampler.NO_CLUSTER, np.int32)
    seed = session.seed_of(turn)
    if labels is None:
        return sampler.shuffled_plan(images, batch.size, turn.epochs, seed), label_of
    if stages.labels == "clusters":
        label_of[images] = sampler.labels_for_triplets(labels, batch.smallest_cluster)
        return sampler.pk_plan(images, labels, batch, turn.epochs, seed), label_of
    label_of[images] = images  # the positives of an image are its other views
    if guidance.is_of_views(turn, stages):
        return sampler.views_plan(images, batch.of_views, turn.epochs, seed), label_of
    return sampler.pk_plan(images, labels, batch, turn.epochs, seed, by_size=True), label_of
