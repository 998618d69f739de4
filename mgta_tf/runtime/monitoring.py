"""What a run shows while it runs: TensorBoard, one progress line, `summary.json`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.errors import UserError


class Board:
    """TensorBoard files: `net1` and `net2` with the same tags, so they share axes, and `run`."""

    def __init__(self, directory: str):
        self._writers = {
            name: tf.summary.create_file_writer(os.path.join(directory, name))
            for name in ("net1", "net2", "run")
        }

    def scalars(self, writer: str, step: int, values: dict[str, float]) -> None:
        with self._writers[writer].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def images(self, writer: str, step: int, name: str, images: np.ndarray) -> None:
        """Shows uint8 images [N, H, W, 3], all of them."""
        with self._writers[writer].as_default(step=step):
            tf.summary.image(name, images, max_outputs=len(images))

    def histogram(self, writer: str, step: int, name: str, values: np.ndarray) -> None:
        with self._writers[writer].as_default(step=step):
            tf.summary.histogram(name, values)

    def text(self, name: str, markdown: str) -> None:
        with self._writers["run"].as_default(step=0):
            tf.summary.text(name, markdown)

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()


class TurnLog:
    """What the steps of a turn have shown so far.

    Its state is part of a checkpoint, so that a run that was interrupted says what an undisturbed
    one would: windows of `every` steps count from the beginning of the turn.

    Args:
      where: The turn in words: stage, round, net.
      steps: Of the turn.
      epochs: Into which they fall.
      every: Steps of a window.
      max_skipped: Steps in a row that may be left out because they were not finite.
      state: What `state()` said when the run was interrupted.
    """

    def __init__(
        self,
        where: str,
        steps: int,
        epochs: int,
        every: int,
        max_skipped: int,
        state: dict[str, Any] | None = None,
    ):
        self._where, self._every, self._max_skipped = where, every, max_skipped
        self._last_epoch = steps - steps / epochs
        self._waiting: list[dict[str, Any]] = []
        self._first: dict[str, float] = {}
        self._last: list[dict[str, float]] = []
        self._window: list[dict[str, float]] = []
        self._seconds, self._in_a_row, self._skipped = 0.0, 0, 0
        if state:
            self._first, self._last, self._window = state["first"], state["last"], state["window"]
            self._seconds, self._in_a_row = state["seconds"], state["in_a_row"]
            self._skipped = state["skipped"]
        self._began = time.monotonic() - self._seconds

    def add(self, monitors: dict[str, Any]) -> None:
        """Takes the monitors of the next step: scalar tensors, which are not waited for."""
        self._waiting.append(monitors)

    def full(self) -> bool:
        """Whether the window has all of its steps."""
        return len(self._window) + len(self._waiting) >= self._every

    def point(self, step: int) -> dict[str, float]:
        """Ends the window: means over its steps, `step` being done, and how many were left out."""
        self._settle(step)
        good = [row for row in self._window if not row["skipped"]]
        point = mean_of_rows(good or self._window)
        point["skipped"] = float(len(self._window) - len(good))
        self._window = []
        self._first = self._first or point
        self._last = [*self._last, point] if step > self._last_epoch else []
        return point

    def state(self, step: int) -> dict[str, Any]:
        """Everything, as JSON can say it, `step` being done."""
        self._settle(step)
        return {
            "first": self._first,
            "last": self._last,
            "window": self._window,
            "seconds": time.monotonic() - self._began,
            "in_a_row": self._in_a_row,
            "skipped": self._skipped,
        }

    def summary(self) -> dict[str, Any]:
        """The row of the turn: seconds, means over its last epoch, and its first point."""
        return {
            "seconds": time.monotonic() - self._began,
            **mean_of_rows(self._last),
            "skipped": self._skipped,
            "first": self._first,
        }

    def _settle(self, step: int) -> None:
        """Waits for the steps up to `step` and counts those that were left out.

        Raises:
          UserError: too many in a row.
        """
        for number, monitors in enumerate(self._waiting, step - len(self._waiting)):
            values = {name: float(value) for name, value in monitors.items()}
            self._window.append(values)
            self._in_a_row = self._in_a_row + 1 if values["skipped"] else 0
            self._skipped += bool(values["skipped"])
            if self._in_a_row > self._max_skipped:
                raise UserError(
                    f"{self._where}, step {number}: the loss is {values['loss']} and its gradient "
                    f"{values['gradient_norm']}, after {self._in_a_row - 1} steps that had to be "
                    f"left out before it (--max_skipped_steps={self._max_skipped}); the last good "
                    "checkpoint is kept. Lower --learning_rate, or set --clip_norm, under another "
                    "--workdir"
                )
        self._waiting = []


def mean_of_rows(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


class Progress:
    """One line on the terminal, rewritten; one line a minute where it is no terminal.

    The ETA is that of the whole run: training steps left, at the speed of the last ones.
    """

    def __init__(self, total_steps: int, done_steps: int, stream: Any = None):
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._every = 0.5 if self._live else 60.0
        self._total, self._done = total_steps, done_steps
        self._started, self._first_done = time.monotonic(), done_steps
        self._shown = 0.0

    def advance(self, steps: int) -> None:
        self._done += steps

    def speed(self) -> float:
        """Training steps a second since the start, clustering and saving included."""
        return (self._done - self._first_done) / max(time.monotonic() - self._started, 1e-9)

    def show(self, text: str) -> None:
        """Shows `text`, then the share done and the ETA, if the last line is old enough."""
        now = time.monotonic()
        if now - self._shown < self._every:
            return
        self._shown = now
        speed = self.speed()
        left = (self._total - self._done) / speed if speed else float("nan")
        line = f"{text} · {self._done / max(self._total, 1):.0%} · ETA {duration(left)}"
        self._write(f"\r{line[:200]}\033[K" if self._live else f"{line}\n")

    def note(self, text: str) -> None:
        """A line that stays."""
        self._write(f"\r\033[K{text}\n" if self._live else f"{text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def duration(seconds: float) -> str:
    """'1 d 02 h', '2 h 05 min', '3 min 20 s', '45 s'; '?' where it is not known."""
    if not np.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02d} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def peak_memory_mb() -> float:
    """The largest resident size of this process so far, MiB."""
    if os.path.exists("/proc/self/status"):  # getrusage counts the parent's, from before exec
        with open("/proc/self/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def write_atomically(path: str, text: str) -> None:
    """Writes a text file so that a reader, or a kill, finds the old one or the new one whole."""
    partial = f"{path}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_json(path: str, value: Any) -> None:
    """`write_atomically` of JSON; NaN and infinity become null."""
    write_atomically(path, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """NumPy scalars, arrays and NaN as what JSON has for them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
