"""Generating labels (GLP, §3.2): features in, pseudo labels and what can be said of them out."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from mgta_tf.clustering.choose import CRITERIA, Choice, choose_k, parse_candidates
from mgta_tf.clustering.clusterers import run_clusterer
from mgta_tf.clustering.clusters import NOISE, Clusters, chunks
from mgta_tf.config import flag
from mgta_tf.errors import UserError

if TYPE_CHECKING:
    from mgta_tf.clustering.journal import Journal

FEATURES = ("embedding", "res2", "res3", "res4", "res5")


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Generating labels (GLP, §3.2)."""

    num_clusters: int | str = flag(
        300,
        "K: clusters of a round; the paper has 100 and 300. auto: chosen among --k_candidates for "
        "the first labels, then kept. adaptive: chosen each time (future work, §5).",
        minimum=2,
        words=("auto", "adaptive"),
    )
    k_candidates: str = flag(
        "50:500:10", "Candidates for K: first:last:number, or numbers with commas."
    )
    k_criterion: str = flag(
        "ch",
        "What chooses K: Calinski-Harabasz (eq. 2), silhouette, gap statistic, stability.",
        choices=tuple(CRITERIA),
    )
    clusterer: str = flag(
        "kmeans",
        "hdbscan finds its own number of clusters, and leaves the images between them out of the "
        "triplets; it wants few dimensions (--cluster_pca_dim).",
        choices=("kmeans", "minibatch_kmeans", "hdbscan"),
    )
    min_cluster_size: int = flag(10, "Images of the smallest cluster of hdbscan.", minimum=2)
    kmeans_impl: str = flag(
        "tf",
        "k-means on TensorFlow's device, in chunks; or scikit-learn's, in memory.",
        choices=("tf", "sklearn"),
    )
    cluster_features: str = flag(
        "embedding",
        "What is clustered; res2 … res5 are averaged over pixels. Labels of a Tiny ImageNet IAE, "
        "NMI with the truth: embedding 0.176, res2 0.179, res3 0.178, res4 0.179.",
        choices=FEATURES,
    )
    cluster_l2_normalize: bool = flag(
        False, "Scale every feature vector to length 1. NMI as above: 0.176 → 0.184."
    )
    cluster_pca_dim: int = flag(
        0,
        "Principal components that are kept (DeepCluster: 256); 0 keeps the features. NMI as above "
        "with 64: 0.178, with length 1 after it 0.187.",
        minimum=0,
    )
    cluster_pca_whiten: bool = flag(
        True, "Scale the principal components to variance 1. NMI as above without: 0.175."
    )
    kmeans_max_steps: int = flag(100, "Lloyd steps at most.", minimum=1)
    kmeans_tolerance: float = flag(
        1e-4,
        "k-means (tf) stops when a step lowers the inertia by a smaller share.",
        minimum=0.0,
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


def check(config: ClusterConfig, num_images: int) -> None:
    """Refuses, before any training, a number of clusters that `num_images` images cannot have.

    Raises:
      UserError: naming the flag.
    """
    if config.clusterer == "hdbscan":
        return
    k = config.num_clusters
    if isinstance(k, str):
        name, largest = "k_candidates", parse_candidates(config.k_candidates)[-1]
    else:
        name, largest = "num_clusters", k
    if largest >= num_images:
        raise UserError(
            f"--{name}: {largest} clusters of {num_images} images, which one net labels at a time; "
            "lower it"
        )


def collect(batches: Iterator[np.ndarray], count: int, budget_mb: int, path: str) -> np.ndarray:
    """Batches of features as one float32 [count, D]: in memory, or a memory-mapped file `path`."""
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
    """Batches as float32 in a .npy file, which is returned memory-mapped."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for batch in batches:
            # ndarray.tofile would not say why the disk took less.
            file.write(np.ascontiguousarray(batch, "<f4").data)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def cluster(
    features: np.ndarray,
    config: ClusterConfig,
    seed: int,
    chosen: int | None = None,
    journal: Journal | None = None,
) -> tuple[Clusters, Choice | None]:
    """Groups features into clusters: the pseudo labels of GLP, and how K was chosen, if it was.

    Args:
      features: float32 [N, D], in memory or memory-mapped.
      config: K, and what is done to the features first: PCA (whitened), then length 1.
      seed: Of the start.
      chosen: The K that `--num_clusters=auto` took before.
      journal: Keeps the steps of k-means, so that a kill does not cost them.

    Raises:
      UserError: values that are not finite, features that are all equal, or K above the number of
        distinct points.
    """
    features = prepare(features, config)
    k, choice = config.num_clusters, None
    if config.clusterer == "hdbscan":
        k = 0
    elif k == "auto" and chosen:
        k = chosen
    elif isinstance(k, str):
        choice = choose_k(features, parse_candidates(config.k_candidates), config.k_criterion, seed)
        k = choice.best_k
    start = choice.start if choice else None
    return run_clusterer(features, int(k), seed, config, start, journal), choice


def prepare(features: np.ndarray, config: ClusterConfig) -> np.ndarray:
    """DeepCluster's recipe, as far as the flags ask for it: PCA, whitening, length 1.

    Memory-mapped features become another memory-mapped file beside theirs.
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
    """scikit-learn's PCA; of features that are not in memory, the incremental one."""
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
    """The features from first to last, some at a time: float32 [n, D]."""
    return (part for _, part in chunks(features, np.float32(0)))


def core(labels: np.ndarray, distances: np.ndarray, fraction: float) -> np.ndarray:
    """The labels of the share of every cluster that is nearest to its centroid, NOISE elsewhere.

    labels: int32 [n]. distances: [n], to the own centroid. A cluster of m keeps ⌈fraction · m⌉.
    """
    kept = np.full(len(labels), NOISE, np.int32)
    known = np.flatnonzero(labels >= 0)
    own = labels[known]
    order = np.lexsort((distances[known], own))
    sizes = np.bincount(own)
    rank = np.empty(len(known), np.int64)
    rank[order] = np.arange(len(known)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    near = rank < np.ceil(fraction * sizes)[own]
    kept[known[near]] = own[near]
    return kept


def diagnostics(
    found: Clusters, truth: np.ndarray | None = None, previous: np.ndarray | None = None
) -> dict[str, float | int | None]:
    """What can be said of a clustering: sizes, and agreement with other labels of the images.

    truth, previous: int [n] or None. NMI, ARI and purity are at most 1; noise, and an image that
    has NOISE in `previous`, do not count.
    """
    labels = found.labels
    sizes = np.bincount(labels[labels != NOISE])
    said: dict[str, float | int | None] = {
        "num_clusters": len(sizes),
        "empty_clusters": found.reseeded,
        "noise": int((labels == NOISE).sum()),
        "inertia": found.inertia,
        "largest": int(sizes.max()),
        "median": float(np.median(sizes)),
        "smallest": int(sizes.min()),
        "largest_fraction": float(sizes.max() / len(labels)),
    }
    for name, other in (("previous", previous), ("truth", truth)):
        said[f"nmi_{name}"], said[f"ari_{name}"] = agreement(other, labels)
    said["purity"] = None if truth is None else purity(truth, labels)
    return said


def agreement(one: np.ndarray | None, other: np.ndarray) -> tuple[float | None, float | None]:
    """NMI and ARI of two labellings [n] of the same images, where both have one."""
    if one is None:
        return None, None
    known = (one != NOISE) & (other != NOISE)
    if not known.any():
        return None, None
    nmi = normalized_mutual_info_score(one[known], other[known])
    return float(nmi), float(adjusted_rand_score(one[known], other[known]))


def purity(truth: np.ndarray, labels: np.ndarray) -> float:
    """The share of the images whose class is the most frequent of their cluster, 0 to 1."""
    known = labels != NOISE
    table = contingency_matrix(truth[known], labels[known])
    return float(table.max(0).sum() / known.sum())
