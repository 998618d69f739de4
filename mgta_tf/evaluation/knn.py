"""Nearest neighbors and their classes: evaluations without training."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from sklearn.neighbors import NearestNeighbors

KS = (1, 5, 20, 200)
CHUNK = 1024  # test images per block of similarities
SHOWN = 12  # neighbors of a photograph, as a report or a search shows them


def knn_accuracy(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    ks: tuple[int, ...] = KS,
) -> dict[int, float]:
    """Top-1 accuracy in percent by majority vote of the k nearest by cosine, for every k.

    Ties are won by the class of the nearest neighbor among the tied classes.

    Args:
      train_features: float32 [N, D]. train_labels: int [N].
      test_features: float32 [M, D]. test_labels: int [M].
      ks: Those above N are skipped.
    """
    ks = tuple(k for k in ks if k <= len(train_features))
    train = tf.math.l2_normalize(train_features, axis=1)
    classes = int(max(train_labels.max(), test_labels.max())) + 1
    right = dict.fromkeys(ks, 0)
    for start in range(0, len(test_features), CHUNK):
        test = tf.math.l2_normalize(test_features[start : start + CHUNK], axis=1)
        similarity = tf.matmul(test, train, transpose_b=True)
        nearest = tf.math.top_k(similarity, max(ks)).indices.numpy()
        labels = train_labels[nearest]  # [m, largest k]
        truth = test_labels[start : start + CHUNK]
        rows = np.arange(len(labels))
        votes = np.zeros((len(labels), classes))
        for rank in range(max(ks)):
            # a vote counts 1, plus a tiny amount for nearer neighbors, to break ties
            votes[rows, labels[:, rank]] += 1 + 1e-6 / (rank + 1)
            if rank + 1 in right:
                right[rank + 1] += int((votes.argmax(1) == truth).sum())
    return {k: 100.0 * count / len(test_labels) for k, count in right.items()}


def nearest(points: np.ndarray, count: int = SHOWN) -> np.ndarray:
    """The nearest other points of each, nearest first: float32 [n, d] → int [n, ≤ count]."""
    count = min(count, len(points) - 1)
    if count < 1:
        return np.zeros((len(points), 0), np.int64)
    search = NearestNeighbors(n_neighbors=count).fit(points)
    return search.kneighbors(return_distance=False)  # excludes the point itself


def precision(points: np.ndarray, truth: np.ndarray) -> float:
    """Percentage of the SHOWN nearest neighbors of a point that have its class: mean over points.

    points: float32 [n, d], n ≥ 2. truth: int [n].
    """
    return 100 * float((truth[nearest(points)] == truth[:, None]).mean())
