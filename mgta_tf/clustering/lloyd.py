"""k-means on the training device. Its memory does not grow with the number of points.

Points are read in chunks; a Lloyd step takes one matrix product per chunk. The mean of all points
is subtracted first, because |x|² - 2x·c + |c|² then loses the least precision.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from mgta_tf.clustering.clusters import Clusters, chunks, own_distances, take
from mgta_tf.errors import UserError

MAX_STEPS = 100
TOLERANCE = 1e-4  # relative decrease of the inertia below which k-means stops
SKETCH_DIMENSIONS = 64  # of the random projection used by k-means++


@dataclasses.dataclass(frozen=True)
class Start:
    """Initial centroids, for any number of clusters up to len(indices).

    mean: float32 [D], of all points. indices: int [K], distinct points in the order in which
    k-means++ chose them; the first k of them start k clusters. scatter: as in `Clusters`.
    """

    mean: np.ndarray
    indices: np.ndarray
    scatter: float


@dataclasses.dataclass(frozen=True)
class State:
    """State of k-means after `steps` Lloyd steps.

    centroids: float32 [K, D], mean subtracted. labels: int32 [N], the labels they were computed
    from. reseeded: number of empty clusters that were given a new centroid so far.
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
    """Clusters points by Lloyd's algorithm, initialized by k-means++.

    An empty cluster is moved to the point of the largest cluster that is farthest from its
    centroid, so no cluster is empty in the result. The same seed gives the same labels.

    Args:
      points: float32 [N, D], in memory or memory-mapped.
      k: Number of clusters.
      seed: Random seed of k-means++.
      max_steps: Maximum number of Lloyd steps.
      tolerance: k-means stops when new centroids would lower the inertia by a smaller fraction, or
        when no label has changed.
      start: Initial centroids of at least k clusters; computed if not given.
      with_distances: Whether to compute the distances of the points to their centroids. Without
        them the inertia is less precise: a difference of two large float32 sums.
      state: State of an interrupted call with the same arguments; the result is the same as without
        the interruption.
      on_step: Called with the state after every step.

    Raises:
      UserError: a value is not finite, or there are fewer than k distinct points.
    """
    began = time.monotonic()
    if k > len(points):
        raise UserError(
            f"{k} clusters are more than the {len(points)} points; lower --num_clusters"
        )
    state = state or _initial_state(points, k, seed, start)
    state, inertia, between = _iterate(points, state, max_steps, tolerance, on_step)
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


def _initial_state(points: np.ndarray, k: int, seed: int, start: Start | None) -> State:
    start = start or kmeans_plus_plus(points, k, seed)
    centroids = take(points, np.sort(start.indices[:k])).astype(np.float32) - start.mean
    return State(start, centroids, np.empty(0, np.int32), 0, 0)


def _iterate(
    points: np.ndarray,
    state: State,
    max_steps: int,
    tolerance: float,
    on_step: Callable[[State], None] | None,
) -> tuple[State, float, float]:
    """Lloyd steps from `state` until convergence: (last state, its inertia, its tr(B))."""
    start, centroids, labels = state.start, state.centroids, state.labels
    reseeded, steps = state.reseeded, state.steps
    while True:
        old_labels = labels
        labels, sums, sizes, gain = lloyd_step(points, start.mean, centroids)
        if (sizes == 0).any():
            centroids = _reseed(points, start.mean, centroids, labels, sizes)
            reseeded += int((sizes == 0).sum())
            continue
        inertia = start.scatter - 2 * gain
        between = float(np.sum(np.square(sums).sum(1) / sizes))
        next_inertia = start.scatter - between  # of the same labels with updated centroids
        small = inertia - next_inertia <= tolerance * inertia
        if small or np.array_equal(labels, old_labels) or steps >= max_steps:
            return State(start, centroids, labels, reseeded, steps), inertia, between
        centroids = (sums / sizes[:, None]).astype(np.float32)
        steps += 1
        if on_step:
            on_step(State(start, centroids, labels, reseeded, steps))


def kmeans_plus_plus(points: np.ndarray, k: int, seed: int) -> Start:
    """Initial centroids by greedy k-means++ (Arthur & Vassilvitskii 2007) in a random projection.

    Each next point is the best of 2 + ln k candidates, which are drawn with probability
    proportional to the squared distance to the points chosen so far. The projection to
    SKETCH_DIMENSIONS changes distances by a few percent, which is precise enough here, and is far
    cheaper.

    Raises:
      UserError: a value is not finite.
    """
    rng = np.random.default_rng(seed)
    mean, scatter, x = _project(points, rng)
    transposed = np.ascontiguousarray(x.T)
    lengths = np.einsum("nd,nd->n", x, x)

    def squared_distances(chosen):  # [len(chosen), N]
        result = (-2 * x[chosen]) @ transposed
        result += lengths
        result += lengths[chosen, None]
        return np.maximum(result, 0, out=result)

    trials = 2 + int(np.log(k))
    indices = [int(rng.integers(len(x)))]
    nearest = squared_distances(indices)[0]  # [N], to the nearest chosen point
    nearest[indices] = 0
    while len(indices) < k:
        total = np.cumsum(nearest, dtype=np.float64)
        if total[-1] > 0:
            draws = np.searchsorted(total, rng.random(trials) * total[-1], side="right")
            draws = np.minimum(draws, len(x) - 1)
        else:  # all projected points equal chosen ones
            draws = rng.choice(np.setdiff1d(np.arange(len(x)), indices), 1)
        candidates = squared_distances(draws)
        np.minimum(candidates, nearest, out=candidates)
        best = int(np.argmin(candidates.sum(1)))
        nearest = candidates[best]
        indices.append(int(draws[best]))
        nearest[indices[-1]] = 0
    return Start(mean, np.array(indices), scatter)


def _project(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
    """One pass over the points: mean [D], scatter, and their projection, float32 [N, d].

    d is D, at most SKETCH_DIMENSIONS. The first point is subtracted from all in place of the mean,
    which is not known yet; it serves the precision as well.
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
def _assign_chunk(chunk, centroids, offsets):
    """[n, D], [D, K], |c|²/2 [K] → labels [n], sums of points [K, D], sizes [K], gain.

    The gain is Σ max (x·c - |c|²/2). Transposed centroids make the product a quarter faster.
    """
    scores = tf.matmul(chunk, centroids) - offsets  # [n, K], largest is nearest
    labels = tf.argmax(scores, axis=1, output_type=tf.int32)
    k = tf.size(offsets)
    sums = tf.math.unsorted_segment_sum(chunk, labels, k)
    sizes = tf.math.bincount(labels, minlength=k, maxlength=k)
    return labels, sums, sizes, tf.reduce_sum(tf.cast(tf.reduce_max(scores, axis=1), tf.float64))


def lloyd_step(
    points: np.ndarray, mean: np.ndarray, centroids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Assigns points float32 [N, D] to their nearest centroids and sums them by cluster.

    mean: [D], subtracted from the points here. centroids: float32 [K, D], mean already subtracted.

    Returns:
      Labels int32 [N], sums of (points − mean) float64 [K, D], sizes [K], and the gain:
      inertia = scatter − 2 · gain.
    """
    k = len(centroids)
    labels = np.empty(len(points), np.int32)
    sums = np.zeros((k, points.shape[1]), np.float64)
    sizes, gain = np.zeros(k, np.int64), 0.0
    transposed = tf.constant(np.ascontiguousarray(centroids.T))
    offsets = tf.constant(0.5 * np.einsum("kd,kd->k", centroids, centroids))
    for first, chunk in chunks(points, mean, k):
        # No copy: the results are fetched before `chunks` fills the buffer again.
        points_here = tf.experimental.dlpack.from_dlpack(chunk.__dlpack__())
        parts = _assign_chunk(points_here, transposed, offsets)
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
    """Moves the centroids of empty clusters to the farthest points of the largest clusters."""
    distances = own_distances(points, mean, centroids, labels)
    centroids, sizes = centroids.copy(), sizes.copy()
    for empty in np.flatnonzero(sizes == 0):
        spread = np.zeros(len(sizes))
        np.maximum.at(spread, labels, distances)
        if not spread.any():
            raise UserError(
                f"only {int((sizes > 0).sum())} distinct points for {len(sizes)} clusters; lower "
                "--num_clusters"
            )
        largest = int(np.argmax(np.where(spread > 0, sizes, -1)))
        inside = np.flatnonzero(labels == largest)
        far = inside[distances[inside] >= (1 - 1e-5) * distances[inside].max()]
        rows = take(points, far)
        farthest = rows[np.argmax(distances[far])]
        centroids[empty] = farthest - mean
        moved = far[(rows == farthest).all(1)]  # with its duplicates
        distances[moved] = 0
        labels[moved] = empty
        sizes[largest] -= len(moved)
        sizes[empty] = len(moved)
    return centroids
