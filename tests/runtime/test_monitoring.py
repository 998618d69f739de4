"""Progress, durations, JSON."""

import io
import json
import os

import numpy as np
import pytest

from mgta_tf.runtime import monitoring
from mgta_tf.runtime.monitoring import Progress, duration, write_json


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
