"""TensorFlow Datasets that are prepared on disk, as a Source that reads image by image."""

from __future__ import annotations

import numpy as np

from mgta_tf import extras
from mgta_tf.data.layouts import Source
from mgta_tf.data.tfrecords import Keys, Part, Shards
from mgta_tf.errors import UserError

KEYS = Keys("image", "", "label", "")
TFRECORD = "tfrecord"  # file format whose records are found by their lengths


def open_dataset(name: str, split: str, folder: str) -> Source:
    """The images of a split of a data set, in the order of its files.

    Args:
      name: Name of the data set, as TFDS knows it.
      split: Split in the syntax of TFDS, such as train[:50%].
      folder: Folder with prepared data sets; '' is TFDS's default.

    Raises:
      UserError: TFDS is not installed, or the data set is not prepared, has no such split, or no
        images.
    """
    flag = f"--data_source=tfds:{name}"
    extras.require("tensorflow_datasets", "TensorFlow Datasets", "detection", flag)
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=folder or None)
        info = builder.info
        features = info.features
        if "image" not in features or not isinstance(features["image"], tfds.features.Image):
            raise UserError(f"{flag}: it has no feature 'image' that is an image")
        files = info.splits[split].file_instructions
        found = None
        if info.file_format and info.file_format.value != TFRECORD:
            decoders = {"image": tfds.decode.SkipDecoding()}
            found = builder.as_data_source(split=split, decoders=decoders)
    except (
        *(AssertionError, FileNotFoundError, KeyError, NotImplementedError, ValueError),
        tfds.core.DatasetNotFoundError,
    ) as error:
        raise UserError(
            f"{flag}: not prepared on disk, or no split {split!r} "
            f"({str(error).splitlines()[0]}). Prepare it with `tfds build`, or turn its images "
            "into a folder"
        ) from None
    classes = tuple(features["label"].names) if "label" in features else ()
    title = f"tfds:{name}, {split}"
    if found is not None:
        return _of_sequence(title, name, found, classes)
    shards = Shards([Part(str(one.filename), one.skip, one.take) for one in files], KEYS)
    names = [f"{name}[{number}]" for number in range(len(shards.names))]
    labels = shards.labels if classes else None
    return Source(title, names, labels, classes, shards.read, stamp=shards.stamp)


def _of_sequence(title: str, name: str, found, classes: tuple[str, ...]) -> Source:
    """A data set whose files TFDS itself reads by number."""
    names = [f"{name}[{number}]" for number in range(len(found))]
    labels = None
    if classes:
        read = (int(found[number]["label"]) for number in range(len(found)))
        labels = np.fromiter(read, np.int32, len(found))
    return Source(title, names, labels, classes, lambda number: bytes(found[number]["image"]))
