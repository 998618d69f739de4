"""Draws images of a run and below them their reconstructions by its exported auto-encoder.

python -m tools.docs.contact_sheet --workdir=runs/mine --output=sheet.png
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
from PIL import Image

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.data import images
from mgta_tf.data.sources import open_source
from mgta_tf.errors import UserError
from mgta_tf.models.artifact import load_reconstruct
from mgta_tf.runtime.workdir import Workdir, load_config
from mgta_tf.training.config import TrainConfig

SCALE = 2  # pixels of the sheet per pixel of an image


@dataclasses.dataclass(frozen=True)
class SheetConfig:
    """The sheet."""

    workdir: str = flag("", "Folder of a run that has a saved_model/.")
    output: str = flag("", "PNG to write.")
    count: int = flag(12, "Images, spread evenly over the data.", minimum=1)


def main(config: SheetConfig) -> None:
    if not config.output:
        raise UserError("--output is required: the PNG to write")
    run = load_config(Workdir(config.workdir).flagfile, TrainConfig)
    saved_model = os.path.join(config.workdir, "saved_model")
    source = open_source(run.data)
    size = run.augment.image_size
    numbers = np.linspace(0, len(source.names) - 1, config.count, dtype=int)
    originals = np.stack(
        [
            images.load_square(source.read(int(n)), size, run.data.resize_policy, images.MAX_PIXELS)
            for n in numbers
        ]
    )
    reconstructions = load_reconstruct(saved_model)(originals)
    rows = [np.concatenate(list(row), axis=1) for row in (originals, reconstructions)]
    sheet = Image.fromarray(np.concatenate(rows, axis=0))
    sheet.resize((sheet.width * SCALE, sheet.height * SCALE), Image.Resampling.NEAREST).save(
        config.output
    )
    print(f"{config.output}: {len(numbers)} images above their reconstructions")


if __name__ == "__main__":
    cli.run(main, SheetConfig)
