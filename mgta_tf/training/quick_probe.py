"""The evaluations of --probe_every_rounds, and their baselines."""

from __future__ import annotations

import contextlib

import numpy as np

from mgta_tf.clustering import diagnostics, members
from mgta_tf.clustering.clusterers import cluster
from mgta_tf.clustering.clusters import NOISE
from mgta_tf.data import sampler
from mgta_tf.errors import UserError
from mgta_tf.evaluation import online
from mgta_tf.evaluation.knn import precision
from mgta_tf.runtime import files
from mgta_tf.training import galleries, guidance, wording
from mgta_tf.training.guidance import Turn
from mgta_tf.training.learner import Learner
from mgta_tf.training.session import Session

CLUSTERED = 10_000  # maximum number of images that are clustered with the untrained net


def of_turn(session: Session, turn: Turn) -> dict[str, float]:
    """`probe_map`, `probe_top1` and `probe_knn` of the net that has just trained, if it is due."""
    if session.store.labels is None:
        return {}
    if not guidance.is_probed(turn, session.config.run.probe_every_rounds):
        return {}
    session.progress.begin("probe", "evaluating on labelled images")
    return _evaluate(session, session.nets[turn.net], session.store.labels)


def write_baselines(session: Session) -> None:
    """Evaluates the baselines `untrained` and `chance` of a new run, and writes them to a file.

    `untrained` also has the agreement with the classes that the report compares: of nearest
    neighbors and, in a run with clusters, of clusters.
    """
    labels, position = session.store.labels, session.position
    if labels is None or position.history or position.turn or position.step:
        return
    session.progress.say("evaluating the untrained net on labelled images")
    untrained, chance = _agreement_of_untrained(session, labels), {}
    if session.config.run.probe_every_rounds:
        untrained.update(_evaluate(session, session.nets[0], labels))
        chance = online.chance(labels[online.choose(labels, online.IMAGES)])
    files.write_json(session.workdir.baselines, {"untrained": untrained, "chance": chance})
    if line := wording.baselines(untrained, chance):
        session.progress.note(line)


def _evaluate(session: Session, net: Learner, labels: np.ndarray) -> dict[str, float]:
    images = online.choose(labels, online.IMAGES)
    encoded = net.encode(session.feed, images, online.ENDPOINT)
    return online.evaluate(np.concatenate(list(encoded)), labels[images])


def _agreement_of_untrained(session: Session, labels: np.ndarray) -> dict[str, float | None]:
    """How far the untrained net's neighbors and clusters agree with the classes.

    Returns:
      `neighbors` as in the report, in percent. In a run with clusters also `nmi_truth` and
      `ari_truth` of `clustered` images. NMI grows as their number falls; ARI does not.
    """
    config, clusters = session.config, session.config.guidance.labels != "none"
    images = sampler.evenly(len(labels), CLUSTERED if clusters else members.KEPT).astype(np.int32)
    endpoint = config.cluster.cluster_features if clusters else "embedding"
    features = np.concatenate(list(session.nets[0].encode(session.feed, images, endpoint)))
    rows = sampler.evenly(len(images), members.KEPT)
    rows = rows[labels[images[rows]] != NOISE]
    found: dict[str, float | None] = {}
    if len(rows) > 1:
        shown = features[rows] if clusters else galleries.as_compared(features[rows], config.loss)
        found["neighbors"] = precision(
            galleries.principal_coordinates(shown, galleries.COORDINATES), labels[images[rows]]
        )
    fixed = isinstance(config.cluster.num_clusters, int) and config.cluster.clusterer != "hdbscan"
    if clusters and fixed:
        with contextlib.suppress(UserError):  # fewer distinct features than clusters
            by_k_means, _ = cluster(features, config.cluster, config.run.seed)
            nmi, ari = diagnostics.agreement(labels[images], by_k_means.labels)
            found.update(nmi_truth=nmi, ari_truth=ari, clustered=len(images))
    return found
