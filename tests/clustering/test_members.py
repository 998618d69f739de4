"""Representative clusters, and samples of images, on hand-worked cases."""

import numpy as np
import pytest

from mgta_tf.clustering import members

#              cluster 0: rows 0, 3, 5;  1: rows 1, 2;  2: row 4;  noise: row 6;  3 is empty
LABELS = np.array([0, 1, 1, 0, 2, 0, -1], np.int32)
DISTANCES = np.array([3.0, 0.2, 0.1, 1.0, 0.0, 2.0, np.inf], np.float32)


def test_members_are_ranked_by_distance():
    assert [list(rows) for rows in members.ranked(LABELS, DISTANCES)] == [[3, 5, 0], [2, 1], [4]]


def test_the_representative_clusters():
    found = {one.kind: one for one in members.representative(LABELS, DISTANCES)}
    assert {kind: one.cluster for kind, one in found.items()} == {
        "largest": 0,
        "smallest": 2,
        "median": 1,  # also the tightest
    }
    assert found["largest"].images == 3
    assert found["largest"].mean_distance == 2.0
    assert list(found["largest"].nearest) == [3, 5, 0]
    assert list(found["largest"].farthest) == []


@pytest.mark.parametrize("clusters", [1, 2, 3, 4, 9])
def test_no_cluster_is_shown_twice(clusters):
    """Sizes 1, 2, 3, …; the larger, the tighter."""
    labels = np.repeat(np.arange(clusters), np.arange(clusters) + 1).astype(np.int32)
    distances = 1 / (1 + labels.astype(np.float32))
    found = {one.kind: one.cluster for one in members.representative(labels, distances)}
    assert len(set(found.values())) == len(found) == min(4, clusters)
    assert found["largest"] == clusters - 1
    if clusters == 9:
        assert found == {"largest": 8, "smallest": 0, "median": 4, "tightest": 7}


def test_nearest_and_farthest_members_do_not_overlap():
    labels, distances = np.zeros(12, np.int32), np.arange(12, dtype=np.float32)
    (one, *_) = members.representative(labels, distances)
    assert list(one.nearest) == list(range(8))
    assert list(one.farthest) == [8, 9, 10, 11]


def test_cluster_numbers_without_images_are_ignored():
    labels = np.array([5, 5, 2], np.int32)
    found = {one.kind: one for one in members.representative(labels, np.ones(3, np.float32))}
    assert {one.cluster for one in found.values()} == {2, 5}


def test_a_sample_takes_equally_from_all_clusters_and_distances():
    labels = np.repeat(np.arange(3), [100, 10, 1]).astype(np.int32)
    distances = np.arange(111, dtype=np.float32)
    rows = members.sample(labels, distances, 15)
    assert list(rows) == [0, 24, 49, 74, 99, 100, 102, 104, 106, 109, 110]
    assert sorted(members.sample(labels, distances, 1000)) == list(range(111))


def test_a_sample_below_the_number_of_clusters_takes_the_largest():
    assert list(members.sample(LABELS, DISTANCES, 2)) == [3, 2]
