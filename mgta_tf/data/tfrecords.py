"""TFRecord shards of encoded images, as written by mgta_tf.make_tfrecord, with random access.

A record is a tf.train.Example with `image/encoded` (bytes), `image/filename` and, for images with
classes, `image/class/label` and `image/class/text`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from mgta_tf.data.images import BadImage
from mgta_tf.errors import UserError, quantity
from mgta_tf.runtime import files

HEADER, FOOTER = 12, 4  # bytes of a record's length and CRCs
MAX_CLASSES = 1_000_000
MAX_BYTES = 2**40  # of a file


class Shards:
    """The records of several files as one list.

    Opening reads every file once with TensorFlow's reader, which checks all CRCs.
    names, labels (int32 [N], or None), class_names: as in `mgta_tf.data.layouts.Source`.
    """

    def __init__(self, paths: Sequence[str]):
        self._places: list[tuple[str, int, int]] = []  # file, offset of the data, length
        names: list[str] = []
        labels: list[int] = []
        text_of: dict[int, str] = {}
        for path in paths:
            for offset, length, example in _scan(path):
                self._places.append((path, offset, length))
                name, label, text = _describe(example)
                names.append(name or f"{path}[{len(names)}]")
                labels.append(label)
                text_of.setdefault(label, text)
        labelled = max(labels, default=-1) >= 0
        if labelled and max(labels) >= MAX_CLASSES:
            raise UserError(f"{paths[0]}: a label is {max(labels)}, over {MAX_CLASSES} classes")
        self.names = names
        self.labels = np.array(labels, np.int32) if labelled else None
        classes = range(max(labels) + 1) if labelled else ()
        self.class_names = tuple(text_of.get(c) or f"class {c}" for c in classes)

    def read(self, number: int) -> bytes:
        """The encoded image of a record."""
        path, offset, length = self._places[number]
        with open(path, "rb") as file:
            file.seek(offset)
            content = file.read(length)
        try:
            example = tf.train.Example.FromString(content)
            return example.features.feature["image/encoded"].bytes_list.value[0]
        except (DecodeError, IndexError):
            raise BadImage("not the record that was there") from None


def _scan(path: str):
    """Yields (offset, length, example) of every record of a file.

    Raises:
      UserError: the file is truncated or damaged, or holds something else.
    """
    offset, count = 0, 0
    check_lengths(path)
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            if not example.features.feature["image/encoded"].bytes_list.value:
                raise UserError(
                    f"{path}: record {count} holds no image/encoded; make the files with "
                    "mgta_tf.make_tfrecord"
                )
            yield offset + HEADER, len(record), example
            offset += HEADER + len(record) + FOOTER
            count += 1
    except tf.errors.OpError:
        raise UserError(
            f"{path}: truncated or damaged after {quantity(count, 'record')}; make it again"
        ) from None
    except DecodeError:
        raise UserError(f"{path}: record {count} is not a tf.train.Example") from None


def check_lengths(path: str) -> None:
    """Checks that the lengths of the records add up to the size of the file.

    TensorFlow's reader allocates any length that a record states, so a wrong one could end the
    process.

    Raises:
      UserError: they do not add up.
    """
    try:
        with files.opened(path, MAX_BYTES) as file:
            size, offset, count = os.fstat(file.fileno()).st_size, 0, 0
            while offset < size:
                file.seek(offset)
                header = file.read(HEADER)
                length = int.from_bytes(header[:8], "little")
                offset += HEADER + length + FOOTER
                if len(header) < HEADER or offset > size:
                    raise UserError(
                        f"{path}: truncated or damaged after {quantity(count, 'record')}; make it "
                        "again"
                    )
                count += 1
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _describe(example: tf.train.Example) -> tuple[str, int, str]:
    """(file name, label or -1, class name) of a record; '' for a missing name."""
    features = example.features.feature

    def text(key: str) -> str:
        values = features[key].bytes_list.value
        return values[0].decode("utf-8", "surrogateescape") if values else ""

    labels = features["image/class/label"].int64_list.value
    return text("image/filename"), max(labels[0], -1) if labels else -1, text("image/class/text")


def make_example(encoded: bytes, name: str, label: int, text: str) -> tf.train.Example:
    """Builds the record of an image; a label below 0 is omitted."""

    def bytes_feature(value: bytes) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    feature = {
        "image/encoded": bytes_feature(encoded),
        "image/filename": bytes_feature(name.encode(errors="surrogateescape")),
    }
    if label >= 0:
        label_list = tf.train.Int64List(value=[label])
        feature["image/class/label"] = tf.train.Feature(int64_list=label_list)
        feature["image/class/text"] = bytes_feature(text.encode(errors="surrogateescape"))
    return tf.train.Example(features=tf.train.Features(feature=feature))
