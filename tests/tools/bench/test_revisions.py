"""The times of a run's steps, from hand-made records."""

import pytest

from tools.bench.revisions import by_stage


def test_seconds_of_a_step_exclude_building_graphs_and_the_pause_between_turns():
    times = {20: 30.0, 40: 32.0, 60: 34.0, 80: 60.0, 100: 61.0, 120: 62.0}
    # Turn 1: steps 1 to 60, 0.1 s each. Turn 2 begins after 60; its graph takes until step 80.
    assert by_stage([("iae", 60), ("mutual", 60)], times) == {
        "iae": pytest.approx(0.1),
        "mutual": pytest.approx(0.05),
    }


def test_a_pause_does_not_move_the_median():
    times = {20: 0.0, 40: 2.0, 60: 4.0, 80: 106.0, 100: 108.0}
    assert by_stage([("iae", 100)], times) == {"iae": pytest.approx(0.1)}
