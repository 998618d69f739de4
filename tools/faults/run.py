"""Runs the fault-injection tests and reports what was lost.

  make faults               30 kills in each stage, and an hour of damaged files: about two hours
  make faults FORM=short    two kills in each stage, and two minutes of damaged files
  python tools/faults.py --only=kills,disk_full --output=faults.json

A disturbed run is resumed to its end. Its weights, optimizers, labels and losses are then compared
with those of an undisturbed run. `survived` counts tries after which all are bitwise equal; `bytes
lost` counts bytes that differ. `--output` is written after every case; cases in it are not
repeated.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator

from mgta_tf import cli
from mgta_tf.config import flag, group
from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_json
from tools.faults.disks import damaged_checkpoints, disk_full, read_only, vanished_data
from tools.faults.endurance import damaged_files, memory
from tools.faults.kills import kills
from tools.faults.mixed import mixed_folder
from tools.faults.readers import READERS
from tools.faults.refusals import refusals
from tools.faults.signals import second_interrupt, signal_to_one_host, signals, two_owners
from tools.faults.suite import (
    Row,
    Rows,
    Suite,
)


@dataclasses.dataclass(frozen=True)
class FaultsConfig:
    """The fault suite."""

    output: str = flag("faults.json", "JSON file for the table.")
    form: str = flag("long", "Size of the test: short or full.", choices=("short", "long"))
    only: str = flag("", "Names of cases, separated by commas; empty runs all.")
    scratch: str = flag("", "Folder for the runs; empty uses a temporary one.")
    seed: int = flag(0, "Random seed for the moments and the damage.", minimum=0)


@dataclasses.dataclass(frozen=True)
class Command:
    """faults.py"""

    faults: FaultsConfig = group(FaultsConfig)


Case = Callable[[Suite], Iterator[Rows]]


def cases() -> dict[str, Case]:
    """The cases by name. A case yields its rows, possibly several times with more each time."""

    def once(name: str, case: Callable[[Suite], Row]) -> Case:
        return lambda suite: iter([{name: case(suite)}])

    found: dict[str, Case] = {
        "kills": lambda suite: kills(suite, ("iae", "mutual", "final")),
        "kills_supervised": lambda suite: kills(suite, ("supervised",)),
    }
    for case in (signals, signal_to_one_host, second_interrupt, two_owners):
        found[case.__name__] = once(case.__name__, case)
    for case in (disk_full, read_only, vanished_data, damaged_checkpoints, memory):
        found[case.__name__] = once(case.__name__, case)
    for case in (mixed_folder, refusals):
        found[case.__name__] = once(case.__name__, case)
    for reader in READERS:
        name = f"fuzz_{reader}"
        found[name] = once(name, lambda suite, reader=reader: damaged_files(suite, reader))  # type: ignore[misc]
    return found


def table(rows: list[Row]) -> str:
    lines = [f"{'case':<22}{'tries':>9}{'survived':>10}{'bytes lost':>12}{'seconds':>9}"]
    lines += [
        f"{row['case']:<22}{row['tries']:>9}{row['survived']:>10}{row['bytes_lost']:>12}"
        f"{row['seconds']:>9.0f}"
        for row in rows
    ]
    return "\n".join(lines)


def main(command: Command) -> None:
    config, known = command.faults, cases()
    asked = [word for word in config.only.split(",") if word]
    for word in asked:
        if not any(name.startswith(word) for name in known):
            raise UserError(f"--only={word}: no such case; there are {', '.join(known)}")
    rows: Rows = {}
    if os.path.exists(config.output):
        with open(config.output, encoding="utf-8") as file:
            rows = {row["case"]: row for row in json.load(file) if row["form"] == config.form}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = os.path.abspath(config.scratch or temporary)
        os.makedirs(os.path.join(scratch, "fuzz"), exist_ok=True)
        for name, case in known.items():
            if (asked and not any(name.startswith(word) for word in asked)) or (
                name in rows and not name.startswith("kills")
            ):
                continue
            began, seconds = time.monotonic(), rows.get(name, {}).get("seconds", 0.0)
            chance = random.Random(f"{config.seed} {name} {rows.get(name)}")
            for found in case(Suite(scratch, config.form == "short", chance, dict(rows))):
                for key, row in found.items():
                    spent = {"seconds": seconds + time.monotonic() - began}
                    rows[key] = {"case": key, "form": config.form, **row, **spent}
                write_json(config.output, list(rows.values()))
                print(table([rows[key] for key in found]), flush=True)
    print(table(list(rows.values())))
    lost = [name for name, row in rows.items() if row["survived"] < row["tries"]]
    if lost:
        raise UserError(f"not survived: {', '.join(lost)}; see {config.output}")


if __name__ == "__main__":
    cli.run(main, Command)
