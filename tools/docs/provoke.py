"""Provokes typical failures on generated images, and plots them with a healthy run.

python -m tools.docs.provoke --workdir=runs/provoked --output=docs/pictures

These are the pictures of docs/reading_the_curves.md. All runs start from the IAE of the healthy
run; finished runs are not repeated.
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

from mgta_tf import cli, flagfiles
from mgta_tf import config as config_lib
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.reporting import curves, record
from mgta_tf.training.losses import LossConfig

COMMON = {
    # The paper's losses: their margin shows a collapse.
    "flagfile": os.path.join(flagfiles.PACKAGE, "flags", "paper.flagfile"),
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
RUNS: dict[str, dict[str, object]] = {
    "healthy": {},
    "collapse": {"reconstruction_weight": 0, "lambda_start": 1, "learning_rate": 0.01},
    "large_lambda": {"lambda_start": 300, "lambda_end": 300},
    "tiny_clusters": {"num_clusters": 150},
}
STOPS = ("collapse",)  # runs that end early: k-means refuses features that are all equal
PANELS: dict[str, tuple[tuple[str, str], ...]] = {
    "collapse": (
        ("triplet_loss", "triplet loss"),
        ("pair_distance", "mean distance of all pairs"),
        ("triplet_active", "share of active triplets"),
    ),
    "large_lambda": (
        ("reconstruction_mse", "reconstruction error per pixel"),
        ("triplet_loss", "triplet loss"),
        ("embedding_norm", "embedding norm"),
    ),
    "tiny_clusters": (("clusters/size", "images of each cluster, largest first"),),
}
LOGARITHMIC = {  # panels by picture
    "collapse": ("triplet_loss", "pair_distance"),
    "tiny_clusters": ("clusters/size",),
}


@dataclasses.dataclass(frozen=True)
class ProvokeConfig:
    """Failures."""

    workdir: str = flag("", "Folder for the runs, one folder each.")
    output: str = flag("", "Folder for the pictures.")


def main(config: ProvokeConfig) -> None:
    if not config.workdir or not config.output:
        raise UserError("--workdir and --output are needed: folders for runs and for pictures")
    for name, flags in RUNS.items():
        folder = os.path.join(config.workdir, name)
        if name != "healthy":
            flags = {"iae_checkpoint": os.path.join(config.workdir, "healthy"), **flags}
        words = config_lib.to_arguments({**COMMON, **flags})
        print(f"{name}: {flags or 'the defaults'}", flush=True)
        command = [sys.executable, "-m", "mgta_tf.train", *words, f"--workdir={folder}"]
        subprocess.run(command, check=name not in STOPS)
    os.makedirs(config.output, exist_ok=True)
    for name in PANELS:
        path = os.path.join(config.output, f"{name}.png")
        draw(name, config.workdir, path)
        print(path)


def draw(name: str, workdir: str, path: str) -> None:
    """Draws the curves of one failure over those of the healthy run in gray."""
    runs = {one: os.path.join(workdir, one) for one in ("healthy", name)}
    panels = PANELS[name]
    figure, axes = plt.subplots(1, len(panels), figsize=(3.6 * len(panels) + 0.4, 3), squeeze=False)
    for axis, (tag, title) in zip(axes[0], panels):
        for run, color in (("healthy", "#8a8f98"), (name, "#d1495b")):
            label = run.replace("_", " ")
            if tag == "clusters/size":
                axis.plot(np.sort(sizes(runs[run]))[::-1], color=color, label=label)
                continue
            for net in ("net1", "net2"):
                steps, values = curve(runs[run], net, tag)
                axis.plot(steps, values, color=color, label=label if net == "net1" else None)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("cluster" if tag == "clusters/size" else "training steps", fontsize=9)
        axis.grid(alpha=0.3)
        if tag in LOGARITHMIC.get(name, ()):
            axis.set_yscale("log")
        if (name, tag) == ("collapse", "triplet_loss"):
            axis.axhline(LossConfig().margin, color="#1d2733", ls="--", lw=1, label="margin")
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def curve(workdir: str, net: str, tag: str) -> tuple[Any, Any]:
    """A scalar of a run after stage 1: (steps, values)."""
    run = record.read(workdir)
    first = curves.Places.of([run]).begins["round 1"]
    steps, values = record.read_curves(run.workdir.tensorboard, (tag,))[net][tag]
    return steps[steps > first], values[steps > first]


def sizes(workdir: str) -> np.ndarray:
    """Images of each cluster in the newest labels of a run."""
    members = record.read(workdir).members
    assert members
    return members.sizes


if __name__ == "__main__":
    cli.run(main, ProvokeConfig)
