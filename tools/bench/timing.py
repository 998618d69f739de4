"""Measures seconds of several jobs in turns, and names the machine."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

from mgta_tf.runtime.strategy import cpu_info
from mgta_tf.training.summary import versions
from tools.bench.quiet import undisturbed


def timed(once: Callable[[], Any]) -> float:
    began = time.monotonic()
    once()
    return time.monotonic() - began


def seconds_each(once: Callable[[], Any], times: int = 1) -> Callable[[], float]:
    """A job that runs `once` `times` times and returns the mean seconds of one."""
    return lambda: timed(lambda: [once() for _ in range(times)]) / times


def by_turns(repeats: int, **jobs: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of every job, each run `repeats` times, in turns. A job returns its seconds.

    A first turn is not counted, because building graphs makes it slow. Later measurements are
    repeated if other processes disturb them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            if turn:
                seconds[name].append(undisturbed(job))
            else:
                job()
    return seconds


def spread(values: list[float]) -> float:
    """Half of the interquartile range."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def measured(row: dict, seconds: dict[str, list[float]], peer_versions: Any = None) -> dict:
    """A row with medians, spreads, versions and the machine."""
    return {
        **row,
        "median": {name: statistics.median(values) for name, values in seconds.items()},
        "spread": {name: spread(values) for name, values in seconds.items()},
        "repeats": max((len(values) for values in seconds.values()), default=1),
        "versions": {**versions(), **(peer_versions or {})},
        "threads": os.cpu_count(),
        "processor": processor(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """The model name of the processor."""
    return cpu_info("model name") or platform.processor() or platform.machine()
