"""Measurements that other processes do not disturb, on a machine that is shared."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TypeVar

MOST = 0.05  # share of all cores that others may use during a measurement
TRIES = 4
PATIENCE = 20.0  # seconds to wait for others before a try

Result = TypeVar("Result")


def undisturbed(job: Callable[[], Result], tries: int = TRIES) -> Result:
    """The result of a job, repeated if other processes used more than MOST of the cores meanwhile.

    After `tries` the least disturbed result counts. Without Linux's /proc the job runs once.
    """
    tried = []
    for _ in range(tries):
        wait_for_others()
        before = ticks()
        result = job()
        tried.append((used_by_others(before, ticks()), result))
        if tried[-1][0] <= MOST:
            break
    return min(tried, key=lambda pair: pair[0])[1]


def wait_for_others() -> None:
    """Waits, at most PATIENCE, until others use little of the cores."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        before = ticks()
        time.sleep(0.3)
        if used_by_others(before, ticks()) <= 2 * MOST:  # the clock of /proc is coarse
            break


def used_by_others(before: tuple[int, int, float], after: tuple[int, int, float]) -> float:
    """Share of all cores that other processes used between two results of `ticks`."""
    busy, own, seconds = (b - a for a, b in zip(before, after))
    if not busy:
        return 0.0
    per_second = os.sysconf("SC_CLK_TCK")
    return max(0.0, (busy - own) / per_second / seconds / (os.cpu_count() or 1))


def ticks() -> tuple[int, int, float]:
    """(busy ticks of all cores, ticks of this process and those that it started, seconds)."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, *interrupts = map(int, file.readline().split()[1:9])
    except OSError:
        return 0, 0, time.monotonic()
    return user + nice + system + sum(interrupts), own_ticks(), time.monotonic()


def own_ticks() -> int:
    """Ticks of this process and its living descendants."""
    used, parents = {}, {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()  # a name may hold spaces and brackets
            parents[int(name)] = int(fields[1])
            used[int(name)] = int(fields[11]) + int(fields[12])
    ours, found = {os.getpid()}, {os.getpid()}
    while found:
        found = {pid for pid, parent in parents.items() if parent in found}
        ours |= found
    return sum(used.get(pid, 0) for pid in ours)
