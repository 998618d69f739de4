"""Laws: seconds of a step over pixels, and of a round over the number of images."""

from __future__ import annotations

import collections
import json
import os
import statistics
import tempfile
import time
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
from tools.bench.timing import measured, processor, timed


def scaling(config: BenchConfig) -> list[dict]:
    """Fits lines to seconds of a step over pixels and of a round over N, with their errors."""
    sizes, steps = (32, 64, 96, 128), []
    for size in sizes:
        shape: dict[str, Any] = {**FULL, "size": size, "batch": 16}
        once = bare_step(make_learner(**shape)[1], **shape)
        steps.append(min(timed(once) for _ in range(config.repeats)) / 16)
        print(f"{size} px: {steps[-1] * 1e3:.1f} ms an image", flush=True)
    counts = counts_of(config.round_images)
    rounds, graphs = [], []
    for count in counts:
        first, *later = seconds_of_rounds(stages_of_run(count))
        rounds.append(statistics.median(later))
        graphs.append(first - rounds[-1])
        print(
            f"N = {count}: a round takes {rounds[-1]:.1f} s, the first {graphs[-1]:.1f} s more",
            flush=True,
        )
    laws = {
        "step": fit_line(np.array(sizes) ** 2, steps),
        "round": fit_line(np.array(counts), rounds),
    }
    if config.plot:
        draw_laws(config.plot, (np.array(sizes), steps), (np.array(counts), rounds), laws)
    found = []
    for name, (fixed, slope, error) in laws.items():
        unit = "pixel of an image" if name == "step" else "image"
        print(f"a {name} takes {fixed:.3g} s + {slope:.3g} s a {unit}; largest error {error:.0%}")
        row = rows.row(f"law of a {name}, error", error, None, "share", error, 0.15, below=True)
        found.append({**measured(row, {}), "fixed_seconds": fixed, "seconds_each": slope})
    found[0].update(x=list(sizes), y=steps)
    found[1].update(x=counts, y=rounds, graph_seconds=statistics.median(graphs))
    return found


def counts_of(largest: int) -> list[int]:
    """Four values of N up to `largest`, for which the time of a round is a line.

    Each half consists of whole batches, because training drops the rest and encoding fills it up.
    It has at least the SAMPLE images on which both nets are compared, which below it depends on N.
    """
    halves = [largest * quarter // 4 // 2 for quarter in (1, 2, 3, 4)]
    least = -(-SAMPLE // BatchConfig().size)  # batches
    return [2 * BatchConfig().size * max(least, half // BatchConfig().size) for half in halves]


def stages_of_run(count: int) -> list[dict[str, Any]]:
    """Stages of a run of the small model at 32 px: 4 rounds with an epoch on each half."""
    flags = dict(
        data_source="shapes", shapes_count=count, image_size=32, width=0.25, blocks=(2, 2, 2, 2),
        labels="clusters", decoder="mirror", iae_epochs=0, rounds=4, epochs_per_round=1,
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


def draw_laws(path: str, step_points, round_points, laws) -> None:
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, (x, y), (name, law), scale in zip(
        axes, (step_points, round_points), laws.items(), (1e3, 1)
    ):
        fine = np.linspace(0, x.max(), 100)
        measure = fine**2 if name == "step" else fine
        axis.plot(fine, (law[0] + law[1] * measure) * scale, color="0.6", label="fitted")
        axis.plot(x, np.array(y) * scale, "o", label="measured")
        axis.set_ylim(bottom=0)
        axis.legend()
    axes[0].set(xlabel="pixels per side", ylabel="ms an image", title="training step, full size")
    axes[1].set(xlabel="images", ylabel="seconds", title="a round, small model, 32 px")
    figure.suptitle(f"{os.cpu_count()} cores of {processor()}, {time.strftime('%Y-%m-%d')}")
    figure.savefig(path, dpi=120)
