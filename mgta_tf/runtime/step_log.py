"""The metrics of a turn's steps, averaged for the curves and for the history."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from mgta_tf.errors import UserError


class StepLog:
    """Collects the metrics of a turn's steps in windows of `every` steps.

    Its state is part of the checkpoint, so an interrupted run has the same curves and the same
    history as an uninterrupted one.

    Args:
      where: Name of the turn, for messages.
      steps: Number of steps of the turn.
      epochs: Number of epochs of the turn.
      every: Steps per window.
      max_skipped: Maximum number of consecutive skipped steps.
      state: Result of `state()` when the turn was interrupted.
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
        self._pending: list[dict[str, Any]] = []
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
        """Adds the metrics of the next step: scalar tensors that may still be being computed."""
        self._pending.append(metrics)

    def window_is_full(self) -> bool:
        """Whether the window has all its steps, so that `point` is due."""
        return len(self._window) + len(self._pending) >= self._every

    def point(self, step: int) -> dict[str, float]:
        """Ends the window after `step` steps: means over its steps, and the number skipped."""
        self._fetch(step)
        good = [row for row in self._window if not row["skipped"]]
        point = mean_of_rows(good or self._window)
        point["skipped"] = float(len(self._window) - len(good))
        self._window = []
        self._first = self._first or point
        self._last = [*self._last, point] if step > self._last_epoch else []
        return point

    def state(self, step: int) -> dict[str, Any]:
        """The state after `step` steps, for a checkpoint; JSON values only."""
        self._fetch(step)
        return {
            "first": self._first,
            "last": self._last,
            "window": self._window,
            "seconds": time.monotonic() - self._began,
            "in_a_row": self._in_a_row,
            "skipped": self._skipped,
        }

    def summary(self) -> dict[str, Any]:
        """The turn's row of the history: seconds, means over its last epoch, its first point."""
        return {
            "seconds": time.monotonic() - self._began,
            **mean_of_rows(self._last),
            "skipped": self._skipped,
            "first": self._first,
        }

    def _fetch(self, step: int) -> None:
        """Fetches the metrics of the steps before `step`, and counts the skipped ones.

        Raises:
          UserError: too many consecutive steps were skipped.
        """
        for number, metrics in enumerate(self._pending, step - len(self._pending)):
            values = {name: float(value) for name, value in metrics.items()}
            self._window.append(values)
            if not values["skipped"]:
                self._in_a_row = 0
            elif not _caused_by_loss_scale(values):
                self._in_a_row += 1
            self._skipped += bool(values["skipped"])
            if self._in_a_row > self._max_skipped:
                raise UserError(
                    f"{self._where}, step {number}: the loss is {values['loss']} and its gradient "
                    f"norm {values['gradient_norm']}, after {self._in_a_row - 1} skipped steps "
                    f"(--max_skipped_steps={self._max_skipped}); the last good checkpoint is kept. "
                    "Lower --learning_rate or set --clip_norm, with another --workdir"
                )
        self._pending = []


def _caused_by_loss_scale(values: dict[str, float]) -> bool:
    """Whether a float16 step was probably skipped only because its loss scale was too large.

    Then the loss, which is not scaled, is finite, and only the gradient is not. Every such step
    halves the scale, and at 1 the scale cannot be the cause: from 2¹⁵ there are at most 15.
    """
    return math.isfinite(values["loss"]) and values.get("loss_scale", 1.0) > 1.0


def steps_between_points(steps: int) -> int:
    """Steps between two points of a turn's curve: 20 points, or more where 20 steps make one."""
    return max(1, min(20, steps // 20))


def mean_of_rows(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over rows with the same names."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
