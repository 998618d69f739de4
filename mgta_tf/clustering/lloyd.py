"""k-means on the device that trains, in memory that does not grow with the number of points.

Points are read in chunks; a Lloyd step is one matrix product a chunk. All mathematics happens on
points from which their mean has been taken, where |x|² - 2x·c + |c|² cancels least.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import tensorflow as tf

from mgta_tf.clustering.clusters import Clusters, chunks, mean_of, own_distances
from mgta_tf.errors import UserError

SKETCH_DIMENSIONS = 64  # of the random projection in which the start is chosen


@dataclasses.dataclass(frozen=True)
class Start:
    """Where k-means begins. The first k of `picked` are a start for k clusters.

    mean: float32 [D], of all points. picked: numbers of distinct points. scatter: as in Clusters.
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
) -> Clusters:
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
        labels, sums, sizes, new_inertia = lloyd_step(points, mean, centroids)
        if (sizes == 0).any():
            centroids = _reseed(points, mean, centroids, labels, sizes)
            reseeded += int((sizes == 0).sum())
            continue
        if steps >= max_steps or new_inertia >= inertia * (1 - tolerance):
            break
        centroids, inertia = (sums / sizes[:, None]).astype(np.float32), new_inertia
        steps += 1
    distances = own_distances(points, mean, centroids, labels)
    return Clusters(
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
    rng, mean, dimensions = np.random.default_rng(seed), mean_of(points), points.shape[1]
    projection = None
    if dimensions > SKETCH_DIMENSIONS:
        projection = rng.standard_normal((dimensions, SKETCH_DIMENSIONS)).astype(np.float32)
        projection /= np.sqrt(SKETCH_DIMENSIONS)
    sketch, scatter = [], 0.0
    for _, chunk in chunks(points, mean):
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


def lloyd_step(
    points: np.ndarray, mean: np.ndarray, centroids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """One pass over points float32 [N, D]: what the next centroids are made of.

    mean: [D], taken from the points. centroids: float32 [K, D], from which it has been taken.

    Returns:
      Labels int32 [N], sums of the points (less the mean) float64 [K, D], sizes [K], the inertia.
    """
    k = len(centroids)
    labels = np.empty(len(points), np.int32)
    sums = np.zeros((k, points.shape[1]), np.float64)
    sizes, inertia = np.zeros(k, np.int64), 0.0
    moved = tf.constant(centroids)
    for first, chunk in chunks(points, mean, k):
        parts = _assign_chunk(tf.constant(chunk), moved)
        labels[first : first + len(chunk)] = parts[0].numpy()
        sums += parts[1].numpy()
        sizes += parts[2].numpy()
        inertia += float(parts[3])
    return labels, sums, sizes, inertia


def assign(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of every point: float32 [N, D], [K, D] → int32 [N]."""
    mean = centroids.mean(0)
    return lloyd_step(points, mean, centroids - mean)[0]


def _reseed(points, mean, centroids, labels, sizes) -> np.ndarray:
    """Moves the centroids of empty clusters to the outermost points of the largest clusters."""
    distances = own_distances(points, mean, centroids, labels)
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
