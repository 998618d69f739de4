"""The precision of neighbors against brute force and hand-worked cases."""

import numpy as np
import pytest

from tools.bench import search


def precision_by_loops(points, labels, top):
    shares = []
    for i, point in enumerate(points):
        order = sorted((np.linalg.norm(point - p), j) for j, p in enumerate(points) if j != i)
        shares.append(np.mean([labels[j] == labels[i] for _, j in order[:top]]))
    return 100 * np.mean(shares)


def test_precision_matches_loops():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 40)
    assert search.precision(points, labels, 7) == pytest.approx(
        precision_by_loops(points, labels, 7)
    )


def test_equal_points_do_not_count_themselves():
    """Among 20 equal points, the query may be missing from its own nearest; it is never a hit."""
    labels = np.zeros(20, int)
    assert search.precision(np.ones((20, 3), np.float32), labels, 12) == 100


def test_chance_is_the_share_of_the_other_images_of_the_class():
    assert search.chance(np.array([0, 0, 1, 1])) == pytest.approx(100 / 3)
    assert search.chance(np.array([0, 0, 0, 1])) == pytest.approx(100 * (2 + 2 + 2 + 0) / 12)
