"""The evaluations of --probe_every_rounds, and their baselines."""

from __future__ import annotations

import numpy as np

from mgta_tf.evaluation import online
from mgta_tf.runtime import files
from mgta_tf.training import guidance
from mgta_tf.training.guidance import Turn
from mgta_tf.training.learner import Learner
from mgta_tf.training.session import Session


def of_turn(session: Session, turn: Turn) -> dict[str, float]:
    """`probe_map`, `probe_top1` and `probe_knn` of the net that has just trained, if it is due."""
    if session.store.labels is None:
        return {}
    if not guidance.is_probed(turn, session.config.run.probe_every_rounds):
        return {}
    session.progress.begin("probe", "evaluating on labelled images")
    return _evaluate(session, session.nets[turn.net], session.store.labels)


def write_baselines(session: Session) -> None:
    """Evaluates the baselines `untrained` and `chance` of a new run, and writes them to a file."""
    labels, position = session.store.labels, session.position
    begun = position.history or position.turn or position.step
    if labels is None or begun or not session.config.run.probe_every_rounds:
        return
    session.progress.say("evaluating the untrained net on labelled images")
    found = {
        "untrained": _evaluate(session, session.nets[0], labels),
        "chance": online.chance(labels[online.choose(labels, online.IMAGES)]),
    }
    files.write_json(session.workdir.baselines, found)


def _evaluate(session: Session, net: Learner, labels: np.ndarray) -> dict[str, float]:
    images = online.choose(labels, online.IMAGES)
    encoded = net.encode(session.feed, images, online.ENDPOINT)
    return online.evaluate(np.concatenate(list(encoded)), labels[images])
