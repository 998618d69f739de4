"""Intervals and order of the quickstart's table."""

import numpy as np
import pytest

from tools.quickstart import evaluation


def test_the_interval_matches_a_bootstrap_of_the_images():
    right = np.arange(400) % 4 > 0
    found = evaluation.interval(right)
    rng = np.random.default_rng(1)
    drawn = [100 * right[rng.integers(0, 400, 400)].mean() for _ in range(4000)]
    assert found["value"] == 75
    assert found["low"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.4)
    assert found["high"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.4)


def of(*values, spread=1.0):
    return {
        name: {"value": value, "low": value - spread, "high": value + spread}
        for name, value in zip(evaluation.ORDER, values)
    }


@pytest.mark.parametrize(
    ("found", "ordered", "separated"),
    [
        (of(10, 20, 30, 40), True, True),
        (of(10, 11, 30, 40), True, False),
        (of(20, 10, 30, 40), False, False),
        (of(10, 20, 40, 30), False, False),
        (of(10, 12, 14, 16), True, False),  # intervals that touch
    ],
)
def test_order_and_gaps(found, ordered, separated):
    assert evaluation.ordered(found) is ordered
    assert evaluation.separated(found) is separated
