"""Laws: seconds of a step over pixels, and of a round over the number of images."""

from __future__ import annotations

import collections
import functools
import json
import os
import statistics
import tempfile
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mgta_tf import config as config_lib
from mgta_tf import train
from mgta_tf.data.sampler import BatchConfig
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.timeline import SAMPLE
from tools.bench import rows
from tools.bench.config import BenchConfig
from tools.bench.nets import FULL, bare_step, make_learner
from tools.bench.quiet import undisturbed
from tools.bench.timing import measured, timed

ROUNDS = 4  # of a run; the first one builds the graphs


def scaling(config: BenchConfig) -> list[dict]:
    """Fits lines to seconds of a step over pixels and of a round over N, with their errors."""
    found = [law_of_step(config.repeats), law_of_round(config.round_images)]
    if config.plot:
        draw_laws(config.plot, *found)
    return found


def law_of_step(repeats: int) -> dict[str, Any]:
    """The row of the full-size step: seconds of an image over its pixels."""
    sizes, batch, seconds = [32, 64, 96, 128], 16, []
    for size in sizes:
        shape: dict[str, Any] = {**FULL, "size": size, "batch": batch}
        once = bare_step(make_learner(**shape)[1], **shape)
        seconds.append(min(timed(once) for _ in range(repeats)) / batch)
        print(f"{size} px: {seconds[-1] * 1e3:.1f} ms an image", flush=True)
    return row_of_law("step", sizes, seconds, fit_line(np.array(sizes) ** 2, seconds))


def law_of_round(largest: int) -> dict[str, Any]:
    """The row of the small model's round: seconds over N, the fastest of those without graphs."""
    counts, rounds, graphs = counts_of(largest), [], []
    for count in counts:
        stages = undisturbed(functools.partial(stages_of_run, count), tries=2)
        first, *later = seconds_of_rounds(stages)
        rounds.append(min(later))
        graphs.append(first - rounds[-1])
        print(
            f"N = {count}: a round takes {rounds[-1]:.2f} s, the first {graphs[-1]:.1f} s more",
            flush=True,
        )
    row = row_of_law("round", counts, rounds, fit_line(np.array(counts), rounds))
    return {**row, "graph_seconds": statistics.median(graphs)}


def row_of_law(
    name: str, x: list[int], y: list[float], law: tuple[float, float, float]
) -> dict[str, Any]:
    fixed, slope, error = law
    row = rows.row(f"linear fit of a {name}, error", error, None, "share", error, 0.15, below=True)
    return {**measured(row, {}), "fixed_seconds": fixed, "seconds_each": slope, "x": x, "y": y}


def counts_of(largest: int) -> list[int]:
    """Four values of N up to `largest`, for which the time of a round is a line.

    Each half consists of whole batches, because training drops the rest and encoding fills it up.
    It has at least the SAMPLE images on which both nets are compared, which below it depends on N.
    """
    halves = [largest * quarter // 4 // 2 for quarter in (1, 2, 3, 4)]
    least = -(-SAMPLE // BatchConfig().size)  # batches
    return [2 * BatchConfig().size * max(least, half // BatchConfig().size) for half in halves]


def stages_of_run(count: int) -> list[dict[str, Any]]:
    """Stages of a run of the small model at 32 px: ROUNDS with an epoch on each half."""
    flags = dict(
        data_source="shapes", shapes_count=count, image_size=32, width=0.25, blocks=(2, 2, 2, 2),
        labels="clusters", decoder="mirror", iae_epochs=0, rounds=ROUNDS, epochs_per_round=1,
        final_epochs=0, num_clusters=50,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        workdir = os.path.join(folder, "run")
        train.train(config_lib.from_dict(TrainConfig, {**flags, "workdir": workdir}))
        with open(os.path.join(workdir, "summary.json"), encoding="utf-8") as file:
            return json.load(file)["stages"]


def seconds_of_rounds(stages: list[dict[str, Any]]) -> list[float]:
    """Seconds of each round, training and labels. Only the first builds graphs."""
    seconds: dict[int, float] = collections.defaultdict(float)
    for stage in stages:
        seconds[stage["round"]] += stage["seconds"] + stage["label_seconds"]
    return [seconds[number] for number in sorted(seconds)]


def fit_line(x: np.ndarray, y: list[float]) -> tuple[float, float, float]:
    """y = a + b·x by least squares of relative errors: (a, b, largest relative error)."""
    weights = 1 / np.array(y)
    terms = np.stack([np.ones(len(x)), x], 1) * weights[:, None]
    (fixed, slope), *_ = np.linalg.lstsq(terms, np.ones(len(x)), rcond=None)
    error = float(np.abs((fixed + slope * x) * weights - 1).max())
    return float(fixed), float(slope), error


def draw_laws(path: str, step: dict[str, Any], a_round: dict[str, Any]) -> None:
    """Draws the measured points and the fitted line of both laws."""
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, row, power, scale in ((axes[0], step, 2, 1e3), (axes[1], a_round, 1, 1)):
        fine = np.linspace(0, max(row["x"]), 100)
        line = row["fixed_seconds"] + row["seconds_each"] * fine**power
        axis.plot(fine, line * scale, color="0.6", label="fitted")
        axis.plot(row["x"], np.array(row["y"]) * scale, "o", label="measured")
        axis.set_ylim(bottom=0)
        axis.legend()
    axes[0].set(xlabel="pixels per side", ylabel="ms an image", title="training step, full size")
    axes[1].set(xlabel="images", ylabel="seconds", title="a round, small model, 32 px")
    figure.suptitle(f"{step['threads']} cores of {step['processor']}, {a_round['date']}")
    figure.savefig(path, dpi=120)
