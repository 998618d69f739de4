"""The result of a clustering, and reading points in chunks of bounded memory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy import sparse

from mgta_tf.errors import UserError

CHUNK_VALUES = 2**24  # float32 values of a chunk of points, and of its products: 64 MiB each
WORKERS = os.cpu_count() or 1  # threads that subtract the mean from a chunk
ALIGNMENT = 64  # bytes; TensorFlow reads memory with this alignment without a copy
NOISE = -1  # the label of a point that belongs to no cluster


@dataclasses.dataclass(frozen=True)
class Clusters:
    """A clustering of N points into K clusters.

    centroids: float32 [K, D].
    labels: int32 [N], NOISE for a point in no cluster.
    distances: float32 [N], Euclidean, to the own centroid, infinite for noise; empty if not
      requested.
    inertia: sum of the squared distances.
    steps, seconds: iterations of the algorithm, and its time with the initialization.
    reseeded: number of times an empty cluster was given a new centroid.
    scatter: tr(B) + tr(W) of eq. 2, the sum of squared distances to the mean of all points.
    between: tr(B) of eq. 2, from the means of the clusters. k-means' `centroids` differ from these
      means by the update that its last step would have made.
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


def chunks(points: np.ndarray, mean: Any, k: int = 1) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index of the first row, rows − mean) in chunks of at most CHUNK_VALUES values.

    A chunk has n rows such that neither [n, D] nor [n, k] exceeds CHUNK_VALUES. The rows are
    float32 [n, D] in a buffer that the next chunk overwrites. The buffer is aligned for TensorFlow,
    which saves a copy (a fifth of a Lloyd step).

    Memory-mapped points are read as in `read`.
    """
    dimensions = points.shape[1]
    rows = min(len(points), max(1, CHUNK_VALUES // max(dimensions, k)))
    buffer = _aligned(rows, dimensions)
    with ThreadPoolExecutor(WORKERS) as pool:
        for first in range(0, len(points), rows):
            part = read(points, first, min(rows, len(points) - first))
            pieces = zip(
                np.array_split(part, WORKERS), np.array_split(buffer[: len(part)], WORKERS)
            )
            list(pool.map(lambda piece: np.subtract(piece[0], mean, out=piece[1]), pieces))
            yield first, buffer[: len(part)]


def read(points: np.ndarray, first: int, count: int) -> np.ndarray:
    """Rows [count, D] of [N, D], from `first`.

    A memory-mapped file is read instead of mapped, because mapped pages count as memory of the
    process until the system reclaims them.
    """
    file = _mapped_file(points)
    if file is None:
        return points[first : first + count]
    dimensions = file.shape[1]
    offset = file.offset + first * dimensions * file.itemsize
    values = np.fromfile(str(file.filename), file.dtype, count * dimensions, offset=offset)
    return values.reshape(count, dimensions)


def take(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows [n, D] of [N, D], by their indices [n]; a memory-mapped file is read (`read`).

    Mapping a single row maps up to a MiB around it.
    """
    if _mapped_file(points) is None:
        return points[rows]
    return np.concatenate([read(points, int(row), 1) for row in rows])


def _mapped_file(points: np.ndarray) -> np.memmap | None:
    """The points, if they are a memory-mapped file whose rows follow each other, else None."""
    if isinstance(points, np.memmap) and points.filename and points.flags.c_contiguous:
        return points
    return None


def _aligned(rows: int, dimensions: int) -> np.ndarray:
    """Uninitialized float32 [rows, dimensions] that begins on a multiple of ALIGNMENT bytes."""
    values = np.empty(rows * dimensions * 4 + ALIGNMENT, np.uint8)
    begin = -values.ctypes.data % ALIGNMENT
    return values[begin : begin + rows * dimensions * 4].view(np.float32).reshape(rows, dimensions)


def mean_of(points: np.ndarray) -> np.ndarray:
    """Mean of all points, float32 [D].

    Raises:
      UserError: a value is not finite.
    """
    total = np.zeros(points.shape[1], np.float64)
    for _, chunk in chunks(points, np.float32(0)):
        total += chunk.sum(0, dtype=np.float64)
    if not np.isfinite(total).all():
        raise UserError("features hold NaN or infinity; the net has diverged")
    return (total / len(points)).astype(np.float32)


def own_distances(points, mean, centroids, labels) -> np.ndarray:
    """Distances to the own centroid, [N], computed from differences: exactly 0 for equal points.

    centroids: [K, D], mean subtracted. Noise has an infinite distance.
    """
    distances = np.full(len(points), np.inf, np.float32)
    for first, chunk in chunks(points, mean):
        here = labels[first : first + len(chunk)]
        known = here != NOISE
        moved = chunk[known] - centroids[here[known]]
        distances[first : first + len(chunk)][known] = np.sqrt(np.einsum("nd,nd->n", moved, moved))
    return distances


def clusters_of(points: np.ndarray, labels: np.ndarray, steps: int, seconds: float) -> Clusters:
    """The clustering given by labels [N] of another library; labels are renumbered from 0.

    Raises:
      UserError: all points are noise.
    """
    known = labels >= 0
    if not known.any():
        raise UserError("--clusterer: all points are noise; set --clusterer=kmeans")
    kinds, numbers = np.unique(labels[known], return_inverse=True)
    labels = np.full(len(points), NOISE, np.int32)
    labels[known] = numbers
    mean = mean_of(points)
    sums, scatter = np.zeros((len(kinds), points.shape[1]), np.float64), 0.0
    for first, chunk in chunks(points, mean):
        here = labels[first : first + len(chunk)]
        rows = np.flatnonzero(here >= 0)
        member = (np.ones(len(rows), np.float32), (here[rows], rows))
        sums += sparse.csr_matrix(member, (len(kinds), len(chunk))) @ chunk
        scatter += float(np.sum(np.square(chunk, dtype=np.float64)))
    sizes = np.bincount(numbers)
    centroids = (sums / sizes[:, None]).astype(np.float32)
    distances = own_distances(points, mean, centroids, labels)
    return Clusters(
        centroids=centroids + mean,
        labels=labels,
        distances=distances,
        inertia=float(np.sum(np.square(distances[known], dtype=np.float64))),
        steps=steps,
        seconds=seconds,
        reseeded=0,
        scatter=scatter,
        between=float(np.sum(np.square(sums).sum(1) / sizes)),
    )
