"""Signals, and a second run in the same folder."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import time

from tools.faults.suite import (
    HOSTS,
    RUN,
    Row,
    Suite,
    begin,
    begin_hosts,
    bytes_lost,
    command,
    end,
    ending,
    finish,
    wait_for_checkpoints,
)


def signals(suite: Suite) -> Row:
    """SIGTERM and SIGINT in a step: status 143 and 130, a checkpoint, and the same result."""
    expected = suite.undisturbed("undisturbed_run", RUN)
    flags = {**RUN, "checkpoint_every_steps": 0}  # only the signal saves
    survived, lost, tries = 0, 0, suite.tries(6, 2)
    for number in range(tries):
        workdir = suite.folder("signals")
        sent, status = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[number % 2]
        process = begin(workdir, flags)
        wait_for_checkpoints(workdir, 1 + number // 2, process)
        time.sleep(suite.random.uniform(0, 1.0))
        process.send_signal(sent)
        found, _ = end(process)
        finish(workdir, flags)
        difference = bytes_lost(expected, ending(workdir))
        survived, lost = survived + (found == status and not difference), lost + difference
    return {"tries": tries, "survived": survived, "bytes_lost": lost}


def signal_to_one_host(suite: Suite) -> Row:
    """One of two hosts gets SIGTERM or SIGINT: both stop, and resume to the same result."""
    flags = {**HOSTS, "checkpoint_every_steps": 0}  # only the signal saves
    undisturbed = suite.folder("undisturbed_hosts")
    _end_hosts(begin_hosts(command(undisturbed, flags)))
    survived, lost, tries = 0, 0, suite.tries(4)
    for number in range(tries):
        workdir = suite.folder("hosts")
        sent, status = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[number // 2]
        processes = begin_hosts(command(workdir, flags))
        wait_for_checkpoints(workdir, 1 + number // 2, processes[0])
        time.sleep(suite.random.uniform(0, 1.0))
        processes[number % 2].send_signal(sent)
        found = _end_hosts(processes)
        resumed = _end_hosts(begin_hosts(command(workdir, flags)))
        difference = bytes_lost(ending(undisturbed), ending(workdir))
        right = found == [status, status] and resumed == [0, 0] and not difference
        survived, lost = survived + right, lost + difference
    return {"tries": tries, "survived": survived, "bytes_lost": lost}


def _end_hosts(processes: list[subprocess.Popen[str]]) -> list[int]:
    """The exit statuses of the hosts."""
    with concurrent.futures.ThreadPoolExecutor() as pool:  # reads both pipes at once
        return [status for status, _ in pool.map(end, processes)]


def second_interrupt(suite: Suite) -> Row:
    """Two SIGINT while TensorFlow builds a graph: the process ends within two seconds.

    Its status is 130, or that of the signal itself if Python had already removed its handlers; a
    shell reports both as 130.
    """
    survived, tries = 0, suite.tries(3)
    for _ in range(tries):
        workdir = suite.folder("interrupts")
        process = begin(workdir, RUN)
        while not os.path.exists(os.path.join(workdir, "skipped.txt")):
            time.sleep(0.02)
        time.sleep(suite.random.uniform(0, 3.0))
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        status, _ = end(process)
        survived += status in (130, -signal.SIGINT) and time.monotonic() - began < 2.0
    return {"tries": tries, "survived": survived, "bytes_lost": 0}


def two_owners(suite: Suite) -> Row:
    """A second run is refused while the first is running, and resumes after the first is killed."""
    expected = suite.undisturbed("undisturbed_run", RUN)
    workdir = suite.folder("owners")
    first = begin(workdir, RUN)
    wait_for_checkpoints(workdir, 1, first)
    status, line = end(begin(workdir, RUN))
    refused = status == 1 and f"process {first.pid} on" in line
    first.kill()
    end(first)
    finish(workdir, RUN)
    lost = bytes_lost(expected, ending(workdir))
    return {"tries": 1, "survived": int(refused and not lost), "bytes_lost": lost}
