"""What a run shows while it runs: TensorBoard, one progress line, `summary.json`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_api

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

    def hparams(self, values: dict[str, Any], metrics: list[str]) -> None:
        """What the HParams tab says of the run, and the scalars of `run` it compares runs by."""
        with self._writers["run"].as_default(step=0):
            hparams_api.hparams_config(
                hparams=[hparams_api.HParam(name) for name in values],
                metrics=[hparams_api.Metric(name) for name in metrics],
            )
            hparams_api.hparams(values)

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
            if not values["skipped"]:
                self._in_a_row = 0
            elif not _for_its_scale(values):
                self._in_a_row += 1
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


def _for_its_scale(values: dict[str, float]) -> bool:
    """Whether a step was left out in float16 for its loss scale alone, as far as it can be told.

    The loss itself is not scaled, so it is finite; only its gradient is not. The scale halves at
    every such step, and at 1 it cannot be the reason: from 2¹⁵ there are 15 of them at most.
    """
    return math.isfinite(values["loss"]) and values.get("loss_scale", 1.0) > 1.0


def mean_of_rows(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def profiled(steps: Iterator[Any], count: int, directory: str) -> Iterator[Any]:
    """The steps; `count` of them, from the third, are traced for TensorBoard's profiler.

    The first two build graphs and fill caches. With `count` 0 nothing is traced.
    """
    if not count:
        yield from steps
        return
    yield from itertools.islice(steps, 2)
    with tf.profiler.experimental.Profile(directory):
        for number in range(count):
            with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                step = next(steps, None)
            if step is None:
                return
            yield step
    yield from steps


@dataclasses.dataclass(frozen=True)
class Part:
    """A turn of a run as the progress line counts it: training steps, or images to label."""

    stage: str
    steps: int
    images: int = 0


class Progress:
    """One line on the terminal, rewritten; one line a minute where it is no terminal.

    The time left is that of the parts left, each at what its kind has cost: training by the pace of
    the newest steps and by what follows a turn's last step (pictures, probe, checkpoint); labelling
    by the seconds an image took, or, before any was labelled, a third of its training, for that is
    the forward pass. A part's first step, where it is said alone, builds graphs and does not count.
    """

    def __init__(self, parts: list[Part], part: int, steps: int, batch_size: int = 1, stream=None):
        """part, steps: where the run goes on, `steps` steps of part number `part` being done.

        batch_size: images in a step, where there are parts that label images.
        """
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._every = 0.5 if self._live else 60.0
        self._parts, self._part, self._steps = parts, part, steps
        self._batch_size = batch_size
        self._shown = 0.0
        self._pace = self._per_image = math.nan  # seconds a training step, and a labelled image
        self._tail = 0.0  # seconds from a part's last step to its end
        self._begin()

    def _begin(self) -> None:
        self._began = self._last = time.monotonic()
        self._counted_steps, self._counted_seconds, self._said = 0, 0.0, False

    def advance_to(self, step: int) -> None:
        """`step` steps of this part are done."""
        now, steps = time.monotonic(), step - self._steps
        if self._said or steps != 1:
            self._counted_steps += steps
            self._counted_seconds += now - self._last
        self._steps, self._last, self._said = step, now, True
        if self._counted_steps:
            self._pace = self._counted_seconds / self._counted_steps

    def end_part(self) -> None:
        """This part is done; the next one begins."""
        part, now = self._parts[self._part], time.monotonic()
        if part.steps:
            self._tail = now - self._last
        elif part.images:
            self._per_image = (now - self._began) / part.images
        self._part, self._steps = self._part + 1, 0
        self._begin()

    def speed(self) -> float:
        """Training steps a second, of this part's newest steps."""
        return 1 / self._pace if self._pace > 0 else 0.0

    def left(self, stage: str = "") -> float:
        """Seconds left of a stage, or of the run; NaN before the first step."""
        per_image = self._per_image
        if math.isnan(per_image):
            per_image = self._pace / self._batch_size / 3
        seconds = 0.0
        for number, part in enumerate(self._parts[self._part :], self._part):
            if stage and part.stage != stage:
                continue
            done = self._steps if number == self._part else 0
            if part.steps:
                seconds += (part.steps - done) * self._pace + self._tail
            else:
                seconds += part.images * per_image
        return seconds

    def share(self, stage: str = "") -> float:
        """The share of training steps that are done, of a stage or of the run."""
        done = total = 0
        for number, part in enumerate(self._parts):
            if not stage or part.stage == stage:
                total += part.steps
                done += part.steps if number < self._part else 0
        return (done + self._steps) / max(total, 1)

    def show(self, text: str) -> None:
        """Shows `text` and what is left of stage and run, if the last line is old enough."""
        now = time.monotonic()
        if now - self._shown < self._every:
            return
        self._shown = now
        stage = self._parts[self._part].stage
        line = f"{text} · {self.share():.0%} · ETA {duration(self.left())}"
        if len({part.stage for part in self._parts}) > 1:
            of_stage = f"stage {self.share(stage):.0%}, ETA {duration(self.left(stage))}"
            line = f"{text} · {of_stage} · run {self.share():.0%}, ETA {duration(self.left())}"
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
