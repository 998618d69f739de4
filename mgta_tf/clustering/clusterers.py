"""The algorithms of `--clusterer` and `--kmeans_impl`: our k-means, and those of scikit-learn."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from mgta_tf.clustering.choose import Choice, choose_k, parse_candidates
from mgta_tf.clustering.clusters import NOISE, Clusters, clusters_of
from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.clustering.features import prepare
from mgta_tf.clustering.journal import Journal
from mgta_tf.clustering.lloyd import MAX_STEPS, Start, kmeans
from mgta_tf.errors import UserError

SMALLEST_CLUSTER = 10  # images, for hdbscan
Clusterer = Callable[[np.ndarray, int, int], Clusters]


def cluster(
    features: np.ndarray,
    config: ClusterConfig,
    seed: int,
    chosen: int | None = None,
    journal: Journal | None = None,
) -> tuple[Clusters, Choice | None]:
    """Clusters features into the pseudo labels of GLP.

    Args:
      features: float32 [N, D], in memory or memory-mapped.
      config: K, and the preparation of the features: PCA (whitened), then length 1.
      seed: Random seed.
      chosen: The K that `--num_clusters=auto` has chosen in an earlier round.
      journal: Saves the state of k-means, so that an interrupted k-means resumes.

    Returns:
      (clusters, choice): how K was chosen, or None where it was given.

    Raises:
      UserError: a value is not finite, all features are equal, or there are fewer than K distinct
        features.
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


def run_clusterer(
    points: np.ndarray,
    k: int,
    seed: int,
    config: ClusterConfig,
    start: Start | None = None,
    journal: Journal | None = None,
) -> Clusters:
    """Clusters points float32 [N, D] by `--clusterer` and `--kmeans_impl`.

    `start` and `journal` are for `--kmeans_impl=tf` only. The others start again after an
    interruption, with the same seed and therefore the same result.

    Raises:
      UserError: there are fewer than k distinct points, or all points are noise.
    """
    name = f"kmeans_{config.kmeans_impl}" if config.clusterer == "kmeans" else config.clusterer
    if name == "kmeans_tf":
        return _kmeans_tf(points, k, seed, start, journal)
    return CLUSTERERS[name](points, k, seed)


def _kmeans_tf(points, k, seed, start, journal):
    if journal is None:
        return kmeans(points, k, seed, start=start)
    with journal.opened(points, k, seed, start) as state:
        return kmeans(points, k, seed, start=start, state=state, on_step=journal.step)


def _sklearn(points, k, seed):
    from sklearn.cluster import KMeans

    return _fit(KMeans(k, n_init=1, random_state=seed, max_iter=MAX_STEPS), points, k)


def _minibatch(points, k, seed):
    from sklearn.cluster import MiniBatchKMeans

    return _fit(MiniBatchKMeans(k, n_init=3, random_state=seed, max_iter=MAX_STEPS), points, k)


def _hdbscan(points, k, seed):
    """Finds the number of clusters from the density; points between clusters are noise."""
    from sklearn.cluster import HDBSCAN

    del k, seed
    # kd_tree: the alternative keeps all pairwise distances in memory.
    return _fit(HDBSCAN(SMALLEST_CLUSTER, algorithm="kd_tree", copy=True), points, 0)


def _fit(estimator, points: np.ndarray, k: int) -> Clusters:
    began = time.monotonic()
    if k > len(points):
        raise UserError(
            f"{k} clusters are more than the {len(points)} points; lower --num_clusters"
        )
    labels = estimator.fit_predict(points)
    steps = getattr(estimator, "n_iter_", 1)
    return clusters_of(points, labels, int(steps), time.monotonic() - began)


CLUSTERERS: dict[str, Clusterer] = {
    "kmeans_sklearn": _sklearn,
    "minibatch_kmeans": _minibatch,
    "hdbscan": _hdbscan,
}


def core(labels: np.ndarray, distances: np.ndarray, fraction: float) -> np.ndarray:
    """Keeps the labels of the points nearest to their centroids, and sets the others to NOISE.

    labels: int32 [n]. distances: [n], to the own centroid. A cluster of m points keeps
    ⌈fraction · m⌉.
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
