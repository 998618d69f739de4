"""Turns PASCAL VOC into TFRecords for the detector, once for all encoders.

  python -m mgta_tf.make_voc_tfrecord --voc_root=VOCdevkit --output=RECORDS
  python -m mgta_tf.make_voc_tfrecord --voc_root=VOCdevkit --output=RECORDS --train_set=voc0712

mgta_tf.detect reads them with --records=RECORDS; it makes its own where that flag is missing.
"""

from __future__ import annotations

import dataclasses

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.detection import records
from mgta_tf.detection.config import TEST_SET, TRAIN_SETS
from mgta_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class RecordsConfig:
    """The records."""

    voc_root: str = flag("", "Path of the VOCdevkit folder.")
    output: str = flag("", "Folder for the files.")
    train_set: str = flag(
        "voc07",
        "Training set: trainval of VOC2007, or of VOC2007 and VOC2012. VOC2007's test set is "
        "always included.",
        choices=tuple(TRAIN_SETS),
    )


def main(config: RecordsConfig) -> None:
    for name in ("voc_root", "output"):
        if not getattr(config, name):
            raise UserError(f"--{name} is required")
    for name in (*TRAIN_SETS[config.train_set], TEST_SET):
        print(records.describe(name, records.write_set(config.voc_root, name, config.output)))


if __name__ == "__main__":
    cli.run(main, RecordsConfig)
