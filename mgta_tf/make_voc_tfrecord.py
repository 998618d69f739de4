"""Converts photographs with boxes to TFRecords for the detector; several encoders can share them.

  python -m mgta_tf.make_voc_tfrecord --voc_root=VOCdevkit --output=RECORDS
  python -m mgta_tf.make_voc_tfrecord --voc_root=VOCdevkit --output=RECORDS --train_set=voc0712
  python -m mgta_tf.make_voc_tfrecord --coco_root=helmets --output=RECORDS

mgta_tf.detect --records=RECORDS reads them. Without that flag it makes its own.
"""

from __future__ import annotations

import dataclasses
import os

from mgta_tf import cli
from mgta_tf.config import flag, group
from mgta_tf.detection.config import BoxDataConfig
from mgta_tf.detection.sets import load, write_skipped
from mgta_tf.errors import UserError


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """The records."""

    output: str = flag("", "Folder for the files.")


@dataclasses.dataclass(frozen=True)
class RecordsConfig:
    """All flags of mgta_tf.make_voc_tfrecord."""

    output: OutputConfig = group(OutputConfig)
    data: BoxDataConfig = group(BoxDataConfig)


def main(config: RecordsConfig) -> None:
    output = config.output.output
    if not output:
        raise UserError("--output is required: the folder for the files")
    sets = load(config.data)
    for remark in sets.remarks:
        print(remark, flush=True)
    from mgta_tf.detection import records  # TensorFlow, after everything that may be refused

    for name, counts in records.write(sets, output).items():
        print(records.describe(name, counts))
    if sets.skipped:
        path = os.path.join(output, "skipped.txt")
        write_skipped(sets, path)
        print(f"{path}: lists everything that is skipped")


if __name__ == "__main__":
    cli.run(main, RecordsConfig)
