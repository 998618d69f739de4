"""Generating labels (GLP, §3.2): one net encodes images, k-means turns features into labels."""

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
from mgta_tf.training.session import Session

SAMPLE = 1000  # images on which the labels of the two nets are compared


@dataclasses.dataclass(frozen=True)
class Labelling:
    """The result of a GLP.

    labels: int32 [n], the pseudo labels of the turn's images; -1 is none.
    row: what the history keeps of it.
    features: float32 [n, D]; clusters: what was found in them; choice: how K was chosen, where it
    was. They are for files and pictures, and None on hosts that did not cluster.
    """

    labels: np.ndarray
    row: dict[str, Any]
    features: np.ndarray | None = None
    clusters: Clusters | None = None
    choice: Choice | None = None


def label(session: Session, turn: Turn, images: np.ndarray) -> Labelling:
    """The turn's net labels the images, int32 [n] indices.

    Of several hosts the chief clusters, and all take its labels.

    Raises:
      UserError: the features cannot be clustered: the net has collapsed or diverged, or K is above
        the number of distinct points.
    """
    began = time.monotonic()
    net, other = session.nets[turn.net], session.nets[1 - turn.net]
    config = session.config.cluster
    features = collect(
        net.encode(session.feed, images, config.cluster_features),
        len(images),
        config.feature_budget_mb,
        session.workdir.features,
    )
    rows = np.linspace(0, len(images) - 1, min(SAMPLE, len(images)), dtype=int)
    encoded = other.encode(session.feed, images[rows], config.cluster_features)
    of_other = np.concatenate(list(encoded))  # in memory: `features` may lie in a file
    found: Labelling | None = None

    def on_chief():
        nonlocal found
        found = _cluster(session, turn, images, features, rows, of_other)
        found.row["seconds"] = time.monotonic() - began
        return found.labels, found.row

    labels, row = hosts.from_chief(session.strategy, on_chief)
    return found or Labelling(np.asarray(labels, np.int32), row)


def _cluster(session: Session, turn: Turn, images, features, rows, of_other) -> Labelling:
    """k-means on the features, with what can be said of its result."""
    config, seed = session.config.cluster, _seed(session, turn)
    try:
        found, choice = cluster(features, config, seed, _first_k(session), session.journal)
    except UserError as error:
        raise UserError(f"{turn}: {error}") from None
    preemption.defer()  # until `Session.finish` has saved the labels
    truth = session.store.labels
    row = {
        **turn.about(),
        "images": len(images),
        "seconds": 0.0,
        **diagnostics.of_clusters(
            found,
            None if truth is None else truth[images],
            _labels_of_last_round(session, turn, images),
        ),
        **_agreement_of_nets(found.labels[rows], of_other, config, seed),
    }
    if choice:
        row.update(k_table=choice.table, k_criterion=choice.criterion, k_on_edge=choice.on_edge)
    labels = core(found.labels, found.distances, config.core_fraction)
    return Labelling(labels, row, features, found, choice)


def _seed(session: Session, turn: Turn) -> int:
    return (session.config.run.seed * 1000 + turn.round) * 2 + turn.net


def _first_k(session: Session) -> int | None:
    """The K of the run's first labels, which `--num_clusters=auto` keeps."""
    glps = (row for row in session.history if row["process"] == "GLP")
    return next((row["num_clusters"] for row in glps), None)


def _agreement_of_nets(
    labels: np.ndarray, of_other: np.ndarray, config: ClusterConfig, seed: int
) -> dict[str, float | None]:
    """How far the other net, clustered by itself, would give a sample the same labels.

    labels: [n], of the sample. of_other: [n, D], the other net's features.
    """
    k = min(len(np.unique(labels)), len(labels) - 1)
    config = dataclasses.replace(config, num_clusters=k, clusterer="kmeans", kmeans_impl="tf")
    try:
        other, _ = cluster(of_other, config, seed)
    except UserError:  # the other net has collapsed, which its own turn will say
        return {"nmi_nets": None, "ari_nets": None}
    nmi, ari = diagnostics.agreement(other.labels, labels)
    return {"nmi_nets": nmi, "ari_nets": ari}


def _labels_of_last_round(session: Session, turn: Turn, images: np.ndarray) -> np.ndarray | None:
    """The labels that the net gave the same images a round ago, -1 where none: int32 [n]."""
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
