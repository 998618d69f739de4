"""Generating labels (GLP, §3.2): a net encodes images, and k-means on its features labels them."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from mgta_tf.clustering import diagnostics
from mgta_tf.clustering.choose import Choice
from mgta_tf.clustering.clusterers import cluster, core
from mgta_tf.clustering.clusters import Clusters
from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.clustering.features import collect
from mgta_tf.data import sampler
from mgta_tf.errors import UserError
from mgta_tf.runtime import hosts, preemption
from mgta_tf.training import guidance
from mgta_tf.training.guidance import Turn
from mgta_tf.training.session import Session, title
from mgta_tf.training.timeline import SAMPLE


@dataclasses.dataclass(frozen=True)
class Labelling:
    """The result of a GLP.

    labels: int32 [n], the pseudo labels of the turn's images; -1 is no label.
    row: the turn's row of the history.
    features, clusters, choice: float32 [n, D], their clustering, and how K was chosen (None where
    K is given). They are used for files and pictures only, and are None on hosts other than the
    chief.
    """

    labels: np.ndarray
    row: dict[str, Any]
    features: np.ndarray | None = None
    clusters: Clusters | None = None
    choice: Choice | None = None


def label(session: Session, turn: Turn, images: np.ndarray) -> Labelling:
    """Labels images with the clusters of the features that the turn's net gives them.

    With several hosts, the chief clusters and the others receive its labels.

    Args:
      session: The run.
      turn: The GLP.
      images: int32 [n] indices.

    Raises:
      UserError: the features cannot be clustered: the net has collapsed or diverged, or there are
        fewer than K distinct features.
    """
    began, progress = time.monotonic(), session.progress
    net, other = session.nets[turn.net], session.nets[1 - turn.net]
    config = session.config.cluster
    progress.begin("encode", "encoding")
    features = collect(
        progress.over(net.encode(session.feed, images, config.cluster_features)),
        len(images),
        config.feature_budget_mb,
        session.workdir.features,
    )
    sample, features_of_other = sampler.evenly(len(images), SAMPLE), None
    if other is not net:
        progress.begin("compare", "encoding a sample with the other net")
        encoded = other.encode(session.feed, images[sample], config.cluster_features)
        features_of_other = np.concatenate(list(encoded))
    progress.begin("cluster", f"clustering {len(images):,} features of {features.shape[1]} numbers")
    found: Labelling | None = None

    def on_chief():
        nonlocal found
        found = _cluster(session, turn, images, features, sample, features_of_other)
        found.row["seconds"] = time.monotonic() - began
        return found.labels, found.row

    labels, row = hosts.from_chief(session.strategy, on_chief)
    return found or Labelling(np.asarray(labels, np.int32), row)


def _cluster(
    session: Session, turn: Turn, images, features, sample, features_of_other
) -> Labelling:
    """Clusters the features [n, D] and describes the result.

    sample: the images, [m] of n, on which the labels of the two nets are compared.
    features_of_other: [m, D], or None where there is one net.
    """
    config, seed = session.config.cluster, _seed(session, turn)
    try:
        found, choice = cluster(features, config, seed, _first_k(session), session.journal)
    except UserError as error:
        raise UserError(f"{title(session, turn)}: {error}") from None
    preemption.defer()  # until `Session.finish` has saved the labels
    truth = session.store.labels
    row = {
        **turn.about(),
        "images": len(images),
        "seconds": 0.0,
        **diagnostics.describe_clusters(
            found,
            None if truth is None else truth[images],
            _labels_of_last_round(session, turn, images),
        ),
        **_agreement_of_nets(found.labels[sample], features_of_other, config, seed),
    }
    if choice:
        row.update(k_table=choice.table, k_criterion=choice.criterion, k_on_edge=choice.on_edge)
    # With --core_fraction, images far from their centroid have no label.
    labels = core(found.labels, found.distances, config.core_fraction)
    return Labelling(labels, row, features, found, choice)


def _seed(session: Session, turn: Turn) -> int:
    """The seed of k-means, another one for every GLP of the run."""
    return (session.config.run.seed * 1000 + turn.round) * 2 + turn.net


def _first_k(session: Session) -> int | None:
    """K of the run's first GLP, which `--num_clusters=auto` keeps; None before it."""
    glps = (row for row in session.history if row["process"] == "GLP")
    return next((row["num_clusters"] for row in glps), None)


def _agreement_of_nets(
    labels: np.ndarray, features_of_other: np.ndarray | None, config: ClusterConfig, seed: int
) -> dict[str, float | None]:
    """NMI and ARI of a sample's labels with the clusters of the other net's features.

    labels: [m], of the sample. features_of_other: [m, D], of the same images; None without one.
    """
    if features_of_other is None:
        return {"nmi_nets": None, "ari_nets": None}
    k = min(len(np.unique(labels)), len(labels) - 1)
    config = dataclasses.replace(config, num_clusters=k, clusterer="kmeans", kmeans_impl="tf")
    try:
        other, _ = cluster(features_of_other, config, seed)
    except UserError:  # the other net has collapsed, which its own turn will report
        return {"nmi_nets": None, "ari_nets": None}
    nmi, ari = diagnostics.agreement(other.labels, labels)
    return {"nmi_nets": nmi, "ari_nets": ari}


def _labels_of_last_round(session: Session, turn: Turn, images: np.ndarray) -> np.ndarray | None:
    """The labels that the same net gave the images in the round before: int32 [n], -1 is none."""
    same = ("GLP", turn.round - 1, turn.net)
    turns = session.timeline.turns
    before = next((t for t in turns if (t.process, t.round, t.net) == same), None)
    if before is None:
        return None
    config, count = session.config, len(session.store)
    label_of = np.full(count, sampler.NO_CLUSTER, np.int32)
    last = guidance.images_of(before, count, config.guidance, config.run.seed)
    label_of[last] = session.labels[before.half]
    return label_of[images]
