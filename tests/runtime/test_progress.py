"""Progress and durations."""

import io
import time

import numpy as np
import pytest

from mgta_tf.runtime.progress import Part, Progress, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (93600, "1 d 02 h"),
        (float("nan"), "?"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_eta_is_the_steps_left_at_the_pace_of_those_done(clock):
    stream = io.StringIO()
    progress = Progress([Part("supervised", 100)], 0, 20, 64, stream)  # resumed at 20
    clock[0] += 30
    progress.advance_to(30)
    progress.show("x")
    assert stream.getvalue() == "x · 30% · ETA 3 min 30 s\n"  # 70 steps of 3 s


def test_a_run_of_stages_says_both_what_is_left_of_the_stage_and_of_the_run(clock):
    stream = io.StringIO()
    parts = [Part("iae", 100), Part("mutual", 0, 640), Part("mutual", 50)]
    progress = Progress(parts, 0, 0, 64, stream)
    clock[0] += 33
    progress.advance_to(1)  # the first step builds the graph and says nothing of the others
    assert np.isnan(progress.left())
    clock[0] += 49 * 3
    progress.advance_to(50)
    progress.show("x")
    # 50 steps of 3 s, 640 images encoded at a third of what it costs to train on them, 50 steps
    assert stream.getvalue() == "x · stage 50%, ETA 2 min 30 s · run 33%, ETA 5 min 10 s\n"


def rehearsal(rounds):
    """(part, [(steps done, seconds they took)]): a net's first step builds its graph."""
    rng = np.random.default_rng(3)

    def training(stage, windows, seconds, graph=0.0):
        took = 20 * seconds * rng.uniform(0.9, 1.1, windows)
        steps = [(20 * (n + 1), s) for n, s in enumerate(took)]
        end = (20 * windows, 2.5)  # 2.5 s of pictures and checkpoint
        return Part(stage, 20 * windows), [(1, seconds + graph), *steps, end]

    yield training("iae", 40, 0.1, graph=8.0)
    for number in range(rounds):
        for net in (2, 1):
            yield Part("mutual", 0, 5000), [(0, 11.0 * rng.uniform(0.9, 1.1))]
            yield training("mutual", 12, 0.13, graph=8.0 if (number, net) == (0, 2) else 0.0)
    yield Part("final", 0, 10_000), [(0, 21.0)]
    yield training("final", 24, 0.13)


@pytest.mark.parametrize("rounds", [2, 10])
def test_eta_of_a_stage_is_right_within_a_fifth_after_its_first_tenth(clock, rounds):
    """A rehearsed run with labelling, graph building, pictures and noise, on a fake clock."""
    script = list(rehearsal(rounds))
    total = {
        stage: sum(seconds for part, took in script for _, seconds in took if part.stage == stage)
        for stage in ("iae", "mutual", "final")
    }
    progress = Progress([part for part, _ in script], 0, 0, 64, io.StringIO())
    spent, checked = dict.fromkeys(total, 0.0), dict.fromkeys(total, 0)
    for part, took in script:
        for steps, seconds in took:
            clock[0] += seconds
            spent[part.stage] += seconds
            if part.steps and (steps, seconds) != took[-1]:
                progress.advance_to(steps)
                left = total[part.stage] - spent[part.stage]
                if spent[part.stage] > 0.1 * total[part.stage]:
                    checked[part.stage] += 1
                    # the first 2.5 s after a last step cannot be foreseen
                    assert progress.left(part.stage) == pytest.approx(left, rel=0.2, abs=2.6)
        progress.end_part()
    assert all(count > 10 for count in checked.values())
    assert progress.left() == 0


def test_one_line_a_minute_unless_it_is_a_terminal(clock):
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        progress = Progress([Part("supervised", 200)], 0, 0, 64, stream)
        for step in range(1, 121):
            clock[0] += 1
            progress.advance_to(step)
            progress.show("x")
    assert file.getvalue().count("\n") == 2
    assert terminal.getvalue().count("\r") == 120
    assert "\n" not in terminal.getvalue()
