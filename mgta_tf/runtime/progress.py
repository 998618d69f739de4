"""Progress with an ETA: a bar on a terminal and in notebooks, else a line per minute."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from tqdm import tqdm

from mgta_tf.runtime import eta
from mgta_tf.runtime.eta import Work

BAR = "{percentage:3.0f}%|{bar:16}| {desc}"
SECONDS_LIVE, SECONDS_ELSEWHERE = 1.0, 60.0  # between two lines


class Progress:
    """The progress of a sequence of pieces of work, shown until the `with` block ends.

    On a terminal and in a notebook, a thread redraws a bar every second, even during long calls.
    Elsewhere a line is written every minute.

    Args:
      works: The pieces of work in order.
      number: Number of the piece at which the process starts.
      done: Units of that piece that are already finished.
      unit: Name of the units, for a single piece without other text.
      stream: Output stream; None is stderr.
    """

    def __init__(
        self, works: Sequence[Work], number: int = 0, done: float = 0, unit: str = "", stream=None
    ):
        self._works, self._number, self._done, self._unit = tuple(works), number, done, unit
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty() or "ipykernel" in sys.modules
        self._bar: tqdm | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_drawing, daemon=True)
        self._text = ""
        self._costs: eta.Costs = {}
        self._begun, self._ticked, self._took = False, False, 0.0
        self._entered = self._last = self._shown = time.monotonic()

    # ------------------------------------------------------------------------------- What happens

    def __enter__(self) -> Progress:
        self._entered = self._last = self._shown = time.monotonic()
        if self._live:
            self._bar = tqdm(
                total=1.0,
                bar_format=BAR,
                file=self._stream,
                leave=False,
                ncols=80,  # until `redraw` sets the terminal's width; some terminals report 0
                nrows=24,
            )
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        self._thread.join()
        if self._bar is not None:
            self._bar.close()

    def begin(self, kind: str, text: str = "") -> None:
        """Starts or continues the next piece of this kind; all pieces before it are done.

        If the current piece has begun, it has taken the time until now; the pieces between were
        skipped.
        """
        for number in range(self._number, len(self._works)):
            if self._works[number].kind == kind:
                if number != self._number:
                    self._finish()
                    self._go_to(number)
                break
        self._last, self._begun, self._text = time.monotonic(), True, text

    def advance_to(self, done: float) -> None:
        """`done` units of this piece are done."""
        work, now = self._works[self._number], time.monotonic()
        if done > self._done:
            units, seconds = done - self._done, now - self._last
            self._costs = eta.measured(self._costs, work, units, seconds, not self._ticked)
        self._took = now - self._last
        self._done, self._last, self._ticked = done, now, True

    def advance(self, units: float) -> None:
        """`units` more units of this piece are done."""
        self.advance_to(self._done + units)

    def over(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields the batches; each counts by its length when the next one is requested."""
        for batch in batches:
            yield batch
            self.advance(len(batch))

    def end(self) -> None:
        """Finishes this piece and starts the next one."""
        self._begun = True
        self._finish()
        self._go_to(self._number + 1)

    def _finish(self) -> None:
        """The rest of a piece that has begun is done now."""
        units = self._works[self._number].units
        if self._begun and self._done < units:
            self.advance_to(units)

    def _go_to(self, number: int) -> None:
        self._number, self._done, self._ticked, self._text = number, 0.0, False, ""
        self._last, self._begun = time.monotonic(), False

    # -------------------------------------------------------------------------------- What is left

    def left(self) -> float:
        """Seconds left; NaN before the first units are done."""
        if self._number >= len(self._works):
            return 0.0
        work, after = self._works[self._number], self._works[self._number + 1 :]
        builds = 0.0 if self._ticked else work.builds
        rest = dataclasses.replace(work, units=work.units - self._done, builds=builds)
        current, later = (eta.seconds_left(self._costs, w) for w in ([rest], after))
        if not np.isnan(current):
            since = time.monotonic() - self._last  # of units that are under way
            current = max(0.0, current - (min(since, self._took) if self._ticked else since))
            return current + float(np.nan_to_num(later))
        return later or float("nan")

    def speed(self) -> float:
        """Units per second of the newest units of this piece; 0 while unknown."""
        works = self._works[self._number : self._number + 1]
        pace = eta.seconds_per_unit(self._costs, works[0]) if works else 0.0
        return 1 / pace if pace > 0 else 0.0

    def share(self) -> float:
        """The finished fraction of the run, by measured cost, or by the model without one."""
        done = self._works[: self._number]
        if self._number < len(self._works):
            current = self._works[self._number]
            done = (*done, dataclasses.replace(current, units=self._done))
        left, spent = self.left(), eta.seconds_left(self._costs, done)
        if not np.isnan(left):
            return 1.0 if not left else float(np.nan_to_num(spent / (spent + left)))
        size, sizes = (sum(w.units * w.weight for w in works) for works in (done, self._works))
        return float(np.nan_to_num(size / sizes)) if sizes else 0.0

    # ------------------------------------------------------------------------------- What is shown

    def say(self, text: str) -> None:
        """Sets the text of the progress line for this piece."""
        self._text = text

    def note(self, text: str) -> None:
        """Prints a permanent line."""
        write(text, self._stream)

    def line(self) -> str:
        """The text of the progress line: ETA and description."""
        left, elapsed = self.left(), time.monotonic() - self._entered
        known = np.isfinite(left)
        time_left = f"ETA {duration(left)}" if known else f"{duration(elapsed)} so far"
        return " · ".join(filter(None, (time_left, self._text or self._count())))

    def _count(self) -> str:
        """'1,200 of 5,000 images · 830 images/s', where the units have a name."""
        if not self._unit or self._number >= len(self._works):
            return ""
        total = self._works[self._number].units
        of = f" of {total:,.0f}" if np.isfinite(total) else ""
        count = f"{self._done:,.0f}{of} {self._unit}"
        speed = self.speed()
        return f"{count} · {speed:,.0f} {self._unit}/s" if speed else count

    def redraw(self) -> None:
        """Shows the line if enough time has passed since the last one."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.n, self._bar.ncols = self.share(), shutil.get_terminal_size().columns
            self._bar.set_description_str(self.line(), refresh=True)
        elif now - self._shown >= SECONDS_ELSEWHERE:
            self._shown = now
            self.note(f"{self.share():.0%} · {self.line()}")

    def _keep_drawing(self) -> None:
        while not self._closed.wait(SECONDS_LIVE):
            self.redraw()


def counting(total: float, unit: str = "images", done: int = 0, builds: float = 0.0) -> Progress:
    """The progress of `total` units of one kind, `done` of which are already finished.

    total: infinity where it is not known. builds: 1 if the first units take longer because they
    build a graph.
    """
    return Progress([Work("count", total, builds=builds)], done=done, unit=unit)


def write(text: str, stream=None) -> None:
    """Prints a permanent line, above the bar if there is one."""
    stream = stream or sys.stderr
    tqdm.write(text, file=stream)
    stream.flush()


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
