"""The progress line: what runs, how far it is, how long it will take."""

from __future__ import annotations

import dataclasses
import math
import sys
import time

import numpy as np


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
        """part, steps: where the run resumes, `steps` steps of part number `part` being done.

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

    def clear(self) -> None:
        """Takes the line off the terminal: what follows is another's."""
        if self._live:
            self._write("\r\033[K")

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
