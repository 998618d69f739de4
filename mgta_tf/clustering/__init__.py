"""Generating labels (GLP, §3.2): features in, pseudo labels and what can be said of them out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from mgta_tf.clustering.lloyd import KMeans, kmeans
from mgta_tf.config import flag
from mgta_tf.errors import UserError

FEATURES = ("embedding", "res2", "res3", "res4", "res5")


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Generating labels (GLP, §3.2)."""

    num_clusters: int = flag(100, "K: clusters of a round; the paper has 100 and 300.", minimum=2)
    cluster_features: str = flag(
        "embedding", "What is clustered; res2 … res5 are averaged over pixels.", choices=FEATURES
    )
    cluster_l2_normalize: bool = flag(False, "Scale every feature vector to length 1.")
    cluster_pca_dim: int = flag(
        0, "Principal components that are kept (DeepCluster: 256); 0 keeps the features.", minimum=0
    )
    cluster_pca_whiten: bool = flag(True, "Scale the principal components to variance 1.")
    kmeans_max_steps: int = flag(100, "Lloyd steps at most.", minimum=1)
    kmeans_tolerance: float = flag(
        1e-4, "k-means stops when a step lowers the inertia by a smaller share.", minimum=0.0
    )
    core_fraction: float = flag(
        1.0,
        "Share of a cluster, nearest to its centroid, that enters triplets; the others are only "
        "reconstructed.",
        minimum=0.0,
        maximum=1.0,
    )
    max_cluster_fraction: float = flag(
        0.5,
        "A cluster with a larger share of the images is reported as a collapse.",
        minimum=0.0,
        maximum=1.0,
    )
    feature_budget_mb: int = flag(
        4096, "Features of a round are held in memory up to so many MiB, else on disk.", minimum=1
    )


def collect(batches: Iterator[np.ndarray], count: int, budget_mb: int, path: str) -> np.ndarray:
    """Batches of features as one float32 [count, D]: in memory, or a memory-mapped file `path`."""
    features: Any = None
    filled = 0
    for batch in batches:
        if features is None:
            shape = (count, batch.shape[1])
            if count * batch.shape[1] * 4 <= budget_mb * 2**20:
                features = np.empty(shape, np.float32)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                features = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        features[filled : filled + len(batch)] = batch
        filled += len(batch)
    return features


def cluster(features: np.ndarray, config: ClusterConfig, seed: int) -> KMeans:
    """Groups features into `num_clusters` clusters by k-means: the pseudo labels of GLP.

    Args:
      features: float32 [N, D].
      config: K, and what is done to the features first: PCA (whitened), then length 1.
      seed: Of the start.

    Raises:
      UserError: values that are not finite, features that are all equal, or K above the number of
        distinct points.
    """
    features = prepare(features, config)
    return kmeans(
        features,
        config.num_clusters,
        seed,
        max_steps=config.kmeans_max_steps,
        tolerance=config.kmeans_tolerance,
    )


def prepare(features: np.ndarray, config: ClusterConfig) -> np.ndarray:
    """DeepCluster's recipe, as far as the flags ask for it: PCA, whitening, length 1."""
    if not np.isfinite(features).all():
        raise UserError("features hold NaN or infinity; the net has diverged")
    if (features == features[0]).all():
        raise UserError("all features are equal; the net has collapsed")
    if config.cluster_pca_dim:
        from sklearn.decomposition import PCA

        dimensions = min(config.cluster_pca_dim, *features.shape)
        pca = PCA(dimensions, whiten=config.cluster_pca_whiten, svd_solver="covariance_eigh")
        features = pca.fit_transform(features).astype(np.float32)
    if config.cluster_l2_normalize:
        features = features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-8)
    return features


def core(labels: np.ndarray, distances: np.ndarray, fraction: float) -> np.ndarray:
    """The labels of the share of every cluster that is nearest to its centroid, -1 elsewhere.

    labels: int32 [n]. distances: [n], to the own centroid. A cluster of m keeps ⌈fraction · m⌉.
    """
    order = np.lexsort((distances, labels))
    sizes = np.bincount(labels)
    rank = np.empty(len(labels), np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.where(rank < np.ceil(fraction * sizes)[labels], labels, -1).astype(np.int32)


def diagnostics(
    labels: np.ndarray,
    truth: np.ndarray | None = None,
    previous: np.ndarray | None = None,
) -> dict[str, float | int | None]:
    """What can be said of labels int32 [n]: sizes, and agreement with other labels of the images.

    truth, previous: int [n] or None; agreement is the NMI, 0 to 1. An image that was not labelled
    before has -1 in `previous`.
    """
    sizes = np.bincount(labels[labels >= 0])
    agreement = None
    if previous is not None and (previous >= 0).any():
        known = previous >= 0
        agreement = float(normalized_mutual_info_score(previous[known], labels[known]))
    return {
        "largest": int(sizes.max()),
        "median": float(np.median(sizes)),
        "smallest": int(sizes.min()),
        "largest_fraction": float(sizes.max() / len(labels)),
        "nmi_truth": None if truth is None else float(normalized_mutual_info_score(truth, labels)),
        "nmi_previous": agreement,
    }
