"""The flags of GLP (§3.2)."""

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
