"""Statistics of a clustering: sizes, and agreement with other labels."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from mgta_tf.clustering.clusters import NOISE, Clusters


def describe_clusters(
    found: Clusters, truth: np.ndarray | None = None, previous: np.ndarray | None = None
) -> dict[str, float | int | None]:
    """Statistics of a clustering: sizes, and agreement with other labels of the images.

    truth, previous: int [n], NOISE for none; or None. NMI, ARI and purity are at most 1, over the
    images that have a label in both. `nmi_chance` is the NMI with the shuffled truth: many small
    clusters agree with any labels.
    """
    labels = found.labels
    sizes = np.bincount(labels[labels != NOISE])
    report: dict[str, float | int | None] = {
        "num_clusters": len(sizes),
        "empty_clusters": found.reseeded,
        "noise": int((labels == NOISE).sum()),
        "inertia": found.inertia,
        "largest": int(sizes.max()),
        "median": float(np.median(sizes)),
        "smallest": int(sizes.min()),
        "largest_fraction": float(sizes.max() / len(labels)),
    }
    for name, other in (("previous", previous), ("truth", truth)):
        report[f"nmi_{name}"], report[f"ari_{name}"] = agreement(other, labels)
    shuffled = None if truth is None else np.random.default_rng(0).permutation(truth)
    report["nmi_chance"], _ = agreement(shuffled, labels)
    report["purity"] = None
    if truth is not None and (known := (truth != NOISE) & (labels != NOISE)).any():
        report["purity"] = purity(truth[known], labels[known])
    return report


def agreement(one: np.ndarray | None, other: np.ndarray) -> tuple[float | None, float | None]:
    """NMI and ARI of two labellings [n] of the same images, over the images with both labels."""
    if one is None:
        return None, None
    known = (one != NOISE) & (other != NOISE)
    if not known.any():
        return None, None
    nmi = normalized_mutual_info_score(one[known], other[known])
    return float(nmi), float(adjusted_rand_score(one[known], other[known]))


def purity(truth: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of images whose class is the most frequent one of their cluster."""
    table = contingency_matrix(truth, labels)
    return float(table.max(0).sum() / len(labels))
