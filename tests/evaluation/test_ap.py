"""Average precision against an explicit definition, and hand-worked cases."""

import numpy as np
import pytest

from mgta_tf.evaluation.ap import average_precision


def brute_force(targets, scores, method):
    """Walks the thresholds; precision at a recall is the best at that recall or beyond."""
    counted = [(s, t) for s, t in zip(scores, targets) if t != 0]
    positives = sum(t == 1 for _, t in counted)
    if not positives:
        return float("nan")
    points = []  # (hits, precision), a point for every threshold
    for threshold in sorted({s for s, _ in counted}, reverse=True):
        above = [t for s, t in counted if s >= threshold]
        hits = sum(t == 1 for t in above)
        points.append((hits, hits / len(above)))
    if method == "voc2007":
        at = [max([p for h, p in points if 10 * h >= k * positives]) for k in range(11)]
        return sum(at) / 11
    # each positive adds 1/positives of recall at the best precision from there on
    return sum(max(p for h, p in points if h >= n) for n in range(1, positives + 1)) / positives


@pytest.mark.parametrize("method", ["area", "voc2007"])
def test_random_rankings_with_ties_and_ignored_images(method):
    rng = np.random.default_rng(0)
    for _ in range(300):
        count = rng.integers(1, 25)
        targets = rng.choice([-1, 0, 1], count)
        scores = rng.integers(0, rng.integers(1, 12) + 1, count) / 4
        ours = average_precision(targets, scores, method)
        np.testing.assert_allclose(ours, brute_force(targets, scores, method), rtol=1e-12)


def test_order_among_ties_does_not_matter():
    targets, scores = np.array([1, -1, 1, -1]), np.array([2.0, 2.0, 2.0, 1.0])
    for order in ([0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3]):
        assert average_precision(targets[order], scores[order]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("targets", "area", "voc2007"),
    [
        ([1, 1, -1, -1], 1.0, 1.0),
        ([-1, 1], 0.5, 0.5),
        # precision 1 up to recall 1/2, 2/3 up to 1: 6 of the 11 recalls lie at or below 1/2
        ([1, -1, 1, -1], (1 + 2 / 3) / 2, (6 + 5 * 2 / 3) / 11),
        ([0, 1, 0, -1, 0], 1.0, 1.0),
    ],
)
def test_hand_worked_rankings(targets, area, voc2007):
    scores = -np.arange(len(targets), dtype=float)
    assert average_precision(np.array(targets), scores) == pytest.approx(area)
    assert average_precision(np.array(targets), scores, "voc2007") == pytest.approx(voc2007)


def test_average_precision_is_undefined_without_positives():
    assert np.isnan(average_precision(np.array([-1, 0, -1]), np.arange(3.0)))
