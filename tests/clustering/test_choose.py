"""The number of clusters: eq. 2 against scikit-learn, criteria on data whose K is known."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import calinski_harabasz_score

from mgta_tf.clustering.choose import CRITERIA, choose_k, parse_candidates
from mgta_tf.clustering.lloyd import kmeans, kmeans_plus_plus
from mgta_tf.errors import UserError


@pytest.fixture(scope="module")
def blobs():
    """Seven round clusters, far apart."""
    rng = np.random.default_rng(3)
    centers = rng.normal(size=(7, 12)) * 8
    return make_blobs(700, centers=centers, cluster_std=1.0, random_state=0)[0].astype(np.float32)


@pytest.mark.parametrize("criterion", sorted(CRITERIA))
def test_the_known_number_of_clusters_is_found(blobs, criterion):
    choice = choose_k(blobs, range(3, 13), criterion, seed=1)
    assert choice.best_k == 7
    assert not choice.on_edge
    assert [row["k"] for row in choice.table] == list(range(3, 13))


def test_ch_matches_scikit_learn(blobs):
    start = kmeans_plus_plus(blobs, 20, seed=1)
    for row in choose_k(blobs, [2, 5, 7, 20], seed=1).table:
        found = kmeans(blobs, row["k"], 1, tolerance=1e-3, start=start)
        assert row["ch"] == pytest.approx(calinski_harabasz_score(blobs, found.labels), rel=1e-4)
        assert row["inertia"] == pytest.approx(found.inertia)
        assert row["seconds"] > 0


def test_without_clear_clusters_ch_falls_and_on_edge_is_true():
    points = np.random.default_rng(0).normal(size=(800, 30)).astype(np.float32)
    choice = choose_k(points, [5, 10, 20, 40], seed=0)
    assert choice.best_k == 5
    assert choice.on_edge
    scores = [row["ch"] for row in choice.table]
    assert scores == sorted(scores, reverse=True)


def test_gap_chooses_few_clusters_in_uniform_data():
    points = np.random.default_rng(0).uniform(size=(400, 2)).astype(np.float32)
    assert choose_k(points, [2, 3, 4, 5], "gap", seed=0).best_k <= 3


def test_same_seed_same_table(blobs):
    tables = [choose_k(blobs, [4, 8], "stability", seed=s).table for s in (1, 1)]
    for a, b in zip(*tables):
        assert (a["ch"], a["score"]) == (b["ch"], b["score"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("50:500:10", tuple(range(50, 501, 50))), ("2:4:2", (2, 4)), ("3,5,9", (3, 5, 9))],
)
def test_candidates(text, expected):
    assert parse_candidates(text) == expected


@pytest.mark.parametrize("text", ["", "5,4", "1:9:3", "a:b:c", "2:3:9", "9:2:3", "4:4"])
def test_bad_candidates_are_named(text):
    with pytest.raises(UserError, match=f"--k_candidates={text}"):
        parse_candidates(text)


def test_more_clusters_than_points(blobs):
    with pytest.raises(UserError, match="20, must be below the 20 points"):
        choose_k(blobs[:20], [2, 20])
