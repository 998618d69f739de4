"""Nearest neighbors of images by their vectors, and groups of near-duplicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from mgta_tf.evaluation.features import in_batches

EXACT = 100_000  # images; above it near-duplicates are searched with faiss, if it is installed
NEIGHBORS = 20  # nearest neighbors of an image that are checked as near-duplicates
AT_ONCE = 4096  # images whose neighbors are searched together
FLAT = 1e-5  # |vector − mean| / |mean| below which the direction is only rounding error


@dataclasses.dataclass(frozen=True)
class Directions:
    """Unit vectors of the differences from the mean vector, for cosine distances.

    Features after a ReLU are positive, so all their cosines are large. Subtracting the mean gives
    better neighbors, and distances that are comparable between encoders.

    mean: float32 [D]. units: float32 [N, D], of length 1; of length 0 where a vector is the mean.
    """

    mean: np.ndarray
    units: np.ndarray

    def of(self, vectors: np.ndarray) -> np.ndarray:
        """Directions of other vectors from the same mean: [n, D] → [n, D]."""
        return _units(vectors, self.mean)


def directions(vectors: np.ndarray) -> Directions:
    """float32 [N, D] → their directions."""
    mean = vectors.mean(0, dtype=np.float64).astype(np.float32)
    return Directions(mean, _units(vectors, mean))


def _units(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    centered = vectors - mean
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    flat = lengths <= FLAT * np.linalg.norm(mean)
    return np.where(flat, 0, centered / np.where(flat, 1, lengths)).astype(np.float32)


def nearest(base: np.ndarray, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
    """The `top` nearest of `base` to each query, exactly.

    Args:
      base: Directions [N, D].
      queries: Directions [n, D].
      top: Number of neighbors, at most N.

    Returns:
      (distances float [n, top], 1 − cosine, from 0 to 2; numbers int [n, top]), nearest first.
    """
    search = NearestNeighbors(n_neighbors=min(top, len(base)), algorithm="brute").fit(base)
    lengths, numbers = search.kneighbors(queries)
    return lengths**2 / 2, numbers


def close_pairs(
    base: np.ndarray, distance: float, over: Callable[[Iterable[np.ndarray]], Iterable] = iter
) -> np.ndarray:
    """Pairs of images within `distance`, among each image and its NEIGHBORS nearest.

    Args:
      base: Directions [N, D].
      distance: Largest 1 − cosine.
      over: Passes on the batches of images, int [m] numbers, as `Progress.over` does.

    Returns:
      Numbers int [n, 2] of each pair, once, the smaller first.
    """
    neighbors, found = _index(base, min(NEIGHBORS + 1, len(base))), []
    for part in over(in_batches(len(base), AT_ONCE)):
        lengths, numbers = neighbors(base[part])
        rows, columns = np.nonzero(lengths <= distance)
        found.append(np.stack([part[rows], numbers[rows, columns]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def groups_of(pairs: np.ndarray, count: int) -> list[np.ndarray]:
    """Connected components of the graph of pairs.

    Args:
      pairs: int [n, 2], numbers below `count`.
      count: Number of images.

    Returns:
      The numbers of each group of two or more, ascending; the largest group first.
    """
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, group_of = connected_components(graph, directed=False)
    order = np.argsort(group_of, kind="stable")
    groups = np.split(order, np.nonzero(np.diff(group_of[order]))[0] + 1)
    return sorted((group for group in groups if len(group) > 1), key=len, reverse=True)


def _index(base: np.ndarray, top: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """`nearest` of `base`; approximate, with faiss, for many images if it is installed."""
    if len(base) > EXACT:
        try:
            import faiss
        except ImportError:
            return lambda queries: nearest(base, queries, top)
        cells = int(4 * np.sqrt(len(base)))
        index = faiss.index_factory(base.shape[1], f"IVF{cells},Flat")
        index.train(base)
        index.add(base)
        index.nprobe = 16

        def neighbors(queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            squares, numbers = index.search(queries, top)
            return squares / 2, numbers

        return neighbors
    return lambda queries: nearest(base, queries, top)
