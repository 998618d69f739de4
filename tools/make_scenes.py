"""Draws scenes of one to four objects in VOC's layout: data for the probe and the detector.

  python tools/make_scenes.py --output=runs/scenes

They are for testing the whole system, not for evaluating the method.
"""

from __future__ import annotations

import dataclasses

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.data.shapes import write_voc_scenes
from mgta_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class ScenesConfig:
    """The scenes."""

    output: str = flag("", "Folder in which VOCdevkit/VOC2007 is made.")
    trainval: int = flag(400, "Scenes to train on.", minimum=1)
    test: int = flag(200, "Scenes to test on.", minimum=1)
    size: int = flag(160, "Pixels per side.", minimum=64)


def main(config: ScenesConfig) -> None:
    if not config.output:
        raise UserError("--output is required: a folder for the scenes")
    write_voc_scenes(config.output, config.trainval, config.test, config.size)
    print(f"{config.output}/VOCdevkit: {config.trainval} + {config.test} scenes")


if __name__ == "__main__":
    cli.run(main, ScenesConfig)
