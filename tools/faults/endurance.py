"""Long tests: memory over many rounds, and fuzzing of the readers."""

from __future__ import annotations

import os
import time

from tools.faults.fuzz import fuzz
from tools.faults.readers import READERS
from tools.faults.suite import (
    RUN,
    Row,
    Suite,
    begin,
    end,
    positions,
)


def memory(suite: Suite) -> Row:
    """Growth of the resident memory over 40 (or 10) rounds, after the second."""
    rounds = suite.tries(40, 10)
    flags = {**RUN, "iae_epochs": 1, "rounds": rounds, "epochs_per_round": 1, "final_epochs": 0}
    flags["checkpoint_every_steps"] = 0
    workdir = suite.folder("memory")
    process, resident = begin(workdir, flags), {}
    while process.poll() is None:
        resident[max([(0, 0, 0), *positions(workdir)])[1]] = _resident_kb(process.pid)
        time.sleep(0.1)
    end(process)
    first, last = 1 + 4 * 2, 4 * rounds  # turns: the IAE, then GLP, TMP, GLP, TMP a round
    growth = resident[last] / resident[first] - 1
    return {
        "tries": rounds,
        "survived": rounds if growth < 0.02 else 0,
        "bytes_lost": 0,
        "growth": growth,
        "resident_mb": [
            round(resident[turn] / 1024, 1) for turn in sorted(resident) if turn % 4 == 1
        ],
    }


def _resident_kb(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    except (OSError, StopIteration):  # it has just ended
        return 0


def damaged_files(suite: Suite, reader: str) -> Row:
    """Damaged files of one kind: executions, and how many of them crashed or hung."""
    seconds = suite.tries(3600, 120) / len(READERS)
    folder = os.path.join(suite.scratch, "fuzz")
    found = fuzz(reader, seconds, folder, suite.random.randrange(10**6))
    bad = found["crashes"] + found["hangs"]
    tries = found["executions"]
    return {"tries": tries, "survived": tries - bad, "bytes_lost": 0, **found}
