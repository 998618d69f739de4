"""TensorFlow Datasets that are prepared on disk, as a Source that reads image by image."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mgta_tf import extras
from mgta_tf.data.images import BadImage
from mgta_tf.data.layouts import Source
from mgta_tf.data.names import Names
from mgta_tf.data.record_index import IndexFile
from mgta_tf.data.tfrecords import Keys, Part, Shards
from mgta_tf.errors import UserError
from mgta_tf.runtime.progress import counting

KEYS = Keys("image", "", "label", "")
TFRECORD = "tfrecord"  # file format whose records are found by their lengths


def open_dataset(name: str, split: str, folder: str, check_file: str = "") -> Source:
    """The images of a split of a data set, in the order of its files.

    Args:
      name: Name of the data set, as TFDS knows it.
      split: Split in the syntax of TFDS, such as train[:50%].
      folder: Folder with prepared data sets; '' is TFDS's default.
      check_file: File of checks, beside which an earlier run may have saved an index; '' is none.

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
    parts = [Part(str(one.filename), one.skip, one.take) for one in files]
    records: Shards | _Numbered = (
        Shards(parts, KEYS, check_file, name)
        if found is None
        else _Numbered(found, parts, name, bool(classes), check_file)
    )
    labels = records.labels if classes else None
    read, stamp, keep = records.read, records.stamp, records.keep
    return Source(title, records.names, labels, classes, read, stamp=stamp, keep=keep)


class _Numbered:
    """Records that TFDS itself reads by number.

    names, labels (int32 [N], or None): as in `mgta_tf.data.layouts.Source`.
    """

    def __init__(
        self,
        found: Sequence[dict[str, Any]],
        parts: Sequence[Part],
        name: str,
        labelled: bool,
        check_file: str,
    ):
        """Opens the records `found`, which lie in `parts`, of the data set `name`."""
        self._found, self._parts = found, parts
        self._ends = np.cumsum([part.take for part in parts])
        paths = [part.path for part in parts]
        self._file = IndexFile(check_file, repr((parts, name)), paths)
        self.names = Names(f"{name}[{number}]" for number in range(len(found)))
        self.labels: np.ndarray | None = None
        if labelled:
            saved = self._file.load(["labels"], self._checked)
            self.labels = self._read_labels() if saved is None else saved

    def _checked(self, stored: dict[str, np.ndarray]) -> np.ndarray:
        """The labels in a file that may be damaged; raises ValueError."""
        labels = stored["labels"]
        if labels.dtype != np.int32 or labels.shape != (len(self._found),):
            raise ValueError("its labels do not fit the records")
        return labels

    def _read_labels(self) -> np.ndarray:
        """int32 [N], -1 where a record is damaged: `read` says so again."""
        labels = np.full(len(self._found), -1, np.int32)
        with counting(len(labels), "labels") as progress:
            for number in range(len(labels)):
                with contextlib.suppress(BadImage):
                    labels[number] = self._record(number)["label"]
                progress.advance(1)
        return labels

    def read(self, number: int) -> bytes:
        """The encoded image of a record.

        Raises:
          BadImage: the record is damaged.
        """
        record = self._record(number)
        if self.labels is not None and int(record["label"]) != self.labels[number]:
            self._file.forget()
            raise BadImage("not the record that was there")
        return bytes(record["image"])

    def _record(self, number: int) -> dict[str, Any]:
        try:
            return self._found[number]
        except Exception:  # of the reader, or of TFDS
            raise BadImage("a damaged record") from None

    def stamp(self, number: int) -> str:
        """As `mgta_tf.data.layouts.Source.stamp`."""
        part = int(np.searchsorted(self._ends, number, side="right"))
        own = number - int(self._ends[part]) + self._parts[part].take + self._parts[part].skip
        return f"{self._file.stamps[part]} record {own}"

    def keep(self, check_file: str) -> None:
        """Saves the labels beside a file of checks, unless they were read from there."""
        if (labels := self.labels) is not None:
            self._file.keep(check_file, lambda: {"labels": labels})
