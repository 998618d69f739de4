"""The metrics of a turn's steps: windows for the curves, a summary for the history."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from mgta_tf.errors import UserError


class StepLog:
    """What the steps of a turn have shown so far.

    Its state is part of a checkpoint, so that a run that was interrupted says what an undisturbed
    one would: windows of `every` steps count from the beginning of the turn.

    Args:
      where: The turn in words: stage, round, net.
      steps: Of the turn.
      epochs: Into which they fall.
      every: Steps of a window.
      max_skipped: Steps in a row that may be skipped because they were not finite.
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

    def add(self, metrics: dict[str, Any]) -> None:
        """Takes the metrics of the next step: scalar tensors, which are not waited for."""
        self._waiting.append(metrics)

    def window_is_full(self) -> bool:
        """Whether the window has all of its steps."""
        return len(self._window) + len(self._waiting) >= self._every

    def point(self, step: int) -> dict[str, float]:
        """Ends the window: means over its steps, `step` being done, and how many were skipped."""
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
        """Waits for the steps up to `step` and counts those that were skipped.

        Raises:
          UserError: too many in a row.
        """
        for number, metrics in enumerate(self._waiting, step - len(self._waiting)):
            values = {name: float(value) for name, value in metrics.items()}
            self._window.append(values)
            if not values["skipped"]:
                self._in_a_row = 0
            elif not _for_its_scale(values):
                self._in_a_row += 1
            self._skipped += bool(values["skipped"])
            if self._in_a_row > self._max_skipped:
                raise UserError(
                    f"{self._where}, step {number}: the loss is {values['loss']} and its gradient "
                    f"{values['gradient_norm']}, after {self._in_a_row - 1} steps that were "
                    f"skipped before it (--max_skipped_steps={self._max_skipped}); the last good "
                    "checkpoint is kept. Lower --learning_rate, or set --clip_norm, under another "
                    "--workdir"
                )
        self._waiting = []


def _for_its_scale(values: dict[str, float]) -> bool:
    """Whether a float16 step was skipped because of its loss scale alone, as far as is known.

    The loss itself is not scaled, so it is finite; only its gradient is not. The scale halves at
    every such step, and at 1 it cannot be the reason: from 2¹⁵ there are 15 of them at most.
    """
    return math.isfinite(values["loss"]) and values.get("loss_scale", 1.0) > 1.0


def steps_between_points(steps: int) -> int:
    """Steps between two points of a turn's curve: 20 points, or more where 20 steps make one."""
    return max(1, min(20, steps // 20))


def mean_of_rows(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
