"""Features before k-means, the clusterers, and the diagnostics of their labels."""

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from mgta_tf.clustering import clusters
from mgta_tf.clustering.clusterers import cluster, core
from mgta_tf.clustering.clusters import clusters_of
from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.clustering.diagnostics import describe_clusters
from mgta_tf.clustering.features import collect, prepare
from mgta_tf.errors import UserError

CONFIG = ClusterConfig()


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(300, 40)) * np.linspace(5, 0.1, 40) + 3).astype(np.float32)


def batches_of(array, size):
    return (array[i : i + size] for i in range(0, len(array), size))


def test_features_are_collected_in_order_in_memory_or_in_a_file(features, tmp_path):
    path = str(tmp_path / "features" / "f.npy")
    small = collect(batches_of(features, 64), 300, budget_mb=1, path=path)
    np.testing.assert_array_equal(small, features)
    assert not isinstance(small, np.memmap)
    wide = np.tile(features, (1, 30))  # 1.4 MiB
    large = collect(batches_of(wide, 64), 300, budget_mb=1, path=path)
    assert isinstance(large, np.memmap)
    np.testing.assert_array_equal(large, wide)


def test_whitened_pca_matches_scikit_learn(features):
    config = dataclasses.replace(CONFIG, cluster_pca_dim=5)
    ours = prepare(features, config)
    exact = PCA(5, whiten=True, svd_solver="full").fit_transform(features.astype(np.float64))
    np.testing.assert_allclose(np.abs(ours), np.abs(exact), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(ours.std(0), 1, rtol=1e-2)
    plain = prepare(features, dataclasses.replace(config, cluster_pca_whiten=False))
    assert plain.std(0)[0] > 2


def test_normalization_to_length_1_comes_last(features):
    config = dataclasses.replace(CONFIG, cluster_pca_dim=5, cluster_l2_normalize=True)
    lengths = np.linalg.norm(prepare(features, config), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_a_collapsed_or_diverged_net_is_reported(features):
    with pytest.raises(UserError, match="all features are equal"):
        prepare(np.ones((9, 3), np.float32), CONFIG)
    features[7, 3] = np.nan
    with pytest.raises(UserError, match="NaN"):
        prepare(features, CONFIG)


def found_of(labels, features=None):
    labels = np.asarray(labels, np.int32)
    points = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    return clusters_of(points if features is None else features, labels, 1, 0.0)


def test_diagnostics():
    found = found_of([0, 0, 0, 0, 1, 1, 2, 2])
    truth = np.array([0, 0, 0, 1, 1, 1, 0, 0])
    previous = np.array([5, 5, 5, 5, 3, 3, -1, -1])
    row = describe_clusters(found, truth, previous)
    assert (row["largest"], row["median"], row["smallest"]) == (4, 2.0, 2)
    assert (row["num_clusters"], row["noise"], row["largest_fraction"]) == (3, 0, 0.5)
    assert row["nmi_previous"] == pytest.approx(1)  # of the six that had a label before
    assert row["ari_previous"] == pytest.approx(1)
    assert row["nmi_truth"] == pytest.approx(normalized_mutual_info_score(truth, found.labels))
    assert row["ari_truth"] == pytest.approx(adjusted_rand_score(truth, found.labels))
    assert row["purity"] == pytest.approx(7 / 8)  # 3 of 4, 2 of 2, 2 of 2
    alone = describe_clusters(found)
    assert [alone[k] for k in ("nmi_truth", "ari_truth", "purity", "nmi_previous")] == [None] * 4


@pytest.mark.parametrize(("clusters", "low", "high"), [(2, 0.0, 0.02), (200, 0.4, 0.8)])
def test_agreement_with_classes_comes_with_that_by_chance(clusters, low, high):
    """By chance, 200 clusters of two images agree with any classes; 2 clusters of 200 do not."""
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 10, 400)
    unrelated = describe_clusters(found_of(np.arange(400) % clusters), truth)
    assert low <= unrelated["nmi_chance"] <= high
    assert unrelated["nmi_chance"] == pytest.approx(unrelated["nmi_truth"], abs=0.03)
    perfect = describe_clusters(found_of(truth), truth)
    assert perfect["nmi_truth"] == pytest.approx(1)
    assert perfect["nmi_chance"] < 0.1
    assert describe_clusters(found_of(truth))["nmi_chance"] is None


def test_noise_is_ignored():
    row = describe_clusters(found_of([0, 0, 1, 1, -1, -1]), np.array([3, 3, 4, 4, 3, 4]))
    assert (row["noise"], row["num_clusters"], row["smallest"]) == (2, 2, 2)
    assert row["nmi_truth"] == row["ari_truth"] == row["purity"] == pytest.approx(1)
    labels = np.array([1, -1, 1, 0], np.int32)
    distances = np.array([2.0, np.inf, 1.0, 5.0])
    np.testing.assert_array_equal(core(labels, distances, 0.5), [-1, -1, 1, 0])


def test_clusters_of_labels_match_values_computed_by_hand():
    points = np.array([[0, 0], [2, 0], [10, 0], [10, 4], [99, 99]], np.float32)
    found = found_of([4, 4, 7, 7, -1], points)
    np.testing.assert_array_equal(found.labels, [0, 0, 1, 1, -1])
    np.testing.assert_allclose(found.centroids, [[1, 0], [10, 2]], atol=1e-5)
    np.testing.assert_allclose(found.distances, [1, 1, 2, 2, np.inf])
    assert found.inertia == pytest.approx(10)
    with pytest.raises(UserError, match="all points are noise"):
        found_of([-1, -1])


def blobs(count=7, each=60):
    rng = np.random.default_rng(4)
    return make_blobs(count * each, centers=rng.normal(size=(count, 6)) * 20, random_state=0)


@pytest.mark.parametrize(
    "flags",
    [
        dict(num_clusters=7),
        dict(num_clusters=7, kmeans_impl="sklearn"),
        dict(num_clusters=7, clusterer="minibatch_kmeans"),
        dict(clusterer="hdbscan"),
        dict(num_clusters="auto", k_candidates="3:12:10"),
        dict(num_clusters="adaptive", k_candidates="3:12:10", k_criterion="stability"),
    ],
)
def test_every_clusterer_finds_blobs(flags):
    points, truth = blobs()
    config = dataclasses.replace(CONFIG, **flags)
    found, choice = cluster(points.astype(np.float32), config, seed=1)
    known = found.labels >= 0
    assert known.mean() > 0.9
    assert adjusted_rand_score(truth[known], found.labels[known]) > 0.99
    assert (choice is not None) == isinstance(config.num_clusters, str)


def test_hdbscan_labels_points_between_clusters_as_noise():
    points, _ = blobs()
    far = np.random.default_rng(1).uniform(-200, 200, (40, 6))
    config = dataclasses.replace(CONFIG, clusterer="hdbscan")
    both = np.concatenate([points, far]).astype(np.float32)
    found, _ = cluster(both, config, seed=1)
    assert (found.labels[len(points) :] == clusters.NOISE).mean() > 0.9


def test_auto_is_chosen_once_adaptive_each_time():
    points = blobs()[0].astype(np.float32)
    config = dataclasses.replace(CONFIG, num_clusters="auto", k_candidates="3:12:10")
    found, choice = cluster(points, config, seed=1, chosen=4)
    assert (len(found.centroids), choice) == (4, None)
    config = dataclasses.replace(config, num_clusters="adaptive")
    found, choice = cluster(points, config, seed=1, chosen=4)
    assert len(found.centroids) == choice.best_k == 7


def test_features_on_disk_are_prepared_on_disk_and_give_the_same_clusters(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "CHUNK_VALUES", 100 * 64)  # 100 points a chunk
    rng = np.random.default_rng(0)
    wide = (blobs()[0] @ rng.normal(size=(6, 64))).astype(np.float32)
    mapped = collect(batches_of(wide, 64), len(wide), 0, str(tmp_path / "f" / "x.npy"))
    assert isinstance(mapped, np.memmap)
    config = dataclasses.replace(
        CONFIG, num_clusters=7, cluster_pca_dim=5, cluster_l2_normalize=True
    )
    prepared = prepare(mapped, config)
    assert isinstance(prepared, np.memmap)
    assert prepared.shape == (len(wide), 5)
    np.testing.assert_allclose(np.linalg.norm(prepared, axis=1), 1, rtol=1e-5)
    here, there = (cluster(x, config, seed=1)[0].labels for x in (wide, mapped))
    assert adjusted_rand_score(here, there) > 0.99


def test_the_core_of_a_cluster_is_its_nearest_share():
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 2], np.int32)
    distances = np.array([4.0, 1.0, 1.0, 3.0, 2.0, 2.0, 3.0, 9.0])
    half = core(labels, distances, 0.5)  # 2 of 4, 2 of 3, 1 of 1
    np.testing.assert_array_equal(half, [-1, 1, 0, -1, 0, 1, -1, 2])
    np.testing.assert_array_equal(core(labels, distances, 1.0), labels)
