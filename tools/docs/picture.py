"""Draws a run as one picture: photographs and those that the encoder finds nearest.

python -m tools.docs.picture --workdir=runs/mine --output=docs/pictures/run.jpg

Of a run with clusters: images, their reconstructions, and representative clusters. It uses only the
pictures/ of the run. Do not commit pictures of images that you may not publish; tools/docs/crops.py
says where those of the README are from.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mgta_tf import cli
from mgta_tf.clustering.members import SHOWN
from mgta_tf.config import flag
from mgta_tf.errors import UserError, quantity
from mgta_tf.evaluation import knn
from mgta_tf.reporting import figures, neighbors, record
from mgta_tf.reporting.record import Members, Record
from mgta_tf.runtime.pictures import GAP

QUERIES, NEAREST = 7, 12


@dataclasses.dataclass(frozen=True)
class PictureConfig:
    """The picture."""

    workdir: str = flag("", "Folder of a run.")
    output: str = flag("", "PNG or JPEG to write.")


def main(config: PictureConfig) -> None:
    if not config.output:
        raise UserError("--output is required: the picture to write")
    run = record.read(config.workdir)
    if run.members is None:
        raise UserError(f"--workdir={config.workdir}: no pictures yet; the run must have finished")
    figure = of_clusters(run) if run.labellings and run.stages else of_neighbors(run.members)
    os.makedirs(os.path.dirname(os.path.abspath(config.output)), exist_ok=True)
    figure.savefig(config.output)
    print(f"{config.output}: {run.name}")


def of_neighbors(members: Members) -> Figure:
    """A row for each of a few photographs: itself, and the nearest others."""
    sprites = neighbors.sprites(members)
    near = knn.nearest(members.coordinates, NEAREST)
    gap = np.full((members.thumbnail, GAP, 3), 255, np.uint8)
    rows = []
    for query in neighbors.queries(members, QUERIES):
        strip = np.concatenate(list(sprites[near[query]]), axis=1)
        rows.append(("", np.concatenate([sprites[query], gap, strip], axis=1)))
    figure, axes = drawn(rows)
    axes[0].set_title("photograph", fontsize=8, loc="left")
    axes[0].set_title(f"the {NEAREST} that the encoder finds nearest", fontsize=8, loc="right")
    figure.tight_layout(h_pad=0.15)
    return figure


def of_clusters(run: Record) -> Figure:
    """Images and their reconstructions; the nearest and farthest images of some clusters."""
    trained, labelled = run.stages[-1], run.labellings[-1]
    gallery = opened(run.workdir.gallery(labelled["round"], labelled["net"] - 1))
    height = gallery.shape[0] // len(labelled["representative"])
    images = opened(run.workdir.originals)
    seen = opened(run.workdir.reconstruction(trained["round"], trained["net"] - 1))
    gap = np.full((images.shape[0], GAP, 3), 255, np.uint8)
    rows = [("reconstruction", np.concatenate([images, gap, seen], axis=1))]
    for number, one in enumerate(labelled["representative"]):
        strip = gallery[number * height : (number + 1) * height]
        count = quantity(one["images"], "image")
        rows.append((f"{one['kind']} cluster,\n{count}", strip))
    figure, axes = drawn(rows)
    for axis, left, right in (
        (axes[0], "images", f"as reconstructed after {figures.turn_name(trained, run.one_net)}"),
        (axes[1], f"{SHOWN} nearest to the centroid", f"{SHOWN} farthest from it"),
    ):
        axis.set_title(left, fontsize=8, loc="left")
        axis.set_title(right, fontsize=8, loc="right")
    figure.tight_layout(h_pad=0.15)
    return figure


def drawn(rows: list[tuple[str, np.ndarray]]) -> tuple[Figure, Sequence[Axes]]:
    """A figure of strips, uint8 [H, W, 3], with their titles on the left."""
    figure, axes = plt.subplots(len(rows), 1, figsize=(9, 0.75 * len(rows)), dpi=110)
    for axis, (title, pixels) in zip(axes, rows):
        axis.imshow(pixels, interpolation="nearest", aspect="equal")
        axis.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure, axes


def opened(path: str) -> np.ndarray:
    """A picture of the run, uint8 [H, W, 3].

    Raises:
      UserError: the picture does not exist.
    """
    if not os.path.exists(path):
        raise UserError(f"{path}: no such picture; the run must be one that keeps pictures")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    cli.run(main, PictureConfig)
