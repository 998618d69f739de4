"""TFRecord shards of encoded images, with random access.

A record is a tf.train.Example. Those of mgta_tf.make_tfrecord have `image/encoded` (bytes),
`image/filename` and, for images with classes, `image/class/label` and `image/class/text`; those of
TensorFlow Datasets have `image` and `label`.

Opening reads the lengths of the records and their short values, and skips the images; or it reads
these from an index that an earlier run has saved. When a record is read for the first time, its
checksum is compared, and what it says with the index.
"""

from __future__ import annotations

import array
import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from mgta_tf.data import images, record_index
from mgta_tf.data.images import BadImage
from mgta_tf.data.names import Names
from mgta_tf.data.record_index import FOOTER, HEADER, Index, IndexFile
from mgta_tf.errors import UserError, quantity
from mgta_tf.runtime import files
from mgta_tf.runtime.progress import Progress, counting

MAX_CLASSES = 1_000_000
MAX_BYTES = 2**40  # of a file
MAX_RECORD = images.MAX_BYTES + 2**20  # bytes
WINDOW = 1024  # bytes that are read at once
SHORT = 4096  # bytes of a feature; longer ones, which are images, are skipped
MAX_FIELDS = 10_000  # of a message
MB = 1e6


class Keys(NamedTuple):
    """Names of the features of a record; '' for one that it does not have."""

    image: str = "image/encoded"
    name: str = "image/filename"
    label: str = "image/class/label"
    text: str = "image/class/text"


OWN_KEYS = Keys()


class Part(NamedTuple):
    """Records `skip` … `skip + take` - 1 of a file; all from `skip` on if `take` is -1."""

    path: str
    skip: int = 0
    take: int = -1


class Shards:
    """The records of several files as one list.

    names, labels (int32 [N], or None), class_names: as in `mgta_tf.data.layouts.Source`.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        keys: Keys = OWN_KEYS,
        check_file: str = "",
        unnamed: str = "",
    ):
        """Opens the files.

        Args:
          parts: The records.
          keys: Names of their features.
          check_file: The file of checks beside which `keep` has saved the index; '' is none.
          unnamed: Name of the data set, for records without names; '' uses that of the file.

        Raises:
          UserError: a file is truncated or damaged, or holds something else.
        """
        self._parts, self._keys, self._unnamed = list(parts), keys, unnamed
        paths = [part.path for part in self._parts]
        self._file = IndexFile(check_file, repr((self._parts, keys, unnamed)), paths)
        sizes = [os.path.getsize(path) for path in paths]
        saved = self._file.load(record_index.ARRAYS, lambda s: record_index.index_of(s, sizes))
        self._index = saved or self._scanned(sum(sizes))
        self.names = self._index.names
        self.class_names = tuple(self._index.class_names)
        self.labels = self._index.labels if self.class_names else None
        self._verified = np.zeros(len(self.names), bool)

    def _scanned(self, size: int) -> Index:
        """The index, from the files, which have `size` bytes together."""
        ends, offsets, lengths, labels = (array.array("q") for _ in range(4))
        names, text_of = Names(), {}
        with counting(size / MB, "MB of records") as progress:
            for part in self._parts:
                for offset, length, features in _scan(part, self._keys, progress):
                    label = _label(features, self._keys.label)
                    names.append(self._name(part, len(names), features))
                    labels.append(label)
                    offsets.append(offset)
                    lengths.append(length)
                    if label not in text_of:
                        text_of[label] = _text(features, self._keys.text)
                ends.append(len(names))
        most = max(labels, default=-1)
        if most >= MAX_CLASSES:
            raise UserError(f"{self._parts[0].path}: a label is {most}, over {MAX_CLASSES} classes")
        class_names = Names(text_of.get(c) or f"class {c}" for c in range(most + 1))
        return Index(
            np.array(ends, np.int64),
            np.array(offsets, np.int64),
            np.array(lengths, np.int64),
            np.array(labels, np.int32),
            names,
            class_names,
        )

    def keep(self, check_file: str) -> None:
        """Saves the index beside a file of checks, unless it was read from there."""
        self._file.keep(check_file, self._index.arrays)

    def read(self, number: int) -> bytes:
        """The encoded image of a record.

        Raises:
          OSError, BadImage: the file cannot be read, or the record is damaged.
        """
        offset, length = int(self._index.offsets[number]), int(self._index.lengths[number])
        if length > MAX_RECORD:
            raise BadImage(f"a record of over {MAX_RECORD} bytes")
        with open(self._parts[self._part(number)].path, "rb") as file:
            file.seek(offset - HEADER)
            header, record, checksum = (file.read(n) for n in (HEADER, length, FOOTER))
        if header[:8] != length.to_bytes(8, "little"):
            raise self._moved()
        try:
            if not self._verified[number]:
                self._verify(number, record, checksum)
            features = tf.train.Example.FromString(record).features
            return features.feature[self._keys.image].bytes_list.value[0]
        except (DecodeError, IndexError):
            raise self._moved() from None

    def _verify(self, number: int, record: bytes, checksum: bytes) -> None:
        if checksum != checksum_of(record):
            raise BadImage("a damaged record (its checksum)")
        window = _Window(lambda length, place: record[place : place + length], len(record))
        features, _ = _short_features(window, 0, len(record))
        name = self._name(self._parts[self._part(number)], number, features)
        label = _label(features, self._keys.label)
        if (name, label) != (self.names[number], self._index.labels[number]):
            raise self._moved()
        self._verified[number] = True

    def _moved(self) -> BadImage:
        """The error for a record that is not what the index says; the next run makes a new one."""
        self._file.forget()
        return BadImage("not the record that was there")

    def stamp(self, number: int) -> str:
        """As `mgta_tf.data.layouts.Source.stamp`."""
        return f"{self._file.stamps[self._part(number)]} {self._index.offsets[number]}"

    def _part(self, number: int) -> int:
        return int(np.searchsorted(self._index.ends, number, side="right"))

    def _name(self, part: Part, number: int, features: tf.train.Features) -> str:
        return _text(features, self._keys.name) or f"{self._unnamed or part.path}[{number}]"


def _scan(
    part: Part, keys: Keys, progress: Progress
) -> Iterator[tuple[int, int, tf.train.Features]]:
    """Yields (offset, length, features without long values) of every record of a part.

    Raises:
      UserError: the file is truncated or damaged, or holds something else.
    """
    path = part.path
    last = None if part.take < 0 else part.skip + part.take
    with _opened(path) as window:
        shown = 0
        for count, (offset, length) in enumerate(_records(path, window)):
            if offset - shown >= MB:
                progress.advance((offset - shown) / MB)
                shown = offset
            if count < part.skip or (last is not None and count >= last):
                continue
            try:
                features, long = _short_features(window, offset, offset + length)
            except DecodeError:
                raise UserError(f"{path}: record {count} is not a tf.train.Example") from None
            if keys.image not in long and not features.feature[keys.image].bytes_list.value:
                raise UserError(
                    f"{path}: record {count} holds no {keys.image}; make the files with "
                    "mgta_tf.make_tfrecord"
                )
            yield offset, length, features


def check_lengths(path: str) -> None:
    """Checks that the lengths of the records add up to the size of the file.

    TensorFlow's reader allocates any length that a record states, so a wrong one could end the
    process.

    Raises:
      UserError: they do not add up.
    """
    with _opened(path) as window:
        for _ in _records(path, window):
            pass


def _records(path: str, window: _Window) -> Iterator[tuple[int, int]]:
    """Yields (offset of the data, its length) of every record.

    Raises:
      UserError: the lengths do not add up to the size of the file.
    """
    place, count = 0, 0
    while place < window.size:
        header = window.at(place, HEADER)
        length = int.from_bytes(header[:8], "little")
        end = place + HEADER + length + FOOTER
        if len(header) < HEADER or end > window.size:
            raise UserError(
                f"{path}: truncated or damaged after {quantity(count, 'record')}; make it again"
            )
        yield place + HEADER, length
        place, count = end, count + 1


class _Window:
    """Bytes of which a piece is kept, so that short values near each other are read at once.

    read: (length, place) → the bytes there; fewer at the end. size: number of all bytes.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int):
        self._read, self._begin, self._piece, self.size = read, 0, b"", size

    def at(self, place: int, length: int) -> bytes:
        """`length` bytes from `place` on; fewer at the end of the file."""
        first = place - self._begin
        if first < 0 or first + length > len(self._piece):
            self._piece = self._read(max(length, WINDOW), place)
            self._begin, first = place, 0
        return self._piece[first : first + length]


@contextlib.contextmanager
def _opened(path: str) -> Iterator[_Window]:
    try:
        with files.opened(path, MAX_BYTES) as file:
            number = file.fileno()
            size = os.fstat(number).st_size
            yield _Window(lambda length, place: os.pread(number, length, place), size)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


# ----------------------------------------------------------------------------- Protocol buffers

LENGTH_DELIMITED, FIXED = 2, {1: 8, 5: 4}  # wire types; bytes of a value


def _short_features(window: _Window, begin: int, end: int) -> tuple[tf.train.Features, set[str]]:
    """The features of the tf.train.Example at `begin`, without long ones, and the keys of these.

    Raises:
      DecodeError: it is none.
    """
    short, long = [], set()
    for number, _, first, last in _fields(window, begin, end):
        if number != 1:  # Example.features
            continue
        for entry, start, key, stop in _fields(window, first, last):
            if entry == 1 and stop - key > SHORT:  # Features.feature
                long.add(_key(window, key, stop))
            elif entry == 1:
                short.append(window.at(start, stop - start))
    return tf.train.Features.FromString(b"".join(short)), long


def _key(window: _Window, begin: int, end: int) -> str:
    """The key of an entry of a map; '' if it is long."""
    for number, _, first, last in _fields(window, begin, end):
        if number == 1 and last - first <= SHORT:
            return window.at(first, last - first).decode(errors="replace")
    return ""


def _fields(window: _Window, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields (number, start, begin of the value, end) of a message's length-delimited fields.

    Raises:
      DecodeError: these bytes are no message.
    """
    place, count = begin, 0
    while place < end:
        start, head = place, window.at(place, min(20, end - place))
        tag, used = _varint(head, 0)
        wire, count = tag & 7, count + 1
        if wire == LENGTH_DELIMITED:
            length, used = _varint(head, used)
            place = start + used + length
        elif wire == 0:
            place = start + _varint(head, used)[1]
        elif wire in FIXED:
            place = start + used + FIXED[wire]
        if place > end or place == start or count > MAX_FIELDS:
            raise DecodeError("not a message")
        if wire == LENGTH_DELIMITED:
            yield tag >> 3, start, start + used, place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """(the number at `place`, where it ends)."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte, place = data[place], place + 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise DecodeError("not a number")


def _text(features: tf.train.Features, key: str) -> str:
    """The first value of a feature as text; '' if there is none."""
    values = features.feature[key].bytes_list.value if key in features.feature else ()
    return values[0].decode("utf-8", "surrogateescape") if values else ""


def _label(features: tf.train.Features, key: str) -> int:
    """The first value of a feature as a label; -1 if there is none."""
    values = features.feature[key].int64_list.value if key in features.feature else ()
    return max(values[0], -1) if values else -1


def checksum_of(record: bytes) -> bytes:
    """The masked CRC-32C of a record's data, the last bytes of the record in its file.

    TensorFlow has no operation for it, but computes it when it writes a record, here to memory.
    """
    path = f"ram://mgta_tf-record-{threading.get_ident()}"
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(record)
    with tf.io.gfile.GFile(path, "rb") as file:
        file.seek(HEADER + len(record))
        checksum = file.read(FOOTER)
    tf.io.gfile.remove(path)  # a writer would append to it
    return checksum


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
