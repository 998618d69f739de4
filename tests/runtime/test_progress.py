"""Progress: estimates on simulated runs, and the lines of terminals and log files."""

import dataclasses
import io
import re
import time

import numpy as np
import pytest

from mgta_tf.runtime import progress as progress_lib
from mgta_tf.runtime.eta import Work
from mgta_tf.runtime.progress import Progress, counting, duration


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


def test_eta_is_the_remaining_steps_at_the_speed_of_the_finished_ones(clock):
    progress = Progress([Work("train", 100)], done=20, stream=io.StringIO())  # resumed at 20
    assert np.isnan(progress.left())
    clock[0] += 30
    progress.advance_to(30)
    assert progress.left() == pytest.approx(70 * 3)
    assert progress.share() == pytest.approx(0.3)
    assert progress.speed() == pytest.approx(1 / 3)
    clock[0] += 2  # within the next step
    assert progress.left() == pytest.approx(70 * 3 - 2)


def test_an_unknown_total_has_a_count_and_a_speed(clock):
    progress = counting(float("inf"), builds=1.0)
    for _ in range(2):
        clock[0] += 10
        progress.advance(20)
    assert progress.line() == "20 s so far · 40 images · 2 images/s"
    assert progress.share() == 0


def test_the_share_is_of_time_also_in_a_resumed_run(clock):
    """20 s of saving, 30 steps of 2 s and 20 s of saving, of which 40 s are over.

    The second run resumes at step 10 of 40.
    """
    works = [Work("save", 1), Work("train", 30), Work("save", 1)]
    progress = Progress(works, stream=io.StringIO())
    clock[0] += 20
    progress.end()
    clock[0] += 20
    progress.advance_to(10)
    assert progress.share() == pytest.approx(40 / (20 + 60 + 20))
    resumed = Progress([Work("train", 40)], done=10, stream=io.StringIO())
    clock[0] += 20
    resumed.advance_to(20)
    assert resumed.share() == pytest.approx(0.5)


def test_the_time_left_is_never_negative(clock):
    progress = Progress([Work("save", 1), Work("train", 10), Work("save", 1)], stream=io.StringIO())
    clock[0] += 2
    progress.end()
    clock[0] += 10
    progress.end()
    clock[0] += 100
    assert progress.left() == 0


def test_a_piece_that_ends_when_the_next_begins_has_been_measured(clock):
    """Pictures of 9 s, then of 3 s: two more cost 3 s each, and the graph of the first is apart."""
    show = [Work("show", 1, builds=1.0), Work("train", 1), Work("show", 1), Work("train", 1)]
    works = [Work("train", 1), *show, *show[2:]]
    progress = Progress(works, stream=io.StringIO())
    for kind, seconds in (("train", 1), ("show", 9), ("train", 1), ("show", 3), ("train", 1)):
        progress.begin(kind)
        clock[0] += seconds
    progress.begin("show")
    assert progress.left() == pytest.approx(3 + 1)


def test_beginning_a_kind_skips_the_work_before_it(clock):
    """The labeller of an experiment may encode nothing: the work that it skips counts as done."""
    works = [Work("encode", 100), Work("cluster", 1), Work("gallery", 1), Work("train", 4)]
    progress = Progress(works, stream=io.StringIO())
    progress.begin("gallery")
    clock[0] += 2
    progress.end()
    progress.begin("train")
    clock[0] += 3
    progress.advance(1)
    assert progress.left() == pytest.approx(9)


@dataclasses.dataclass(frozen=True)
class Took:
    """The simulated cost of a piece of work: seconds of each tick, and units per tick.

    units: 0 for a piece that ends when the next one begins, as most do. stage: where it is.
    """

    work: Work
    units: float
    seconds: list[float]
    stage: str = ""


def simulated_run(rounds, graph, encoder):
    """A simulated run of three stages, whose costs differ from the model's by 10 to 50 %.

    graph: seconds to build the first net's training graph. encoder: seconds per image.
    """
    rng, step = np.random.default_rng(3), 6 * 64
    built = set()

    def once(kind, net, seconds, weight, weight_again):
        again = any(kind == other for other, _ in built)
        if (kind, net) in built:
            return 0.0, 0.0
        built.add((kind, net))
        return (0.5 if again else 1.0) * seconds, weight_again if again else weight

    def train(stage, net, steps):
        seconds, builds = once("train", net, graph, 1.0, 0.4)
        pace = 6 * 64 * encoder * rng.uniform(0.9, 1.1)
        took = list(pace * rng.uniform(0.8, 1.2, steps))
        yield Took(Work("train", steps, step, builds), 1, [seconds + took[0], *took[1:]], stage)
        seconds, builds = once("show", net, 0.15 * graph, 0.2, 0.07)
        yield Took(Work("show", 1, builds=builds), 0, [seconds + 0.3])
        yield save()

    def save():
        seconds, builds = once("save", 0, 0.4 * graph, 0.6, 0.0)
        return Took(Work("save", 1, builds=builds), 1, [seconds + 0.4])

    def label(images):
        seconds, builds = once("encode", 0, 0.1 * graph, 0.04, 0.0)
        took = [1.3 * 64 * encoder * rng.uniform(0.8, 1.2) for _ in range(images // 64)]
        took[0] += seconds
        yield Took(Work("encode", images // 64 * 64, 1.0, builds), 64, took)
        yield Took(Work("cluster", 300 * images), 0, [images * encoder * 0.2])
        yield Took(Work("gallery", 1), 0, [0.4])
        yield save()

    yield from train("iae", 1, 800)
    for _ in range(rounds):
        for net in (2, 1):
            yield from label(5000)
            yield from train("mutual", net, 240)
    yield from label(10_000)
    yield from train("final", 2, 480)


@pytest.mark.parametrize("rounds", [2, 10])
@pytest.mark.parametrize(("graph", "encoder"), [(8.0, 0.0003), (40.0, 0.0003), (8.0, 0.01)])
def test_eta_is_right_within_a_fifth_after_a_tenth_of_the_run(clock, rounds, graph, encoder):
    """On a fake clock, at every tick of every stage, until seconds are left.

    With the small encoder, the first graph takes more than that tenth: checks begin after it.
    """
    script = list(simulated_run(rounds, graph, encoder))
    total = sum(sum(one.seconds) for one in script)
    progress = Progress([one.work for one in script], stream=io.StringIO())
    began, wrong, checked = clock[0], [], set()
    for one in script:
        progress.begin(one.work.kind)
        for seconds in one.seconds:
            clock[0] += seconds
            if one.units:
                progress.advance(one.units)
            spent = clock[0] - began
            if spent > max(0.1 * total, script[0].seconds[0]) and total - spent > 0.02 * total:
                checked.add(one.stage)
                wrong.append(abs(progress.left() / (total - spent) - 1))
        if one.work.kind == "save":
            progress.end()
    assert {"iae", "mutual", "final"} <= checked
    assert max(wrong) < 0.2
    assert progress.left() == 0
    assert progress.share() == 1


def test_without_a_terminal_a_line_is_written_every_minute(clock):
    file = io.StringIO()
    progress = Progress([Work("train", 200)], stream=file)
    for step in range(1, 121):
        clock[0] += 1
        progress.advance_to(step)
        progress.say("loss 1")
        progress.redraw()
    assert file.getvalue().splitlines() == [
        "30% · ETA 2 min 20 s · loss 1",
        "60% · ETA 1 min 20 s · loss 1",
    ]


def test_units_with_a_name_are_counted(clock):
    progress = counting(4000, done=1000)
    clock[0] += 2
    progress.advance(1000)
    assert progress.line() == "ETA 4 s · 2,000 of 4,000 images · 500 images/s"


def test_without_an_estimate_the_elapsed_time_is_shown(clock):
    progress = Progress([Work("export", 1)], stream=io.StringIO())
    progress.say("writing")
    clock[0] += 7
    assert progress.line() == "7 s so far · writing"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_hanging_step_does_not_reduce_the_time_of_the_others(clock):
    progress = Progress([Work("train", 10)], stream=io.StringIO())
    clock[0] += 2
    progress.advance(1)
    clock[0] += 100
    assert progress.left() == pytest.approx(8 * 2)


def test_a_terminal_shows_a_live_bar_that_is_cleared_at_the_end(monkeypatch, clock):
    """A thread draws it while the caller waits; notes are printed above it."""
    monkeypatch.setattr(progress_lib, "SECONDS_LIVE", 0.01)
    terminal = Terminal()
    with Progress([Work("train", 10)], stream=terminal) as progress:
        clock[0] += 4
        progress.advance_to(4)
        progress.note("a line that stays")
        for _ in range(1000):
            if terminal.getvalue().count("40%") >= 3:
                break
            time.sleep(0.01)
    drawn = terminal.getvalue()
    assert drawn.count("40%") >= 3
    assert re.search(r" 40%\|.+\| ETA", drawn)
    assert "a line that stays\n" in drawn
    last = drawn.rsplit("\n", 1)[1]
    assert last.endswith("\r")
    assert not last.split("\r")[-2].strip()  # blank
