"""A quick evaluation during training, on the labelled images of the run."""

from __future__ import annotations

import numpy as np

from mgta_tf.evaluation import features, svm
from mgta_tf.evaluation.knn import knn_accuracy

ENDPOINT = "res4"  # averaged over pixels; for comparing rounds, not Table 2's protocol
COSTS = (0.01, 0.1, 1.0)
IMAGES = 2000  # maximum number of images


def choose(labels: np.ndarray, limit: int) -> np.ndarray:
    """Indices of up to `limit` images, equally many of each class: int32, sorted."""
    order = np.argsort(labels, kind="stable")[np.count_nonzero(labels < 0) :]  # -1 is no class
    sizes = np.bincount(labels[order])
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = order[np.argsort(rank, kind="stable")][:limit]
    return np.sort(first).astype(np.int32)


def chance(labels: np.ndarray) -> dict[str, float]:
    """The expected result of `evaluate` for random features, int [n] labels: the share of the most
    frequent class, and for the mean average precision that of all classes, in percent.
    """
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    most, mean = 100 * float(shares.max()), 100 * float(shares.mean())
    return {"probe_map": mean, "probe_top1": most, "probe_knn": most}


def evaluate(values: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Trains on every other image of each class, and tests on the others.

    Args:
      values: float32 [n, D], features.
      labels: int [n].

    Returns:
      `probe_map` and `probe_top1` of linear SVMs, `probe_knn` of 20 neighbors; in percent.
    """
    values = features.normalize(values)
    order = np.argsort(labels, kind="stable")
    train, test = np.sort(order[::2]), np.sort(order[1::2])
    targets = np.where(labels[:, None] == np.unique(labels), 1, -1).astype(np.int8)
    found = svm.linear_svm(values[train], targets[train], values[test], targets[test], costs=COSTS)
    right = found.scores.argmax(1) == targets[test].argmax(1)
    k = min(20, len(train))
    knn = knn_accuracy(values[train], labels[train], values[test], labels[test], ks=(k,))
    return {"probe_map": found.map, "probe_top1": 100 * float(right.mean()), "probe_knn": knn[k]}
