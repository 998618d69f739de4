"""k-means against scikit-learn from the same start, and on difficult points."""

import pathlib
import sys

import numpy as np
import pytest
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.datasets import make_blobs

from mgta_tf.clustering import clusters
from mgta_tf.clustering.clusters import take
from mgta_tf.clustering.lloyd import Start, assign, kmeans, kmeans_plus_plus
from mgta_tf.errors import UserError


def points_of(count, dimensions, centers, spread=4.0, seed=0):
    x, _ = make_blobs(count, dimensions, centers=centers, cluster_std=spread, random_state=seed)
    return x.astype(np.float32)


@pytest.mark.parametrize(
    ("count", "dimensions", "k"), [(500, 2, 7), (800, 20, 12), (300, 200, 25), (60, 5, 50)]
)
def test_labels_and_inertia_match_scikit_learn_from_the_same_start(count, dimensions, k):
    points = points_of(count, dimensions, centers=10)
    ours = kmeans(points, k, seed=3, max_steps=300, tolerance=0)
    start = points[np.sort(kmeans_plus_plus(points, k, seed=3).indices)]
    theirs = SklearnKMeans(k, init=start, n_init=1, max_iter=300, tol=0).fit(points)
    np.testing.assert_array_equal(ours.labels, theirs.labels_)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-4)
    np.testing.assert_allclose(ours.centroids, theirs.cluster_centers_, rtol=1e-3, atol=1e-3)


def test_distances_inertia_and_scatter_match_the_labels():
    points = points_of(700, 30, centers=9)
    found = kmeans(points, 9, seed=0)
    differences = points.astype(np.float64) - found.centroids[found.labels]
    np.testing.assert_allclose(found.distances, np.linalg.norm(differences, axis=1), rtol=1e-4)
    assert found.inertia == pytest.approx(np.square(differences).sum(), rel=1e-4)
    total = np.square(points - points.mean(0, dtype=np.float64)).sum()
    assert found.scatter == pytest.approx(total, rel=1e-5)
    assert found.labels.dtype == np.int32


def test_same_seed_same_labels_and_chunks_do_not_matter(monkeypatch):
    points = points_of(900, 40, centers=15)
    first, again, other = (kmeans(points, 15, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.labels, again.labels)
    assert not np.array_equal(first.labels, other.labels)
    monkeypatch.setattr(clusters, "CHUNK_VALUES", 40 * 37)
    np.testing.assert_array_equal(first.labels, kmeans(points, 15, 5).labels)


def test_points_in_a_file_are_clustered_as_points_in_memory(tmp_path):
    points = points_of(400, 16, centers=8)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    np.testing.assert_array_equal(kmeans(points, 8, 0).labels, kmeans(mapped, 8, 0).labels)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/smaps")
def test_points_in_a_file_are_read_and_not_mapped(tmp_path):
    """Pages of the file that are mapped count as memory of the process."""
    path = tmp_path / "points.npy"
    rng = np.random.default_rng(0)
    np.save(path, rng.standard_normal((4000, 512)).astype(np.float32))
    points = np.load(path, mmap_mode="r")
    kmeans(points, 50, 0, max_steps=1)
    _, _, after = pathlib.Path("/proc/self/smaps").read_text().partition(str(path))
    resident = int(after.split("Rss:")[1].split()[0])  # kB
    assert resident < 1024  # of 8,000
    assert np.array_equal(take(points, np.array([3, 1])), np.asarray(points)[[3, 1]])


def test_far_from_the_origin_distances_do_not_cancel():
    points = points_of(400, 8, centers=5, spread=0.5)
    near, far = kmeans(points, 5, 0), kmeans(points + 1000, 5, 0)
    assert far.inertia == pytest.approx(near.inertia, rel=1e-3)


@pytest.mark.parametrize(
    ("distinct", "copies", "k"), [(30, 40, 30), (50, 20, 45), (200, 1, 199), (3, 500, 3)]
)
def test_no_cluster_is_empty_among_many_duplicates(distinct, copies, k):
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(distinct, 6)).astype(np.float32), copies, axis=0)
    points = rng.permutation(points)
    for seed in range(3):
        found = kmeans(points, k, seed)
        assert (np.bincount(found.labels, minlength=k) > 0).all()
        if k == distinct:
            assert found.inertia == pytest.approx(0, abs=1e-6)


def test_an_emptied_cluster_is_reseeded_and_counted():
    """No point is nearest to the second of these initial centroids."""
    points = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [30.0]], np.float32)
    start = Start(points.mean(0), np.array([0, 0, 3]), scatter=float(points.var() * 6))
    found = kmeans(points, 3, 0, start=start)
    assert found.reseeded == 1
    assert sorted(np.bincount(found.labels)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("points", "k", "message"),
    [
        (np.zeros((4, 2)), 5, "5 clusters are more than the 4 points"),
        (
            np.repeat([[0.0, 1.0], [2.0, 3.0]], 9, axis=0),
            3,
            "only 2 distinct points for 3 clusters",
        ),
        (np.full((5, 2), np.nan), 2, "NaN"),
        (np.array([[0.0], [np.inf], [1.0]]), 2, "infinity"),
    ],
)
def test_what_cannot_be_clustered_is_refused(points, k, message):
    with pytest.raises(UserError, match=message):
        kmeans(points.astype(np.float32), k, 0)


def test_a_longer_initialization_serves_fewer_clusters():
    points = points_of(500, 10, centers=8)
    start = kmeans_plus_plus(points, 20, seed=1)
    assert len(set(start.indices)) == 20
    found = kmeans(points, 8, 0, start=start)
    fresh = kmeans(points, 8, 1)
    assert len(found.centroids) == 8
    assert found.inertia == pytest.approx(fresh.inertia, rel=0.1)


def test_assignment_is_to_the_nearest():
    points = points_of(300, 10, centers=8) + 50
    centroids = points[:9]
    distance = np.linalg.norm(points[:, None].astype(np.float64) - centroids[None], axis=2)
    np.testing.assert_array_equal(assign(points, centroids), distance.argmin(1))
