"""Text for the terminal: the description and the result of a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.training import guidance
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.guidance import ALL, STAGES, Turn
from mgta_tf.training.losses import LossConfig, looks_collapsed, looks_stuck, margin_of


def title(turn: Turn, config: TrainConfig, images: int, clusters: int | None) -> str:
    """Describes a turn: 'stage 2 of 3, round 1 of 4: net 2 learns from net 1's 300 clusters (TMP)'.

    The abbreviations are the paper's, of its processes. images: number of images of the turn.
    clusters: their number, if known in advance.
    """
    turns = list(guidance.turns(config.guidance))
    net = f"net {turn.net + 1}" if guidance.count_nets(config.guidance) == 2 else "the net"
    where = f"stage {STAGES[turn.stage]} of 3" if len({one.stage for one in turns}) > 1 else ""
    if turn.stage == "mutual":
        where += f"{', ' if where else ''}round {turn.round} of {config.guidance.rounds}"
    count = "clusters" if clusters is None else f"{clusters:,} clusters"
    if turn.process == "GLP":
        does = f"groups {images:,} images into {count} (GLP)"
    elif turn.stage == "iae":
        does = f"learns to reconstruct {images:,} images (IAE)"
    elif config.guidance.labels != "clusters":
        views = config.batch.views_per_image
        does = f"learns to match {views} views of each of {images:,} images"
        if not guidance.is_of_views(turn, config.guidance):
            does += f", in batches from {config.batch.clusters_per_batch} of its {count} (TMP)"
    else:
        mutual = config.guidance.guidance == "mutual"
        whose = f"net {2 - turn.net}'s" if mutual else "its own"
        of = " of all images" if turn.half is ALL else ""
        does = f"learns from {whose} {count}{of} (TMP)"
    return f"{where + ': ' if where else ''}{net} {does}"


def clusters_of(turn: Turn, config: ClusterConfig, history: Sequence[dict[str, Any]]) -> int | None:
    """The number of clusters that a turn makes or learns from, if known in advance."""
    if turn.process == "GLP":
        fixed = isinstance(config.num_clusters, int) and config.clusterer != "hdbscan"
        return int(config.num_clusters) if fixed else None
    labelled = (row for row in reversed(history) if row["process"] == "GLP")
    return next((row["num_clusters"] for row in labelled if row["half"] == turn.half), None)


def loss(point: dict[str, float], lambda1: float, reconstruction_weight: float) -> str:
    """L_all of eq. 8 with its parts: 'loss 5.9 = reconstruction 3.9 + 100 × triplet 0.02'.

    point: metrics by name. lambda1: λ₁; 0 in stage 1, which has only the reconstruction loss.
    """
    weights = {"reconstruction": reconstruction_weight if lambda1 else 1.0, "triplet": lambda1}
    parts = [
        f"{'' if weight == 1 else f'{weight:g} × '}{name} {point[f'{name}_loss']:.3g}"
        for name, weight in weights.items()
        if weight and f"{name}_loss" in point
    ]
    return f"loss {point['loss']:.4g} = {' + '.join(parts)}"


def result(row: dict[str, Any]) -> str:
    """The result in a row of the history, as one line."""
    if row["process"] == "GLP":
        truth = "" if row["nmi_truth"] is None else f", NMI with the classes {row['nmi_truth']:.3f}"
        if row.get("nmi_chance") is not None:
            truth += f" (by chance {row['nmi_chance']:.3f})"
        empty = row["empty_clusters"]
        seeded = f", {empty} empty ones re-seeded" if empty else ""
        return (
            f"{row['num_clusters']} clusters of {row['smallest']} to {row['largest']} images"
            f"{seeded}{truth}"
        )
    probe = f", 20-NN accuracy {row['probe_knn']:.1f} %" if "probe_knn" in row else ""
    return f"{losses(row['first'], row)}{probe}"


def baselines(untrained: dict[str, Any], chance: dict[str, float]) -> str:
    """What the results of turns are to be compared with, as one line; '' if nothing is known."""
    parts = []
    if "probe_knn" in untrained:
        by_chance = f" (by chance {chance['probe_knn']:.1f} %)"
        parts.append(f"20-NN accuracy {untrained['probe_knn']:.1f} %{by_chance}")
    if untrained.get("nmi_truth") is not None:
        parts.append(f"NMI of its clusters with the classes {untrained['nmi_truth']:.3f}")
    return f"untrained net: {', '.join(parts)}" if parts else ""


def losses(*points: dict[str, float]) -> str:
    """The losses of the points: 'reconstruction 12 → 3.4, triplet 0.3 → 0.12'.

    A triplet loss of 0 throughout is not mentioned: stage 1 has no triplets.
    """
    return ", ".join(
        f"{name} " + " → ".join(f"{point[key]:.4g}" for point in points)
        for name, key in (("reconstruction", "reconstruction_loss"), ("triplet", "triplet_loss"))
        if key in points[0] and any(point[key] for point in points)
    )


def trouble(point: dict[str, float], config: LossConfig, late: bool = True) -> str:
    """What is wrong where the triplet loss is at its margin, and what to do; '' if it is not.

    point: metrics of `losses.total_loss`, averaged over some steps. late: whether the turn has had
    time to learn; before that only a collapse is wrong.
    """
    if looks_collapsed(point, config):
        return (
            "the embedding has collapsed: the triplet loss is stuck at its margin "
            f"({margin_of(config):.2g}), and the mean distance of two images is "
            f"{point['pair_distance']:.2g}. Start again with a lower --learning_rate or λ₁ "
            "(--lambda_start, --lambda_end)"
        )
    if late and looks_stuck(point, config):
        return (
            f"the triplet loss has stayed at its margin ({margin_of(config):.2g}) or above: the "
            f"positive is {point['hardest_positive']:.2g} away, the negative "
            f"{point['hardest_negative']:.2g}. If many images look alike, remove copies of the "
            "same scene, or use all negatives (--triplet_negative=soft --soft_margin); else train "
            "longer, or lower --learning_rate"
        )
    return ""
