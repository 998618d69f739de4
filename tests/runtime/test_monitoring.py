"""Progress, durations, JSON."""

import glob
import io
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.runtime import monitoring
from mgta_tf.runtime.monitoring import Part, Progress, TurnLog, duration, profiled, write_json


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
    monkeypatch.setattr(monitoring.time, "monotonic", lambda: now[0])
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
    spent, judged = dict.fromkeys(total, 0.0), dict.fromkeys(total, 0)
    for part, took in script:
        for steps, seconds in took:
            clock[0] += seconds
            spent[part.stage] += seconds
            if part.steps and (steps, seconds) != took[-1]:
                progress.advance_to(steps)
                left = total[part.stage] - spent[part.stage]
                if spent[part.stage] > 0.1 * total[part.stage]:
                    judged[part.stage] += 1
                    # the first 2.5 s after a last step cannot be foreseen
                    assert progress.left(part.stage) == pytest.approx(left, rel=0.2, abs=2.6)
        progress.end_part()
    assert all(count > 10 for count in judged.values())
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


def test_json_has_null_for_what_it_cannot_say(tmp_path):
    path = tmp_path / "f.json"
    value = {"a": float("nan"), "b": np.float32(0.5), "c": np.arange(2), 3: (1, np.inf)}
    write_json(str(path), value)
    assert json.loads(path.read_text()) == {"a": None, "b": 0.5, "c": [0, 1], "3": [1, None]}


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f.json"
    write_json(str(path), {"old": 1})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(str(path), {"new": 1})
    assert json.loads(path.read_text()) == {"old": 1}


def monitors(loss, skipped=0.0):
    return {"loss": loss, "gradient_norm": loss, "skipped": skipped}


def walk(log, losses, first=0):
    """Feeds a log; returns the points."""
    points = []
    for step, loss in enumerate(losses, first):
        log.add(monitors(loss, float(not np.isfinite(loss))))
        if log.full() or step == 9:
            points.append(log.point(step + 1))
    return points


def without_seconds(row):
    return {key: value for key, value in row.items() if key != "seconds"}


def test_a_turn_is_its_first_window_and_the_means_of_its_last_epoch():
    log = TurnLog("turn", steps=10, epochs=2, every=3, max_skipped=0)
    points = walk(log, range(10))
    assert [point["loss"] for point in points] == [1, 4, 7, 9]
    summary = log.summary()
    assert summary["first"] == points[0]
    assert summary["loss"] == pytest.approx((4 + 7 + 9) / 3)  # windows that end after step 5


@pytest.mark.parametrize("kill", range(1, 10))
def test_a_turn_that_was_interrupted_says_the_same(kill):
    whole = TurnLog("turn", 10, 2, 3, 1)
    losses = [0.0, 1.0, float("nan"), 3.0, float("nan"), 5.0, 6.0, 7.0, 8.0, 9.0]
    points = walk(whole, losses)
    log = TurnLog("turn", 10, 2, 3, 1)
    found = walk(log, losses[:kill])
    state = json.loads(json.dumps(log.state(kill)))  # as a checkpoint holds it
    resumed = TurnLog("turn", 10, 2, 3, 1, state)
    found += walk(resumed, losses[kill:], first=kill)
    assert found == points
    assert without_seconds(resumed.summary()) == without_seconds(whole.summary())
    assert whole.summary()["skipped"] == 2
    assert points[0] == {"loss": 0.5, "gradient_norm": 0.5, "skipped": 1.0}


def test_too_many_steps_that_are_not_finite_in_a_row_stop_the_run():
    log = TurnLog("round 2: TMP N1 on D1", 10, 1, 3, max_skipped=2)
    bad = float("inf")
    with pytest.raises(UserError, match=r"^round 2: TMP N1 on D1, step 6: the loss is inf"):
        walk(log, [1.0, bad, bad, 1.0, bad, bad, bad, 1.0, 1.0])


def test_steps_left_out_for_the_loss_scale_alone_do_not_stop_the_run():
    """The loss is finite and the scale can fall; at 1, or where the loss is not, they count."""
    nan, scales = float("nan"), [2.0**n for n in range(15, -1, -1)] + [1.0] * 9

    def run(losses):
        log = TurnLog("turn", len(losses), 1, 1, max_skipped=2)
        for step, (loss, scale) in enumerate(zip(losses, scales), 1):
            log.add({"loss": loss, "gradient_norm": nan, "skipped": 1.0, "loss_scale": scale})
            log.point(step)
        return log.summary()

    assert run([1.0] * 17)["skipped"] == 17  # 15 that do not count, and the two that may be
    with pytest.raises(UserError, match=r"step 17: the loss is 1\.0 and its gradient nan"):
        run([1.0] * 18)
    with pytest.raises(UserError, match="step 2: the loss is nan"):
        run([nan] * 3)


def test_the_third_step_and_those_after_it_are_traced(tmp_path, monkeypatch):
    traced = []

    class Trace:
        def __init__(self, name, step_num, _r):
            self.name = f"{name} {step_num}"

        def __enter__(self):
            traced.append(self.name)

        def __exit__(self, *error):
            traced.append("end")

    monkeypatch.setattr(tf.profiler.experimental, "Trace", Trace)

    def steps(count):
        for step in range(count):
            traced.append(step)
            yield step

    def walk(count, profile, folder):
        """What was made, and when; and the number of traces on the disk."""
        traced.clear()
        assert list(profiled(steps(count), profile, str(tmp_path / folder))) == list(range(count))
        return traced, len(glob.glob(f"{tmp_path / folder}/**/*.xplane.pb", recursive=True))

    two = ["train 0", 2, "end", "train 1", 3, "end"]
    assert walk(6, 2, "six") == ([0, 1, *two, 4, 5], 1)
    assert walk(3, 2, "short") == ([0, 1, *two[:4], "end"], 1)
    assert walk(3, 0, "none") == ([0, 1, 2], 0)
