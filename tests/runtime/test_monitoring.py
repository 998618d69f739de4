"""Progress, durations, JSON."""

import io
import json
import os

import numpy as np
import pytest

from mgta_tf.errors import UserError
from mgta_tf.runtime import monitoring
from mgta_tf.runtime.monitoring import Progress, TurnLog, duration, write_json


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


def test_eta_is_the_steps_left_at_the_speed_of_those_done(clock):
    stream = io.StringIO()
    progress = Progress(total_steps=100, done_steps=20, stream=stream)  # resumed at 20
    clock[0] += 30
    progress.advance(10)
    progress.show("x")
    assert stream.getvalue() == "x · 30% · ETA 3 min 30 s\n"  # 70 steps of 3 s


def test_one_line_a_minute_unless_it_is_a_terminal(clock):
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        progress = Progress(100, 0, stream)
        for _ in range(120):
            clock[0] += 1
            progress.advance(1)
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
