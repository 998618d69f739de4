"""k-means that is interrupted after any of its steps gives the same clusters."""

import os

import numpy as np
import pytest

from mgta_tf.clustering.clusterers import cluster
from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.clustering.journal import Journal
from mgta_tf.runtime import preemption

POINTS = np.random.default_rng(0).normal(size=(900, 8)).astype(np.float32)
CONFIG = ClusterConfig(num_clusters=40)


class Killed(BaseException):
    pass


class KillingJournal(Journal):
    """Saves every step, and raises Killed after `steps_to_live` of them."""

    def __init__(self, path, steps_to_live):
        super().__init__(path, every_secs=-1.0)
        self.steps_to_live = steps_to_live
        self.steps = []

    def step(self, state):
        self.steps.append(state.steps)
        super().step(state)
        if len(self.steps) == self.steps_to_live:
            raise Killed


@pytest.mark.parametrize("k", [40, "auto"])
def test_repeated_kills_give_the_same_clusters(tmp_path, k):
    config = CONFIG if k == 40 else ClusterConfig(num_clusters="auto", k_candidates="30,40,50")
    expected, _ = cluster(POINTS, config, seed=3)
    assert expected.steps > 6
    path, seen = str(tmp_path / "kmeans.npz"), []
    for steps_to_live in (1, 2, 3, 1000):
        journal = KillingJournal(path, steps_to_live)
        try:
            found, _ = cluster(POINTS, config, 3, journal=journal)
        except Killed:
            assert os.path.exists(path)
        seen += journal.steps
    assert seen == list(range(1, expected.steps + 1))  # no step twice
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.centroids, expected.centroids)
    np.testing.assert_array_equal(found.distances, expected.distances)
    assert not os.path.exists(path)


@pytest.mark.parametrize("what", ["points", "seed", "damage"])
def test_a_journal_of_another_clustering_or_a_damaged_one_is_ignored(tmp_path, what):
    path = str(tmp_path / "kmeans.npz")
    with pytest.raises(Killed):
        cluster(POINTS, CONFIG, 3, journal=KillingJournal(path, 2))
    if what == "damage":
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) // 2)
    points, seed = POINTS + (what == "points"), 3 + (what == "seed")
    journal = KillingJournal(path, 1000)
    found, _ = cluster(points, CONFIG, seed, journal=journal)
    expected, _ = cluster(points, CONFIG, seed)
    assert journal.steps[0] == 1
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_a_signal_saves_and_stops(tmp_path, monkeypatch):
    path = str(tmp_path / "kmeans.npz")
    monkeypatch.setattr(preemption, "_received", 15)
    with pytest.raises(preemption.Stopped):
        cluster(POINTS, CONFIG, 3, journal=Journal(path, every_secs=1e9))
    assert os.path.exists(path)
