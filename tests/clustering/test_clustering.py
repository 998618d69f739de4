"""What happens to features before k-means, and what is said of labels after it."""

import dataclasses

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

from mgta_tf import clustering
from mgta_tf.clustering import ClusterConfig
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
    small = clustering.collect(batches_of(features, 64), 300, budget_mb=1, path=path)
    np.testing.assert_array_equal(small, features)
    assert not isinstance(small, np.memmap)
    wide = np.tile(features, (1, 30))  # 1.4 MiB
    large = clustering.collect(batches_of(wide, 64), 300, budget_mb=1, path=path)
    assert isinstance(large, np.memmap)
    np.testing.assert_array_equal(large, wide)


def test_pca_whitened_is_scikit_learns(features):
    config = dataclasses.replace(CONFIG, cluster_pca_dim=5)
    ours = clustering.prepare(features, config)
    exact = PCA(5, whiten=True, svd_solver="full").fit_transform(features.astype(np.float64))
    np.testing.assert_allclose(np.abs(ours), np.abs(exact), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(ours.std(0), 1, rtol=1e-2)
    plain = clustering.prepare(features, dataclasses.replace(config, cluster_pca_whiten=False))
    assert plain.std(0)[0] > 2


def test_length_one_comes_last(features):
    config = dataclasses.replace(CONFIG, cluster_pca_dim=5, cluster_l2_normalize=True)
    lengths = np.linalg.norm(clustering.prepare(features, config), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_a_collapsed_or_diverged_net_is_named(features):
    with pytest.raises(UserError, match="all features are equal"):
        clustering.prepare(np.ones((9, 3), np.float32), CONFIG)
    features[7, 3] = np.nan
    with pytest.raises(UserError, match="NaN"):
        clustering.prepare(features, CONFIG)


def test_diagnostics():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2], np.int32)
    truth = np.array([0, 0, 1, 1, 1, 1, 0, 0])
    previous = np.array([5, 5, 5, 5, 3, 3, -1, -1])
    said = clustering.diagnostics(labels, truth, previous)
    assert (said["largest"], said["median"], said["smallest"]) == (4, 2.0, 2)
    assert said["largest_fraction"] == 0.5
    assert said["nmi_previous"] == pytest.approx(1)  # among the six that had a label
    assert said["nmi_truth"] == pytest.approx(normalized_mutual_info_score(truth, labels))
    alone = clustering.diagnostics(labels)
    assert alone["nmi_truth"] is None
    assert alone["nmi_previous"] is None


def test_the_core_of_a_cluster_is_its_nearest_share():
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 2], np.int32)
    distances = np.array([4.0, 1.0, 1.0, 3.0, 2.0, 2.0, 3.0, 9.0])
    half = clustering.core(labels, distances, 0.5)  # 2 of 4, 2 of 3, 1 of 1
    np.testing.assert_array_equal(half, [-1, 1, 0, -1, 0, 1, -1, 2])
    np.testing.assert_array_equal(clustering.core(labels, distances, 1.0), labels)
