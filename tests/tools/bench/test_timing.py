"""Jobs in turns, with a clock that the test moves."""

import pytest

from tools.bench import timing


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(timing, "undisturbed", lambda job: job())
    return now


def test_jobs_alternate_and_the_first_turn_does_not_count(clock):
    order = []

    def job(name, seconds):
        def once():
            order.append(name)
            clock[0] += seconds[order.count(name) - 1]

        return timing.seconds_each(once)

    found = timing.by_turns(2, a=job("a", [9, 1, 2]), b=job("b", [9, 3, 4]))
    assert order == ["a", "b"] * 3
    assert found == {"a": [1, 2], "b": [3, 4]}


def test_seconds_each_divides_by_the_runs(clock):
    def once():
        clock[0] += 2.5

    assert timing.seconds_each(once, 4)() == 2.5
    assert clock[0] == 10


def test_the_spread_is_half_the_interquartile_range():
    assert timing.spread([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == 2.0  # quartiles 2 and 6
    assert timing.spread([1.0]) == 0


def test_a_row_names_the_machine():
    row = timing.measured({"bench": "a"}, {"ours": [3.0, 1.0, 2.0]}, {"torch": "2.0"})
    assert row["median"] == {"ours": 2.0}
    assert row["versions"]["torch"] == "2.0"
    assert row["versions"]["tensorflow"]
    assert row["processor"]
    assert row["threads"] >= 1
