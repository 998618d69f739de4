"""How accurate the ETA of a run is, compared with the time that was really left.

  python -m tools.bench.eta --minutes=4                       # the default, on generated digits
  python -m tools.bench.eta --minutes=4 --schedule=stages     # three stages: clusters and a decoder
  python -m tools.bench.eta --minutes=4 --data_dir=PHOTOS

The run is a separate process with a pseudo-terminal. Every ETA that it shows after a tenth of its
time is compared with the end of the process. An ETA counts as right within 20 %, or within one
second, the resolution at which it is shown.
"""

from __future__ import annotations

import dataclasses
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from mgta_tf import cli
from mgta_tf import config as config_lib
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime.progress import duration
from tools.bench import rows

SCHEDULES: dict[str, dict[str, Any]] = {
    "default": {},
    "stages": {"labels": "clusters", "decoder": "mirror"},
}
SECONDS = {"d": 86_400, "h": 3600, "min": 60, "s": 1}
ETA = re.compile(r"ETA ((?:\d+ (?:d|h|min|s) ?)+)· ([^\r\n]*)")
BEGINS = 0.1  # fraction of a run before which its ETA is not compared
TOLERANCE = 0.2  # fraction of the time left
FINEST = 1.0  # seconds: the resolution of an ETA
WIDTH = 200  # columns of the terminal


@dataclasses.dataclass(frozen=True)
class EtaConfig:
    """The run."""

    schedule: str = flag(
        "default", "Schedule of the run: the default, or three stages.", choices=tuple(SCHEDULES)
    )
    data_dir: str = flag("", "Folder of photographs; empty uses generated digits.")
    minutes: float = flag(0.0, "Time budget of the run; 0 means its default.", minimum=0.0)
    json: str = flag("", "JSON to write: a row like those of tools/bench.py, with every moment.")


class Moment(NamedTuple):
    """seconds: since the process began. left: the ETA shown, in seconds. text: rest of the line."""

    seconds: float
    left: float
    text: str


class Watched(NamedTuple):
    """A finished command: its seconds, the moments at which it showed an ETA, and its output."""

    seconds: float
    moments: list[Moment]
    output: str


class Score(NamedTuple):
    """share: percentage of moments that are right. worst: the one with the largest error."""

    moments: int
    share: float
    worst: Moment | None


def main(config: EtaConfig) -> None:
    data = {"data_dir": config.data_dir} if config.data_dir else {"data_source": "digits"}
    with tempfile.TemporaryDirectory() as folder:
        flags = {**data, **SCHEDULES[config.schedule], "workdir": os.path.join(folder, "run")}
        if config.minutes:
            flags["minutes"] = config.minutes
        watched = watch("mgta_tf.train", flags)
    found = score(watched)
    print(described(watched, found))
    row = {
        **rows.row(f"eta, {config.schedule}", found.share, None, "% of moments", found.share, 80),
        "seconds": watched.seconds,
        "moments": watched.moments,
    }
    rows.finish([row], config.json)


def watch(module: str, flags: dict[str, Any]) -> Watched:
    """Runs `python -m module` in a pseudo-terminal, and reads the ETAs as they appear.

    Raises:
      UserError: the command failed; the message is its last line.
    """
    words = config_lib.to_arguments(flags)
    ours, theirs = pty.openpty()
    began, parts, moments = time.monotonic(), [], []
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": str(WIDTH)},
    )
    os.close(theirs)
    while part := _read(ours):
        now = time.monotonic() - began
        parts.append(part)
        moments += moments_of(part, now)
    os.close(ours)
    failed, seconds = process.wait(), time.monotonic() - began
    output = "".join(parts)
    if failed:
        last = (output.splitlines() or [""])[-1]
        raise UserError(f"python -m {module} ended with {failed}: {last}")
    return Watched(seconds, moments, output)


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 2**16).decode(errors="replace")
    except OSError:  # on Linux, the end of a terminal
        return ""


def moments_of(text: str, now: float) -> list[Moment]:
    """The ETAs in what was read at `now`, a number of seconds."""
    return [Moment(now, seconds_of(found[1]), found[2].strip()) for found in ETA.finditer(text)]


def seconds_of(text: str) -> float:
    """'1 h 02 min' → 3720: the inverse of `duration`."""
    return sum(int(n) * SECONDS[unit] for n, unit in re.findall(r"(\d+) (d|h|min|s)", text))


def score(watched: Watched) -> Score:
    """The moments after a tenth of the time, and how many of them are right."""
    seen = [moment for moment in watched.moments if moment.seconds > BEGINS * watched.seconds]
    if not seen:
        return Score(0, 100.0, None)
    right = [error(moment, watched.seconds) <= TOLERANCE for moment in seen]
    worst = max(seen, key=lambda moment: error(moment, watched.seconds))
    return Score(len(seen), 100 * sum(right) / len(seen), worst)


def error(moment: Moment, end: float) -> float:
    """The error of an ETA as a fraction of the time that was left; one second off is no error.

    end: when the process ended, in seconds since it began.
    """
    left = end - moment.seconds
    return max(0.0, abs(moment.left - left) - FINEST) / max(left, FINEST)


def described(watched: Watched, found: Score) -> str:
    """Two lines: how accurate the ETA was, and where it was most wrong."""
    first = (
        f"{duration(watched.seconds)}; ETA after a tenth of it: {found.moments} moments, "
        f"{found.share:.0f} % of them within {100 * TOLERANCE:.0f} % of the time left"
    )
    if found.worst is None:
        return first
    worst, left = found.worst, watched.seconds - found.worst.seconds
    return (
        f"{first}\nmost wrong after {duration(worst.seconds)}: {duration(worst.left)}, when "
        f"{duration(left)} were left: {worst.text}"
    )


if __name__ == "__main__":
    cli.run(main, EtaConfig)
