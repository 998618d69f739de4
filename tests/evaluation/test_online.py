"""The quick evaluation during a run: the chosen images, and the figures of known features."""

import numpy as np
import pytest

from mgta_tf.evaluation import online


def test_images_are_chosen_equally_from_all_classes():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 0])
    np.testing.assert_array_equal(online.choose(labels, 6), [0, 1, 4, 5, 6, 7])
    np.testing.assert_array_equal(online.choose(labels, 99), np.arange(10))


def test_chance_is_the_figure_of_constant_features():
    """The most frequent class; as AP, the share of positives, which a random order has."""
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    found = online.chance(labels)
    assert found["probe_top1"] == found["probe_knn"] == pytest.approx(60)
    assert found["probe_map"] == pytest.approx(100 / 3)


def test_separable_and_random_features():
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
