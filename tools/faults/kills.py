"""SIGKILL at random moments of each stage."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

from mgta_tf import config as config_lib
from mgta_tf import supervised, train
from mgta_tf.errors import UserError
from mgta_tf.training.config import TrainConfig
from tools.faults.suite import (
    RUN,
    SUPERVISED,
    Rows,
    Suite,
    bytes_lost,
    checksum,
    ending,
    positions,
    stage_of,
)

PER_RUN = 10  # kills in each stage of a run


def kills(suite: Suite, stages: tuple[str, ...]) -> Iterator[Rows]:
    """SIGKILL at random moments of each stage: at the start, while tracing, saving or in a step.

    A run is killed up to PER_RUN times in each stage, then finished and compared. Yields the rows
    after every run, and continues the rows of an earlier call.
    """
    supervised_only = stages == ("supervised",)
    flags = SUPERVISED if supervised_only else RUN
    expected = suite.undisturbed(
        "undisturbed_supervised" if supervised_only else "undisturbed_run", flags
    )
    wanted = suite.tries(30, 2)
    nothing = {"tries": 0, "survived": 0, "bytes_lost": 0, "runs": 0}
    rows = {f"kills_{s}": {**nothing, **suite.before.get(f"kills_{s}", {})} for s in stages}
    while any(row["tries"] < wanted for row in rows.values()):
        left = {s: min(PER_RUN, wanted - rows[f"kills_{s}"]["tries"]) for s in stages}
        workdir = suite.folder("killed_supervised" if supervised_only else "killed_run")
        counts = _killed_run(suite, workdir, flags, left)
        difference = bytes_lost(expected, ending(workdir))
        for stage, count in counts.items():
            row = rows[f"kills_{stage}"]
            row["tries"] += count
            row["survived"] += 0 if difference else count
            row["bytes_lost"] += difference
            row["runs"] += 1
            row["checksums"] = [checksum(expected), checksum(ending(workdir))]
        yield rows


def _killed_run(
    suite: Suite, workdir: str, flags: dict[str, Any], left: dict[str, int]
) -> dict[str, int]:
    """Runs to the end with up to `left` kills in each stage; returns the kills by stage."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mgta_tf.train", "mgta_tf.supervised", "tools.faults.kills"])
    counts = dict.fromkeys(left, 0)
    while True:
        process = context.Process(target=_in_fork, args=(workdir, flags))
        process.start()
        while process.is_alive():
            stage = stage_of(workdir, flags)
            if counts.get(stage, 0) < left.get(stage, 0):
                _random_moment(suite, workdir, process)
                stage = stage_of(workdir, flags)
                if process.is_alive() and counts.get(stage, 0) < left.get(stage, 0):
                    process.kill()
                    counts[stage] += 1
                    break
            process.join(0.02)
        process.join()
        if process.exitcode == 0:
            return counts
        if process.exitcode != -signal.SIGKILL:
            raise UserError(f"{workdir}: ended with {process.exitcode}; see {workdir}.log")


def _in_fork(workdir: str, flags: dict[str, Any]) -> None:
    """Runs in a fork of a process that has done all imports, which take most of the time."""
    log = os.open(f"{workdir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    values = {**flags, "workdir": workdir}
    if "epochs" in flags:
        supervised.train(config_lib.from_dict(supervised.SupervisedConfig, values))
    else:
        train.train(config_lib.from_dict(TrainConfig, values))


def _random_moment(suite: Suite, workdir: str, process: Any) -> None:
    """Waits for a random moment: before the first step, or after up to three checkpoints."""
    newest = max([0, *(number for number, _, _ in positions(workdir))])
    more = suite.random.choice((0, 1, 1, 2, 3))
    while more and process.is_alive():
        if max([0, *(number for number, _, _ in positions(workdir))]) >= newest + more:
            break
        time.sleep(0.005)
    process.join(suite.random.uniform(0, 0.4 if more else 12.0))
