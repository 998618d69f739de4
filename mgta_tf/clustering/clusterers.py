"""The clusterers behind `--clusterer` and `--kmeans_impl`: ours, and scikit-learn's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from mgta_tf.clustering.clusters import Clusters, clusters_of
from mgta_tf.clustering.lloyd import Start, kmeans
from mgta_tf.errors import UserError

if TYPE_CHECKING:
    from mgta_tf.clustering import ClusterConfig
    from mgta_tf.clustering.journal import Journal

Clusterer = Callable[[np.ndarray, int, int, "ClusterConfig"], Clusters]


def run_clusterer(
    points: np.ndarray,
    k: int,
    seed: int,
    config: ClusterConfig,
    start: Start | None = None,
    journal: Journal | None = None,
) -> Clusters:
    """Clusters points float32 [N, D] as `--clusterer` and `--kmeans_impl` say.

    `start` is where `--kmeans_impl=tf` begins, if there is one, and `journal` keeps its steps; the
    other clusterers begin again after a kill, with the same seed and so the same result.

    Raises:
      UserError: fewer than k points are distinct, or all are noise.
    """
    name = f"kmeans_{config.kmeans_impl}" if config.clusterer == "kmeans" else config.clusterer
    if name == "kmeans_tf":
        return _kmeans_tf(points, k, seed, config, start, journal)
    return CLUSTERERS[name](points, k, seed, config)


def _kmeans_tf(points, k, seed, config, start, journal):
    steps = dict(max_steps=config.kmeans_max_steps, tolerance=config.kmeans_tolerance, start=start)
    if journal is None:
        return kmeans(points, k, seed, **steps)
    with journal.opened(points, k, seed, start) as state:
        return kmeans(points, k, seed, **steps, state=state, on_step=journal.step)


def _sklearn(points, k, seed, config):
    from sklearn.cluster import KMeans

    return _fit(KMeans(k, n_init=1, random_state=seed, max_iter=config.kmeans_max_steps), points, k)


def _minibatch(points, k, seed, config):
    from sklearn.cluster import MiniBatchKMeans

    return _fit(
        MiniBatchKMeans(k, n_init=3, random_state=seed, max_iter=config.kmeans_max_steps), points, k
    )


def _hdbscan(points, k, seed, config):
    """Density decides how many clusters there are; what lies between them is noise."""
    from sklearn.cluster import HDBSCAN

    del k, seed
    # A tree, for the alternative keeps all distances.
    return _fit(HDBSCAN(config.min_cluster_size, algorithm="kd_tree", copy=True), points, 0)


def _fit(estimator, points: np.ndarray, k: int) -> Clusters:
    began = time.monotonic()
    if k > len(points):
        raise UserError(f"{k} clusters of {len(points)} points: lower --num_clusters")
    labels = estimator.fit_predict(points)
    steps = getattr(estimator, "n_iter_", 1)
    return clusters_of(points, labels, int(steps), time.monotonic() - began)


CLUSTERERS: dict[str, Clusterer] = {
    "kmeans_sklearn": _sklearn,
    "minibatch_kmeans": _minibatch,
    "hdbscan": _hdbscan,
}
