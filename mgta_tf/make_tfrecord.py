"""Converts any set of images that mgta_tf reads to sharded TFRecords, for use as --data_dir.

  python -m mgta_tf.make_tfrecord --data_dir=PHOTOS --output=RECORDS --shards=8

Encoded images are copied unchanged; raw pixels (the miniImageNet cache, shapes) are saved as PNG.
Files that are not written are counted, and listed in RECORDS.skipped.txt.
"""

from __future__ import annotations

import dataclasses
import io
import os

import numpy as np
import tensorflow as tf
from PIL import Image

from mgta_tf import cli
from mgta_tf.config import flag, group
from mgta_tf.data import images, tfrecords
from mgta_tf.data.sources import DataConfig, Source, open_source
from mgta_tf.data.store import counts, report_unusable
from mgta_tf.errors import UserError, printable, quantity


@dataclasses.dataclass(frozen=True)
class OutputConfig:
    """Output."""

    output: str = flag("", "Folder for the files; must be new or empty.")
    shards: int = flag(8, "Number of files to write.", minimum=1)


@dataclasses.dataclass(frozen=True)
class MakeConfig:
    """All flags of mgta_tf.make_tfrecord."""

    to: OutputConfig = group(OutputConfig)
    data: DataConfig = group(DataConfig)


def main(config: MakeConfig) -> None:
    output, shards = config.to.output, config.to.shards
    if not output:
        raise UserError("--output is required: a folder for the TFRecords")
    if os.path.isdir(output) and os.listdir(output):
        raise UserError(f"--output={output} is not empty; choose another folder")
    source = open_source(config.data)
    os.makedirs(output, exist_ok=True)
    paths = [os.path.join(output, f"{i:05d}-of-{shards:05d}.tfrecord") for i in range(shards)]
    partial = [f"{path}.partial" for path in paths]
    try:
        bad = write(source, partial, config.data.max_image_pixels)
        listed = f"{os.path.normpath(output)}.skipped.txt"
        skipped, unread = report_unusable(source, bad, listed, config.data.max_bad_fraction)
        for path in paths:
            os.replace(f"{path}.partial", path)
    finally:
        for path in filter(os.path.exists, partial):
            os.remove(path)
    if not skipped and not unread:
        os.remove(listed)
    images = quantity(len(source.names) - len(bad), "image")
    written = f"{images} in {quantity(shards, 'file')} in {output}"
    print(printable(f"{source.format}: {written}{counts(skipped, unread)}"))


def write(
    source: Source, paths: list[str], max_pixels: int
) -> dict[int, images.BadImage | OSError]:
    """Writes the images of a source to the files in turn. Returns the others' errors by number."""
    bad: dict[int, images.BadImage | OSError] = {}
    writers = [tf.io.TFRecordWriter(path) for path in paths]
    for number, name in enumerate(source.names):
        try:
            image = source.read(number)
            encoded = image if isinstance(image, bytes) else to_png(image)
            images.decode(encoded, max_pixels=max_pixels)
        except (images.BadImage, OSError) as error:
            bad[number] = error
            continue
        label = -1 if source.labels is None else int(source.labels[number])
        text = source.class_names[label] if label >= 0 else ""
        example = tfrecords.make_example(encoded, name, label, text)
        writers[number % len(writers)].write(example.SerializeToString())
    for writer in writers:
        writer.close()
    return bad


def to_png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W, 3] → PNG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    cli.run(main, MakeConfig)
