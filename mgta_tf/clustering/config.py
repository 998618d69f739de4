"""Flags of GLP (§3.2)."""

from __future__ import annotations

import dataclasses

from mgta_tf.clustering.choose import CRITERIA
from mgta_tf.config import flag

FEATURES = ("embedding", "res2", "res3", "res4", "res5")


@dataclasses.dataclass(frozen=True)
class ClusterConfig:
    """Generating labels (GLP, §3.2)."""

    num_clusters: int | str = flag(
        300,
        "Number of clusters, the K of k-means; the paper uses 100 and 300. by_size: one for 10 "
        "images of a half (--labels=hard_negatives: for 64 images), up to 300. auto: chosen among "
        "--k_candidates in the first round, then kept. adaptive: chosen again in every round "
        "(future work, §5).",
        minimum=2,
        words=("auto", "adaptive"),
        auto="by_size",
    )
    k_candidates: str = flag(
        "50:500:10", "Candidates for K: first:last:count, or a comma-separated list.", advanced=True
    )
    k_criterion: str = flag(
        "ch",
        "Criterion that chooses K: Calinski-Harabasz (eq. 2), silhouette, gap statistic or "
        "stability.",
        choices=tuple(CRITERIA),
        advanced=True,
    )
    clusterer: str = flag(
        "kmeans",
        "Clustering algorithm. hdbscan finds the number of clusters by itself and excludes "
        "noise from the triplets; it needs few dimensions (--cluster_pca_dim).",
        choices=("kmeans", "minibatch_kmeans", "hdbscan"),
        advanced=True,
    )
    kmeans_impl: str = flag(
        "tf",
        "Implementation of k-means: tf runs on the training device in chunks; sklearn needs all "
        "features in memory.",
        choices=("tf", "sklearn"),
        advanced=True,
    )
    cluster_features: str = flag(
        "embedding",
        "Features to cluster; res2 … res5 are averaged over pixels. NMI of clusters and classes "
        "with a Tiny ImageNet IAE: embedding 0.176, res2 0.179, res3 0.178, res4 0.179.",
        choices=FEATURES,
        advanced=True,
    )
    cluster_l2_normalize: bool = flag(
        False, "L2 normalization of the features. NMI as above: 0.176 → 0.184.", advanced=True
    )
    cluster_pca_dim: int = flag(
        0,
        "Principal components to keep (DeepCluster: 256); 0 skips PCA. NMI as above with 64: "
        "0.178, with L2 normalization 0.187.",
        minimum=0,
        advanced=True,
    )
    cluster_pca_whiten: bool = flag(
        True,
        "Whitening of the principal components. NMI as above without it: 0.175.",
        advanced=True,
    )
    core_fraction: float = flag(
        1.0,
        "Fraction of each cluster, nearest to its centroid, that enters triplets; the rest is "
        "only reconstructed.",
        minimum=0.0,
        maximum=1.0,
        advanced=True,
    )
    max_cluster_fraction: float = flag(
        0.5,
        "Fraction of the images in one cluster above which a collapse is reported.",
        minimum=0.0,
        maximum=1.0,
        advanced=True,
    )
    feature_budget_mb: int = flag(
        4096,
        "Memory for the features of a round, in MiB; larger features are kept on disk.",
        minimum=1,
        advanced=True,
    )
