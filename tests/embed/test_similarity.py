"""Neighbors and groups against brute force and hand-worked cases."""

import numpy as np
import pytest

from mgta_tf.embed import similarity

RNG = np.random.default_rng(0)


def cosine_distances(vectors, queries):
    mean = vectors.mean(0)
    a, b = queries - mean, vectors - mean
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    return 1 - a @ b.T


def duplicates(units, distance):
    pairs = similarity.close_pairs(units, distance)
    return [group.tolist() for group in similarity.groups_of(pairs, len(units))]


def test_nearest_matches_brute_force_over_centered_cosines():
    vectors = RNG.normal(5, 1, (50, 8)).astype(np.float32)
    queries = RNG.normal(5, 1, (4, 8)).astype(np.float32)
    found = similarity.directions(vectors)
    distances, numbers = similarity.nearest(found.units, found.of(queries), 6)
    expected = cosine_distances(vectors.astype(np.float64), queries.astype(np.float64))
    order = np.argsort(expected, axis=1)[:, :6]
    np.testing.assert_array_equal(numbers, order)
    np.testing.assert_allclose(distances, np.take_along_axis(expected, order, 1), atol=1e-5)


def test_fewer_images_than_asked_for():
    found = similarity.directions(RNG.normal(size=(3, 4)).astype(np.float32))
    assert similarity.nearest(found.units, found.units[:1], 12)[1].shape == (1, 3)
    one = similarity.directions(np.ones((1, 4), np.float32))
    distances, numbers = similarity.nearest(one.units, one.of(np.ones((1, 4), np.float32)), 12)
    assert (distances.tolist(), numbers.tolist()) == ([[0.0]], [[0]])


def test_groups_of_points_match_a_case_by_hand():
    """On a circle: two pairs and a chain of three; distant points stay alone."""
    degrees = np.array([0, 120, 1, 240, 121, 60, 61.5, 63, 300])
    vectors = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)
    units = vectors.astype(np.float32)
    within = 1 - np.cos(np.radians(2))
    assert similarity.close_pairs(units, within).tolist() == [[0, 2], [1, 4], [5, 6], [6, 7]]
    assert duplicates(units, within) == [[5, 6, 7], [0, 2], [1, 4]]
    assert duplicates(units, -0.1) == []


def test_pairs_are_found_in_batches_that_are_passed_on(monkeypatch):
    """Against all pairs by brute force; no image is within NEIGHBORS of more than 20 others."""
    monkeypatch.setattr(similarity, "AT_ONCE", 7)
    units = similarity.directions(RNG.normal(size=(30, 2)).astype(np.float32)).units
    passed = []

    def over(batches):
        for batch in batches:
            passed.append(batch.tolist())
            yield batch

    found = similarity.close_pairs(units, 0.02, over)
    near = 1 - units.astype(np.float64) @ units.T <= 0.02
    assert found.tolist() == np.argwhere(np.triu(near, 1)).tolist()
    assert np.concatenate(passed).tolist() == list(range(30))
    assert max(map(len, passed)) == 7


def test_copies_of_one_image_are_one_group():
    """Only rounding errors remain after the mean is subtracted, and they have no direction."""
    copies = np.repeat(RNG.normal(3, 1, (1, 16)).astype(np.float32), 30, axis=0)
    assert duplicates(similarity.directions(copies).units, 0.05) == [list(range(30))]


def test_faiss_finds_the_same_duplicates(monkeypatch):
    pytest.importorskip("faiss", reason="faiss is not installed (requirements-bench.txt)")
    base = RNG.normal(size=(500, 16)).astype(np.float32)
    copies = base[:40] + RNG.normal(0, 0.01, (40, 16)).astype(np.float32)
    units = similarity.directions(np.concatenate([base, copies])).units
    exact = duplicates(units, 0.01)
    assert exact == [[i, 500 + i] for i in range(40)]
    monkeypatch.setattr(similarity, "EXACT", 100)
    assert duplicates(units, 0.01) == exact
