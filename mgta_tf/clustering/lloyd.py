"""k-means on the device that trains, in memory that does not grow with the number of points.

Points are read in chunks; a Lloyd step is one matrix product a chunk. All mathematics happens on
points from which their mean has been taken, where |x|² - 2x·c + |c|² cancels least.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mgta_tf.clustering.clusters import Clusters, chunks, own_distances
from mgta_tf.errors import UserError

MAX_STEPS = 100
TOLERANCE = 1e-4  # share of the inertia that a step must win
SKETCH_DIMENSIONS = 64  # of the random projection in which the start is chosen


@dataclasses.dataclass(frozen=True)
class Start:
    """Where k-means begins. The first k of `picked` are a start for k clusters.

    mean: float32 [D], of all points. picked: numbers of distinct points. scatter: as in Clusters.
    """

    mean: np.ndarray
    picked: np.ndarray
    scatter: float


@dataclasses.dataclass(frozen=True)
class State:
    """k-means after `steps` of its steps.

    centroids: float32 [K, D], mean subtracted. labels: int32 [N], by which they were moved.
    """

    start: Start
    centroids: np.ndarray
    labels: np.ndarray
    reseeded: int
    steps: int


def kmeans(
    points: np.ndarray,
    k: int,
    seed: int,
    *,
    max_steps: int = MAX_STEPS,
    tolerance: float = TOLERANCE,
    start: Start | None = None,
    with_distances: bool = True,
    state: State | None = None,
    on_step: Callable[[State], None] | None = None,
) -> Clusters:
    """Clusters points by Lloyd's algorithm from a k-means++ start.

    A cluster that loses all its points is given the point that lies farthest out in the largest
    cluster; none is empty in the result. The same seed gives the same labels.

    Args:
      points: float32 [N, D], in memory or memory-mapped.
      k: Number of clusters.
      seed: Of the start.
      max_steps: Lloyd steps at most.
      tolerance: It stops when new centroids would lower the inertia by less than this share of it,
        or when no label has changed.
      start: Of at least k clusters; one is made if none is given.
      with_distances: Without them the inertia has float32's precision of the scatter.
      state: An interrupted call with the same arguments; it resumes there, to the same result.
      on_step: Called after every step with where it is.

    Raises:
      UserError: a value is not finite, or fewer than k points are distinct.
    """
    began = time.monotonic()
    if k > len(points):
        raise UserError(f"{k} clusters of {len(points)} points: lower --num_clusters")
    state = state or _before_steps(points, k, seed, start)
    state, inertia, between = _settle(points, state, max_steps, tolerance, on_step)
    mean, centroids, labels = state.start.mean, state.centroids, state.labels
    distances = np.empty(0, np.float32)
    if with_distances:
        distances = own_distances(points, mean, centroids, labels)
        inertia = float(np.sum(np.square(distances, dtype=np.float64)))
    return Clusters(
        centroids=centroids + mean,
        labels=labels,
        distances=distances,
        inertia=inertia,
        steps=state.steps,
        seconds=time.monotonic() - began,
        reseeded=state.reseeded,
        scatter=state.start.scatter,
        between=between,
    )


def _before_steps(points: np.ndarray, k: int, seed: int, start: Start | None) -> State:
    start = start or kmeans_plus_plus(points, k, seed)
    centroids = points[np.sort(start.picked[:k])].astype(np.float32) - start.mean
    return State(start, centroids, np.empty(0, np.int32), 0, 0)


def _settle(
    points: np.ndarray,
    state: State,
    max_steps: int,
    tolerance: float,
    on_step: Callable[[State], None] | None,
) -> tuple[State, float, float]:
    """Steps from `state` until it settles: the last state, its inertia and its scatter between."""
    start, centroids, labels = state.start, state.centroids, state.labels
    reseeded, steps = state.reseeded, state.steps
    while True:
        before = labels
        labels, sums, sizes, gain = lloyd_step(points, start.mean, centroids)
        if (sizes == 0).any():
            centroids = _reseed(points, start.mean, centroids, labels, sizes)
            reseeded += int((sizes == 0).sum())
            continue
        inertia = start.scatter - 2 * gain
        between = float(np.sum(np.square(sums).sum(1) / sizes))
        lower = start.scatter - between  # the inertia from the points' own means
        settled = inertia - lower <= tolerance * inertia or np.array_equal(labels, before)
        if settled or steps >= max_steps:
            return State(start, centroids, labels, reseeded, steps), inertia, between
        centroids = (sums / sizes[:, None]).astype(np.float32)
        steps += 1
        if on_step:
            on_step(State(start, centroids, labels, reseeded, steps))


def kmeans_plus_plus(points: np.ndarray, k: int, seed: int) -> Start:
    """Greedy k-means++ in a random projection.

    Every next point is the best of 2 + ln k that are drawn with probability proportional to the
    squared distance to the points so far (Arthur & Vassilvitskii 2007). A projection to
    SKETCH_DIMENSIONS keeps distances up to some percent, which a start needs, at a small share of
    the cost.

    Raises:
      UserError: a value is not finite.
    """
    rng = np.random.default_rng(seed)
    mean, scatter, x = _survey(points, rng)
    across = np.ascontiguousarray(x.T)
    lengths = np.einsum("nd,nd->n", x, x)

    def squared_distances(chosen):  # [number chosen, N]
        found = (-2 * x[chosen]) @ across
        found += lengths
        found += lengths[chosen, None]
        return np.maximum(found, 0, out=found)

    trials = 2 + int(np.log(k))
    picked = [int(rng.integers(len(x)))]
    nearest = squared_distances(picked)[0]
    nearest[picked] = 0
    while len(picked) < k:
        total = np.cumsum(nearest, dtype=np.float64)
        if total[-1] > 0:
            draws = np.searchsorted(total, rng.random(trials) * total[-1], side="right")
            draws = np.minimum(draws, len(x) - 1)
        else:  # all points lie on chosen ones, as far as the sketch can tell
            draws = rng.choice(np.setdiff1d(np.arange(len(x)), picked), 1)
        candidates = squared_distances(draws)
        np.minimum(candidates, nearest, out=candidates)
        best = int(np.argmin(candidates.sum(1)))
        nearest = candidates[best]
        picked.append(int(draws[best]))
        nearest[picked[-1]] = 0
    return Start(mean, np.array(picked), scatter)


def _survey(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
    """One pass: mean [D], scatter, and the points in SKETCH_DIMENSIONS or fewer, float32 [N, d].

    The points are taken from one of them, which cancels as the mean would and is known beforehand.
    """
    dimensions = points.shape[1]
    projection = None
    if dimensions > SKETCH_DIMENSIONS:
        projection = rng.standard_normal((dimensions, SKETCH_DIMENSIONS)).astype(np.float32)
        projection /= np.sqrt(SKETCH_DIMENSIONS)
    origin = np.asarray(points[0], np.float32)
    sketch, total, squares = [], np.zeros(dimensions), 0.0
    for _, chunk in chunks(points, origin):
        total += chunk.sum(0, dtype=np.float64)
        squares += float(np.einsum("nd,nd->n", chunk, chunk).sum(dtype=np.float64))
        sketch.append(chunk.copy() if projection is None else chunk @ projection)
    if not np.isfinite(squares):
        raise UserError("features hold NaN or infinity; the net has diverged")
    shift = total / len(points)
    scatter = squares - len(points) * float(shift @ shift)
    return (origin + shift).astype(np.float32), max(scatter, 0.0), np.concatenate(sketch)


@tf.function(reduce_retracing=True)
def _assign_chunk(chunk, centroids, halves):
    """[n, D], [D, K], |c|²/2 [K] → labels [n], sums of points [K, D], sizes [K], gain.

    The gain is Σ max (x·c - |c|²/2). Centroids come transposed: the product is a quarter faster so.
    """
    scores = tf.matmul(chunk, centroids) - halves  # [n, K], largest is nearest
    labels = tf.argmax(scores, axis=1, output_type=tf.int32)
    k = tf.size(halves)
    sums = tf.math.unsorted_segment_sum(chunk, labels, k)
    sizes = tf.math.bincount(labels, minlength=k, maxlength=k)
    return labels, sums, sizes, tf.reduce_sum(tf.cast(tf.reduce_max(scores, axis=1), tf.float64))


def lloyd_step(
    points: np.ndarray, mean: np.ndarray, centroids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """One pass over points float32 [N, D]: what the next centroids are made of.

    mean: [D], taken from the points. centroids: float32 [K, D], from which it has been taken.

    Returns:
      Labels int32 [N], sums of the points − mean, float64 [K, D], sizes [K], and the gain:
      the inertia is the scatter − 2 · gain.
    """
    k = len(centroids)
    labels = np.empty(len(points), np.int32)
    sums = np.zeros((k, points.shape[1]), np.float64)
    sizes, gain = np.zeros(k, np.int64), 0.0
    across = tf.constant(np.ascontiguousarray(centroids.T))
    halves = tf.constant(0.5 * np.einsum("kd,kd->k", centroids, centroids))
    for first, chunk in chunks(points, mean, k):
        # Read in place: what is computed from it has been fetched when the buffer is filled anew.
        points_here = tf.experimental.dlpack.from_dlpack(chunk.__dlpack__())
        parts = _assign_chunk(points_here, across, halves)
        labels[first : first + len(chunk)] = parts[0].numpy()
        sums += parts[1].numpy()
        sizes += parts[2].numpy()
        gain += float(parts[3])
    return labels, sums, sizes, gain


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
