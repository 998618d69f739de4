"""Provokes typical failures on generated images, and plots them with a healthy run.

python -m tools.docs.provoke --workdir=runs/provoked --output=docs/pictures

These are the pictures of docs/reading_the_curves.md. The failing runs start from the IAE of the
healthy run; finished runs are not repeated. A run with the default's losses is plotted alone.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib import ticker

from mgta_tf import cli, flagfiles
from mgta_tf import config as config_lib
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.reporting import curves, record
from mgta_tf.training.losses import LossConfig

FLAGFILES = os.path.join(flagfiles.PACKAGE, "flags")
HEALTHY: dict[str, object] = {
    # The paper's losses: their margin shows a collapse.
    "flagfile": os.path.join(FLAGFILES, "paper.flagfile"),
    "data_source": "shapes",
    "shapes_count": 640,
    "image_size": 32,
    "load_size": 0,
    "width": 0.125,
    "blocks": "1,1,1,1",
    "iae_epochs": 15,
    "rounds": 4,
    "epochs_per_round": 6,
    "final_epochs": 0,
    "num_clusters": 12,
    "clusters_per_batch": 8,
    "images_per_cluster": 4,
    "log_every_steps": 5,
    "warmup_steps": 20,
}
FAILURES: dict[str, dict[str, object]] = {
    "collapse": {"reconstruction_weight": 0, "lambda_start": 1, "learning_rate": 0.01},
    "large_lambda": {"lambda_start": 300, "lambda_end": 300},
    "tiny_clusters": {"num_clusters": 150},
}
STOPS = ("collapse",)  # runs that end early: k-means refuses features that are all equal
# By picture: the tags of each panel, all but the first dashed, and its title.
PANELS: dict[str, tuple[tuple[tuple[str, ...], str], ...]] = {
    "default": (
        (("triplet_loss",), "triplet loss"),
        (("hardest_positive", "hardest_negative"), "distance to the positive, negative (dashed)"),
        (("pair_distance",), "mean distance of all pairs"),
    ),
    "collapse": (
        (("triplet_loss",), "triplet loss"),
        (("pair_distance",), "mean distance of all pairs"),
        (("triplet_active",), "share of active triplets"),
    ),
    "large_lambda": (
        (("reconstruction_mse",), "reconstruction error per pixel"),
        (("triplet_loss",), "triplet loss"),
        (("embedding_norm",), "embedding norm"),
    ),
    "tiny_clusters": ((("clusters/size",), "images of each cluster, largest first"),),
}
LOGARITHMIC = {  # panels by picture
    "collapse": ("triplet_loss", "pair_distance"),
    "tiny_clusters": ("clusters/size",),
}
SIZES, STYLES = ("clusters/size",), ("-", "--")
GRAY, RED, BLUE = "#8a8f98", "#d1495b", "#0b84c6"


@dataclasses.dataclass(frozen=True)
class ProvokeConfig:
    """Failures."""

    workdir: str = flag("", "Folder for the runs, one folder each.")
    output: str = flag("", "Folder for the pictures.")


def main(config: ProvokeConfig) -> None:
    if not config.workdir or not config.output:
        raise UserError("--workdir and --output are needed: folders for runs and for pictures")
    for name, flags in flags_of_runs(config.workdir).items():
        print(f"{name}: {flags}", flush=True)
        command = [sys.executable, "-m", "mgta_tf.train", *config_lib.to_arguments(flags)]
        subprocess.run(command, check=name not in STOPS)
    os.makedirs(config.output, exist_ok=True)
    for name in PANELS:
        path = os.path.join(config.output, f"{name}.png")
        draw(name, config.workdir, path)
        print(path)


def flags_of_runs(workdir: str) -> dict[str, dict[str, object]]:
    """The flags of every run by its name, which is also that of its folder."""
    runs: dict[str, dict[str, object]] = {
        "default": {"flagfile": os.path.join(FLAGFILES, "quickstart.flagfile")},
        "healthy": HEALTHY,
    }
    iae = {"iae_checkpoint": os.path.join(workdir, "healthy")}
    runs.update({name: {**HEALTHY, **iae, **flags} for name, flags in FAILURES.items()})
    return {name: {**flags, "workdir": os.path.join(workdir, name)} for name, flags in runs.items()}


def draw(name: str, workdir: str, path: str) -> None:
    """Draws the curves of a failure over those of the healthy run, or those of the default."""
    panels = PANELS[name]
    colors = {"healthy": GRAY, name: RED} if name in FAILURES else {name: BLUE}
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels) + 0.4, 3), squeeze=False)
    for axis, (tags, title) in zip(axes[0], panels):
        for run, color in colors.items():
            for x, y, style in lines_of(os.path.join(workdir, run), tags):
                axis.plot(x, y, color=color, ls=style, label=run.replace("_", " "))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("cluster" if tags == SIZES else "training steps", fontsize=9)
        axis.grid(alpha=0.3)
        if tags == ("triplet_loss",) and name in ("collapse", "default"):
            axis.axhline(LossConfig().margin, color="#1d2733", ls="--", lw=1, label="margin")
        if tags[0] in LOGARITHMIC.get(name, ()):
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 3), numticks=20))
            axis.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            axis.minorticks_off()
    handles, labels = axes[0][0].get_legend_handles_labels()
    named = dict(zip(labels, handles))  # one line of each run
    axes[0][0].legend(named.values(), named.keys(), fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def lines_of(workdir: str, tags: tuple[str, ...]) -> list[tuple[Any, Any, str]]:
    """The lines of a run in a panel: x, y and style; of scalars those of both nets."""
    if tags == SIZES:
        found = np.sort(sizes(workdir))[::-1]
        return [(np.arange(len(found)), found, "-")]
    run = record.read(workdir)
    first = curves.Places.of([run]).begins.get("round 1", 0)
    lines = []
    for net in record.read_curves(run.workdir.tensorboard, tags).values():
        for tag, style in zip(tags, STYLES):
            if tag in net:
                steps, values = net[tag]
                lines.append((steps[steps > first], values[steps > first], style))
    return lines


def sizes(workdir: str) -> np.ndarray:
    """Images of each cluster in the newest labels of a run."""
    members = record.read(workdir).members
    assert members
    return members.sizes


if __name__ == "__main__":
    cli.run(main, ProvokeConfig)
