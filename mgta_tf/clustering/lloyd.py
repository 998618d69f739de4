"""k-means on the device that trains, in memory that does not grow with the number of points.

Points are read in chunks; a Lloyd step is one matrix product a chunk. All mathematics happens on
points from which their mean has been taken, where |x|² - 2x·c + |c|² cancels least.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.errors import UserError

CHUNK_VALUES = 2**24  # of a chunk of points, and of its products: 64 MiB each
SKETCH_DIMENSIONS = 64  # of the random projection in which the start is chosen


@dataclasses.dataclass(frozen=True)
class KMeans:
    """A clustering of N points into K clusters.

    centroids: float32 [K, D]. labels: int32 [N]. distances: float32 [N], Euclidean, to the own
    centroid. inertia: sum of their squares. steps: Lloyd steps. seconds: start and steps.
    reseeded: how often an empty cluster was given a new centroid. scatter: sum of the squared
    distances to the mean of all points, tr(B) + tr(W) of eq. 2. between: tr(B), of the means of
    the labelled points, from which `centroids` still differ by the last step's move.
    """

    centroids: np.ndarray
    labels: np.ndarray
    distances: np.ndarray
    inertia: float
    steps: int
    seconds: float
    reseeded: int
    scatter: float
    between: float


@dataclasses.dataclass(frozen=True)
class Start:
    """Where k-means begins. The first k of `picked` are a start for k clusters.

    mean: float32 [D], of all points. picked: numbers of distinct points. scatter: as in KMeans.
    """

    mean: np.ndarray
    picked: np.ndarray
    scatter: float


def kmeans(
    points: np.ndarray,
    k: int,
    seed: int,
    *,
    max_steps: int = 100,
    tolerance: float = 1e-4,
    start: Start | None = None,
) -> KMeans:
    """Clusters points by Lloyd's algorithm from a k-means++ start.

    A cluster that loses all its points is given the point that lies farthest out in the largest
    cluster; none is empty in the result. The same seed gives the same labels.

    Args:
      points: float32 [N, D], in memory or memory-mapped.
      k: Number of clusters.
      seed: Of the start.
      max_steps: Lloyd steps at most.
      tolerance: It stops when a step lowers the inertia by less than this share of it.
      start: Of at least k clusters; one is made if none is given.

    Raises:
      UserError: a value is not finite, or fewer than k points are distinct.
    """
    began = time.monotonic()
    if k > len(points):
        raise UserError(f"{k} clusters of {len(points)} points: lower --num_clusters")
    start = start or plus_plus(points, k, seed)
    mean = start.mean
    centroids = points[np.sort(start.picked[:k])].astype(np.float32) - mean
    inertia, reseeded, steps = np.inf, 0, 0
    while True:
        labels, sums, sizes, new_inertia = _assign(points, mean, centroids)
        if (sizes == 0).any():
            centroids = _reseed(points, mean, centroids, labels, sizes)
            reseeded += int((sizes == 0).sum())
            continue
        if steps >= max_steps or new_inertia >= inertia * (1 - tolerance):
            break
        centroids, inertia = (sums / sizes[:, None]).astype(np.float32), new_inertia
        steps += 1
    distances = _own_distances(points, mean, centroids, labels)
    return KMeans(
        centroids=centroids + mean,
        labels=labels,
        distances=distances,
        inertia=float(np.sum(np.square(distances, dtype=np.float64))),
        steps=steps,
        seconds=time.monotonic() - began,
        reseeded=reseeded,
        scatter=start.scatter,
        between=float(np.sum(np.square(sums).sum(1) / sizes)),
    )


def plus_plus(points: np.ndarray, k: int, seed: int) -> Start:
    """Greedy k-means++ in a random projection.

    Every next point is the best of 2 + ln k that are drawn with probability proportional to the
    squared distance to the points so far (Arthur & Vassilvitskii 2007). A projection to
    SKETCH_DIMENSIONS keeps distances up to some percent, which a start needs, at a small share of
    the cost.

    Raises:
      UserError: a value is not finite.
    """
    rng, mean, dimensions = np.random.default_rng(seed), _mean(points), points.shape[1]
    projection = None
    if dimensions > SKETCH_DIMENSIONS:
        projection = rng.standard_normal((dimensions, SKETCH_DIMENSIONS)).astype(np.float32)
        projection /= np.sqrt(SKETCH_DIMENSIONS)
    sketch, scatter = [], 0.0
    for _, chunk in _chunks(points, mean):
        scatter += float(np.sum(np.square(chunk, dtype=np.float64)))
        sketch.append(chunk if projection is None else chunk @ projection)
    x = np.concatenate(sketch)
    lengths = np.einsum("nd,nd->n", x, x)

    def squared_distances(chosen):  # [N, number chosen]
        products = x @ x[chosen].T
        return np.maximum(lengths[:, None] - 2 * products + lengths[chosen], 0)

    trials = 2 + int(np.log(k))
    picked = [int(rng.integers(len(x)))]
    nearest = squared_distances(picked)[:, 0]
    nearest[picked] = 0
    while len(picked) < k:
        total = np.cumsum(nearest, dtype=np.float64)
        if total[-1] > 0:
            draws = np.searchsorted(total, rng.random(trials) * total[-1], side="right")
            draws = np.minimum(draws, len(x) - 1)
        else:  # all points lie on chosen ones, as far as the sketch can tell
            draws = rng.choice(np.setdiff1d(np.arange(len(x)), picked), 1)
        candidates = np.minimum(squared_distances(draws), nearest[:, None])
        best = int(np.argmin(candidates.sum(0, dtype=np.float64)))
        nearest = candidates[:, best]
        picked.append(int(draws[best]))
        nearest[picked[-1]] = 0
    return Start(mean, np.array(picked), scatter)


def _chunks(points: np.ndarray, mean: Any, k: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows less the mean), so many rows that neither they nor [rows, k] grow large."""
    rows = max(1, CHUNK_VALUES // max(points.shape[1], k))
    for first in range(0, len(points), rows):
        yield first, np.asarray(points[first : first + rows], np.float32) - mean


def _mean(points: np.ndarray) -> np.ndarray:
    """float32 [D]; refuses points that are not finite."""
    total = np.zeros(points.shape[1], np.float64)
    for _, chunk in _chunks(points, np.float32(0)):
        total += chunk.sum(0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise UserError("features hold NaN or infinity; the net has diverged")
    return (total / len(points)).astype(np.float32)


@tf.function(reduce_retracing=True)
def _assign_chunk(chunk, centroids):
    """[n, D], [K, D] → labels [n], sums of points [K, D], sizes [K], Σ min(|c|² - 2x·c) + |x|²."""
    halves = 0.5 * tf.reduce_sum(tf.square(centroids), axis=1)
    scores = tf.matmul(chunk, centroids, transpose_b=True) - halves  # [n, K], largest is nearest
    labels = tf.argmax(scores, axis=1, output_type=tf.int32)
    k = tf.shape(centroids)[0]
    sums = tf.math.unsorted_segment_sum(chunk, labels, k)
    sizes = tf.math.bincount(labels, minlength=k, maxlength=k)
    squares = tf.reduce_sum(tf.square(chunk), axis=1) - 2 * tf.reduce_max(scores, axis=1)
    return labels, sums, sizes, tf.reduce_sum(tf.cast(squares, tf.float64))


def _assign(points, mean, centroids):
    """One pass: labels int32 [N], sums float64 [K, D], sizes [K], inertia."""
    k = len(centroids)
    labels = np.empty(len(points), np.int32)
    sums = np.zeros((k, points.shape[1]), np.float64)
    sizes, inertia = np.zeros(k, np.int64), 0.0
    moved = tf.constant(centroids)
    for first, chunk in _chunks(points, mean, k):
        parts = _assign_chunk(tf.constant(chunk), moved)
        labels[first : first + len(chunk)] = parts[0].numpy()
        sums += parts[1].numpy()
        sizes += parts[2].numpy()
        inertia += float(parts[3])
    return labels, sums, sizes, inertia


def assign(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of every point: float32 [N, D], [K, D] → int32 [N]."""
    mean = centroids.mean(0)
    return _assign(points, mean, centroids - mean)[0]


def _own_distances(points, mean, centroids, labels) -> np.ndarray:
    """Distances to the own centroid by differences: exactly 0 for a point that lies on it."""
    distances = np.empty(len(points), np.float32)
    for first, chunk in _chunks(points, mean):
        chunk -= centroids[labels[first : first + len(chunk)]]
        distances[first : first + len(chunk)] = np.sqrt(np.einsum("nd,nd->n", chunk, chunk))
    return distances


def _reseed(points, mean, centroids, labels, sizes) -> np.ndarray:
    """Moves the centroids of empty clusters to the outermost points of the largest clusters."""
    distances = _own_distances(points, mean, centroids, labels)
    centroids, sizes = centroids.copy(), sizes.copy()
    for empty in np.flatnonzero(sizes == 0):
        spread = np.zeros(len(sizes))
        np.maximum.at(spread, labels, distances)
        if not spread.any():
            raise UserError(
                f"only {int((sizes > 0).sum())} of the points are distinct, fewer than the "
                f"{len(sizes)} clusters: lower --num_clusters"
            )
        largest = int(np.argmax(np.where(spread > 0, sizes, -1)))
        inside = np.flatnonzero(labels == largest)
        farthest = inside[np.argmax(distances[inside])]
        centroids[empty] = points[farthest] - mean
        here = inside[(points[inside] == points[farthest]).all(1)]  # its copies, too, are served
        distances[here] = 0
        labels[here] = empty
        sizes[largest] -= len(here)
        sizes[empty] = len(here)
    return centroids
