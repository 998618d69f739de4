"""Cuts squares out of a few photographs: a folder to train on whose pictures may be published.

  python -m tools.docs.crops --photographs=FOLDER --output=squares

This is how docs/pictures/run.jpg was made; report.html has its figures:

  python -m mgta_tf.train --data_dir=squares --workdir=runs/squares --minutes=3 \\
      --crop_min_area=0.4 --color_jitter=0.2 --grayscale=0
  python -m mgta_tf.report --workdir=runs/squares
  python -m tools.docs.picture --workdir=runs/squares --output=docs/pictures/run.jpg

Each photograph becomes a sub-folder of --each squares of random size and place. The photographs of
that picture come with scikit-image 0.24 (astronaut, hubble_deep_field, rocket: public
domain; chelsea, coffee, gravel, retina: CC0), with matplotlib (grace_hopper: public domain) and
with scikit-learn (china by danielbuechele, flower by vultilion, both on Flickr: CC BY 2.0).
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np
from PIL import Image

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.data import images
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.errors import UserError
from mgta_tf.runtime import files

SEED = 0xC40B
SIDE = (0.25, 0.6)  # side of a square, as a fraction of the photograph's shorter side
SIZE = 128  # pixels per side of the files that are written


@dataclasses.dataclass(frozen=True)
class CropsConfig:
    """The squares."""

    photographs: str = flag("", "Folder of photographs.")
    output: str = flag("", "Folder to write.")
    each: int = flag(80, "Squares of each photograph.", minimum=1)


def main(config: CropsConfig) -> None:
    if not config.photographs or not config.output:
        raise UserError("--photographs and --output are required: folders to read and to write")
    source = open_source(DataConfig(data_dir=config.photographs))
    for number, name in enumerate(source.names):
        content = files.read(os.path.join(config.photographs, name), images.MAX_BYTES)
        photograph = images.decode(content)
        folder = os.path.join(config.output, os.path.splitext(os.path.basename(name))[0])
        os.makedirs(folder, exist_ok=True)
        rng = np.random.default_rng([SEED, number])
        for place in range(config.each):
            square(photograph, rng).save(os.path.join(folder, f"{place:03d}.jpg"), quality=92)
    print(f"{config.output}: {config.each} squares of each of {len(source.names)} photographs")


def square(photograph: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A random square of a photograph, uint8 [H, W, 3], as SIZE × SIZE pixels."""
    height, width = photograph.shape[:2]
    side = min(height, width) * rng.uniform(*SIDE)
    left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
    box = (left, top, left + side, top + side)
    return Image.fromarray(photograph).resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box)


if __name__ == "__main__":
    cli.run(main, CropsConfig)
