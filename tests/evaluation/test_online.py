"""The quick evaluation of a run: who is chosen, and what it says of features that are known."""

import numpy as np
import pytest

from mgta_tf.evaluation import online


def test_all_classes_alike_up_to_the_limit():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 0])
    np.testing.assert_array_equal(online.choose(labels, 6), [0, 1, 4, 5, 6, 7])
    np.testing.assert_array_equal(online.choose(labels, 99), np.arange(10))


def test_chance_is_what_constant_features_come_to():
    """The most frequent class; as AP, the share of positives, which a random order has."""
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    found = online.chance(labels)
    assert found["probe_top1"] == found["probe_knn"] == pytest.approx(60)
    assert found["probe_map"] == pytest.approx(100 / 3)


def test_features_that_tell_all_and_features_that_tell_nothing():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 40)
    clear = np.eye(5, dtype=np.float32)[labels] + rng.normal(0, 0.05, (200, 5)).astype(np.float32)
    noise = rng.normal(size=(200, 5)).astype(np.float32)
    assert online.evaluate(clear, labels) == {
        "probe_map": pytest.approx(100),
        "probe_top1": 100.0,
        "probe_knn": 100.0,
    }
    assert all(value < 45 for value in online.evaluate(noise, labels).values())
