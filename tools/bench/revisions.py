"""Time of a training step in this checkout and in another one, measured from outside.

  python -m tools.bench.revisions --other=CHECKOUT --workdir=W

Both checkouts train the small model in turns on the same generated images: stage 1, then a round
with clusters. The seconds of a step are differences between the times at which a turn's figures
were written to TensorBoard's files, so starting, building graphs and making labels do not count.
Nothing of either checkout is imported. For the two stacks of BUILD.md, compare a checkout with
itself: --other=. --other_python=.venv-3.12/bin/python --other_flags="--labels=clusters
--decoder=mirror"
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from tools.bench import rows
from tools.bench.timing import measured

STEPS_TO_SKIP = 20  # at the beginning of a turn, where graphs are built
RUN = (
    "--data_source=shapes --shapes_count=8192 --image_size=32 --width=0.25 --blocks=2,2,2,2"
    " --iae_epochs=3 --rounds=1 --epochs_per_round=5 --final_epochs=0 --num_clusters=50"
    " --clusters_per_batch=16 --images_per_cluster=4 --log_every_steps=20"
    " --checkpoint_every_secs=100000 --mixed_precision=off"
)


@dataclasses.dataclass(frozen=True)
class RevisionsConfig:
    """The comparison."""

    other: str = flag("", "Checkout to compare with.")
    workdir: str = flag("", "Folder for the runs; it is emptied.")
    other_python: str = flag("", "Interpreter of the other checkout; empty is this one.")
    flags: str = flag("--labels=clusters --decoder=mirror", "Further flags of this checkout.")
    other_flags: str = flag("", "Further flags of the other checkout.")
    repeats: int = flag(3, "Runs of both, alternating.", minimum=1)
    json: str = flag("", "JSON to write, as tools/bench.py does.")


def main(config: RevisionsConfig) -> None:
    if not config.other or not config.workdir:
        raise UserError("--other and --workdir are required")
    ours = sys.executable, os.getcwd(), config.flags
    peer = config.other_python or sys.executable, os.path.abspath(config.other), config.other_flags
    seconds: dict[str, dict[str, list[float]]] = {}
    for number in range(config.repeats):
        for name, which in {"ours": ours, "peer": peer}.items():
            workdir = os.path.join(os.path.abspath(config.workdir), f"{name}_{number}")
            for stage, spent in seconds_of_steps(*which, workdir).items():
                seconds.setdefault(stage, {"ours": [], "peer": []})[name].append(spent)
                print(f"{name} {number}, {stage}: {1e3 * spent:.2f} ms a step", flush=True)
    found = []
    for stage, both in seconds.items():
        each = [1e3 * statistics.median(both[name]) for name in ("ours", "peer")]
        name = f"step of stage {stage} against the other checkout, small model, 32 px"
        row = rows.row(name, each[0], each[1], "ms", each[0] / each[1], 1.02, below=True)
        found.append(measured(row, both))
    rows.finish(found, config.json)


def seconds_of_steps(python: str, checkout: str, flags: str, workdir: str) -> dict[str, float]:
    """Trains in a checkout, and returns the median seconds of a step of every stage.

    Raises:
      UserError: the command failed.
    """
    shutil.rmtree(workdir, ignore_errors=True)
    command = [python, "-m", "mgta_tf.train", *RUN.split(), *flags.split()]
    environment = {**os.environ, "PYTHONPATH": checkout}
    done = subprocess.run(
        [*command, f"--workdir={workdir}"], cwd=checkout, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"{checkout}: {done.stderr.strip().splitlines()[-1]}")
    with open(os.path.join(workdir, "summary.json"), encoding="utf-8") as file:
        turns = [(turn["stage"], turn["steps"]) for turn in json.load(file)["stages"]]
    return by_stage(turns, logged_times(os.path.join(workdir, "tensorboard")))


def logged_times(folder: str) -> dict[int, float]:
    """The time at which the figures of each step were written: {step: seconds}."""
    times: dict[int, float] = {}
    for path, _, names in os.walk(folder):
        for name in names:
            for event in LegacyEventFileLoader(os.path.join(path, name)).Load():
                tags = [value.tag for value in event.summary.value]
                if any("gradient_norm" in tag for tag in tags):
                    times.setdefault(event.step, event.wall_time)
    return times


def by_stage(turns: Sequence[tuple[str, int]], times: dict[int, float]) -> dict[str, float]:
    """Median seconds of a step: {stage: seconds}.

    Args:
      turns: stage and number of steps of every turn, in order; step 1 is the first of the first.
      times: seconds at which steps were logged.
    """
    found: dict[str, list[float]] = {}
    first = 0
    for stage, steps in turns:
        inside = sorted(s for s in times if first + STEPS_TO_SKIP <= s <= first + steps)
        for before, after in zip(inside, inside[1:]):
            found.setdefault(stage, []).append((times[after] - times[before]) / (after - before))
        first += steps
    return {stage: statistics.median(spent) for stage, spent in found.items()}


if __name__ == "__main__":
    cli.run(main, RevisionsConfig)
