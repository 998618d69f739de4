"""Estimates of the time left, on hand-worked cases."""

import math

import numpy as np
import pytest

from mgta_tf.runtime import eta
from mgta_tf.runtime.eta import Work


def costs_of(*measurements):
    costs = {}
    for work, units, seconds, first in measurements:
        costs = eta.measured(costs, work, units, seconds, first)
    return costs


def test_work_is_priced_by_measurements_of_its_kind():
    train = Work("train", 100, weight=6.0)
    costs = costs_of((train, 10, 30.0, False))
    assert eta.seconds_left(costs, [Work("train", 70, 6.0)]) == pytest.approx(210)


def test_a_kind_without_measurements_is_priced_by_the_model():
    costs = costs_of((Work("train", 1, weight=384.0), 10, 30.0, False))
    assert eta.seconds_per_unit(costs, Work("encode", 1, weight=1.0)) == pytest.approx(3 / 384)
    assert math.isnan(eta.seconds_per_unit(costs, Work("cluster", 1)))
    assert math.isnan(eta.seconds_left({}, [Work("train", 5)]))
    assert eta.seconds_left(costs, []) == 0


def test_graphs_are_priced_separately_from_the_units_that_build_them():
    train = Work("train", 1, 6.0, builds=1.0)
    costs = costs_of((train, 1, 22.0, True), (train, 10, 20.0, False))
    assert eta.seconds_per_unit(costs, train) == pytest.approx(2)  # not (22 + 20) / 11
    assert eta.seconds_per_graph(costs) == pytest.approx(20)
    of_other_net = Work("train", 30, 6.0, builds=0.4)
    assert eta.seconds_left(costs, [of_other_net]) == pytest.approx(30 * 2 + 0.4 * 20)


def test_graphs_of_a_kind_without_measurements_are_priced():
    costs = costs_of(
        (Work("train", 1, 6.0, 1.0), 1, 22.0, True), (Work("train", 1), 10, 20.0, False)
    )
    unmeasured = eta.UNMEASURED * 20  # the cost without its graphs
    save = Work("save", 1, builds=0.6)
    assert eta.seconds_left(costs, [save]) == pytest.approx(0.6 * 20 + unmeasured)
    assert eta.seconds_left(costs, [Work("gallery", 1)]) == pytest.approx(unmeasured)
    assert math.isnan(eta.seconds_left(costs, [Work("cluster", 300)]))


def test_the_cost_of_graphs_is_subtracted_from_a_measurement():
    """20 s a graph; a clustering of 100 units took 32 s, of which 0.1 graphs are 2."""
    train, cluster = Work("train", 20, 6.0, 1.0), Work("cluster", 100, builds=0.1)
    costs = costs_of((train, 1, 22.0, True), (train, 10, 20.0, False), (cluster, 100, 32.0, True))
    graph = eta.seconds_per_graph(costs)
    found = eta.seconds_left(costs, [Work("cluster", 50)])
    assert found == pytest.approx((32 - 0.1 * graph) / 100 * 50)
    saved = costs_of((Work("save", 1, builds=0.6), 1, 10.0, True))
    assert eta.seconds_per_unit(saved, Work("save", 1)) == pytest.approx(eta.UNMEASURED * 10)


def test_newer_measurements_count_more():
    """A machine that becomes half as fast: after a half-life, old and new count 1 : 2."""
    train = Work("train", 1)
    costs = costs_of(*[(train, 1, 1.0, False)] * 3000)
    for _ in range(int(eta.HALF_LIFE / 2)):
        costs = eta.measured(costs, train, 1, 2.0, False)
    assert 1.3 < eta.seconds_per_unit(costs, train) < 1.7
    for _ in range(int(4 * eta.HALF_LIFE)):
        costs = eta.measured(costs, train, 1, 2.0, False)
    assert eta.seconds_per_unit(costs, train) == pytest.approx(2, rel=0.02)


def test_measuring_does_not_change_its_argument():
    before = costs_of((Work("train", 1), 1, 1.0, False))
    after = eta.measured(before, Work("train", 1), 1, 9.0, False)
    assert before != after
    assert np.isclose(eta.seconds_per_unit(before, Work("train", 1)), 1)
