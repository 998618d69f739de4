"""Features for k-means: collected within a memory budget, whitened, scaled."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from mgta_tf.clustering.clusters import chunks
from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.errors import UserError


def collect(batches: Iterator[np.ndarray], count: int, budget_mb: int, path: str) -> np.ndarray:
    """Collects batches of features into one float32 [count, D].

    It is in memory if it fits `budget_mb` MiB, else in the file `path`, memory-mapped.
    """
    first = next(batches)
    everything: Any = itertools.chain([first], batches)
    dimensions = first.shape[1]
    if count * dimensions * 4 <= budget_mb * 2**20:
        features, filled = np.empty((count, dimensions), np.float32), 0
        for batch in everything:
            features[filled : filled + len(batch)] = batch
            filled += len(batch)
        return features
    return _write(everything, (count, dimensions), path)


def _write(batches: Iterator[np.ndarray], shape: tuple[int, int], path: str) -> np.ndarray:
    """Writes batches as float32 to a .npy file and returns it memory-mapped."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            # not ndarray.tofile, whose error does not say that the disk is full
            file.write(np.ascontiguousarray(batch, "<f4").data)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def prepare(features: np.ndarray, config: ClusterConfig) -> np.ndarray:
    """Prepares features as DeepCluster does, if the flags say so: PCA, whitening, length 1.

    The result of memory-mapped features is memory-mapped too, in a file next to theirs.

    Raises:
      UserError: a value is not finite, or all features are equal.
    """
    first, constant = features[0], True
    for part in _parts(features):
        if not np.isfinite(part).all():
            raise UserError("features hold NaN or infinity; the net has diverged")
        constant = constant and bool((part == first).all())
    if constant:
        raise UserError("all features are equal; the net has collapsed")
    if not config.cluster_pca_dim and not config.cluster_l2_normalize:
        return features
    steps = []
    if config.cluster_pca_dim:
        steps.append(_pca(features, config).transform)
    if config.cluster_l2_normalize:
        steps.append(lambda x: x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-8))
    parts = (functools.reduce(lambda x, step: step(x), steps, part) for part in _parts(features))
    if not isinstance(features, np.memmap):
        return np.concatenate([part.astype(np.float32) for part in parts])
    part = next(parts)
    shape = (len(features), part.shape[1])
    return _write(itertools.chain([part], parts), shape, f"{features.filename}.prepared.npy")


def _pca(features: np.ndarray, config: ClusterConfig) -> Any:
    """scikit-learn's PCA of the features; IncrementalPCA if they are memory-mapped."""
    from sklearn.decomposition import PCA, IncrementalPCA

    dimensions = min(config.cluster_pca_dim, *features.shape)
    whiten = config.cluster_pca_whiten
    if not isinstance(features, np.memmap):
        return PCA(dimensions, whiten=whiten, svd_solver="covariance_eigh").fit(features)
    pca = IncrementalPCA(dimensions, whiten=whiten)
    for part in _parts(features):
        if len(part) >= dimensions:
            pca.partial_fit(part)
    return pca


def _parts(features: np.ndarray) -> Iterator[np.ndarray]:
    """The features in chunks, float32 [n, D]."""
    return (part for _, part in chunks(features, np.float32(0)))
