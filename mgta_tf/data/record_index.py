"""The index of the records of a data set: where each lies, and what it says besides its image.

Making it reads every record at least in part. A file beside that of the checks keeps it as
long as no file of the data set has another path, size or modification time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mgta_tf.data import cache_files
from mgta_tf.data.names import ENCODING, Names
from mgta_tf.errors import UserError
from mgta_tf.runtime import files

FORMAT = 1
HEADER, FOOTER = 12, 4  # bytes of a TFRecord before its data (length, CRC) and after them (CRC)
WORK = "the records are indexed"  # without the file
T = TypeVar("T")


class IndexFile:
    """A file beside that of the checks that keeps what is known about the records of a data set.

    stamps: `files.stamp` of each file of the data set.
    """

    def __init__(self, check_file: str, data_set: str, paths: Sequence[str]):
        """Names the file.

        Args:
          check_file: Path of the file of checks; '' keeps nothing.
          data_set: Text that differs between data sets, and between parts of one.
          paths: The files of the data set.

        Raises:
          UserError: one of these does not exist.
        """
        try:
            self.stamps = [files.stamp(os.path.realpath(path)) for path in paths]
        except OSError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None
        self._data_set, self._path, self._is_current = data_set, "", False
        self._set_path(check_file)

    def load(self, names: Sequence[str], make: Callable[[dict[str, np.ndarray]], T]) -> T | None:
        """As `cache_files.load`; None also if a file of the data set has changed."""

        def current(about: Any, stored: dict[str, np.ndarray]) -> T | None:
            return make(stored) if about == [FORMAT, *self.stamps] else None

        found = cache_files.load(self._path, names, current, WORK)
        self._is_current = found is not None
        return found

    def keep(self, check_file: str, arrays: Callable[[], dict[str, np.ndarray]]) -> None:
        """Saves the arrays beside `check_file`, unless they have been loaded from there."""
        before = self._path
        self._set_path(check_file)
        if self._is_current and self._path == before:
            return
        about = [FORMAT, *self.stamps]
        self._is_current = cache_files.save(self._path, about, arrays(), WORK)

    def forget(self) -> None:
        """Removes the file, because a record is not what it says. Every host may do this."""
        with contextlib.suppress(OSError):
            os.remove(self._path)

    def _set_path(self, check_file: str) -> None:
        of_set = self._data_set.encode(*ENCODING)
        name = f".records-{hashlib.blake2b(of_set, digest_size=8).hexdigest()}.npz"
        self._path = os.path.splitext(check_file)[0] + name if check_file else ""


class Index(NamedTuple):
    """The index of N records.

    ends: int64 [parts], number of the last record of each part, plus 1.
    offsets, lengths: int64 [N], of the data of each record, in bytes.
    labels: int32 [N], -1 for none. names: [N]. class_names: of the labels; none without labels.
    """

    ends: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    labels: np.ndarray
    names: Names
    class_names: Names

    def arrays(self) -> dict[str, np.ndarray]:
        """The content of a file."""
        kept = {name: getattr(self, name) for name in NUMBERS}
        for name in TEXTS:
            kept[name], kept[f"{name}_ends"] = getattr(self, name).arrays()
        return kept


NUMBERS = {"ends": np.int64, "offsets": np.int64, "lengths": np.int64, "labels": np.int32}
TEXTS = ("names", "class_names")
ARRAYS = (*NUMBERS, *TEXTS, *(f"{name}_ends" for name in TEXTS))


def index_of(stored: dict[str, np.ndarray], sizes: Sequence[int]) -> Index:
    """The index in `Index.arrays`, from a file that may be damaged.

    sizes: bytes of the file of each part.

    Raises:
      ValueError: they are no index of such files.
    """
    ends, offsets, lengths, labels = (stored[name] for name in NUMBERS)
    names, class_names = (Names.from_arrays(stored[n], stored[f"{n}_ends"]) for n in TEXTS)
    if any(stored[n].dtype != kind or stored[n].ndim != 1 for n, kind in NUMBERS.items()):
        raise ValueError("its numbers are of another type")
    counts = {len(offsets), len(lengths), len(labels), len(names), *ends[-1:].tolist()}
    if len(ends) != len(sizes) or counts != {len(names)} or (np.diff(ends, prepend=0) < 0).any():
        raise ValueError("its arrays do not fit together")
    limits = np.repeat(np.array(sizes, np.int64), np.diff(ends, prepend=0)) - FOOTER
    inside = (offsets >= HEADER) & (lengths >= 0) & (lengths <= limits)
    if not (inside & (offsets <= limits - lengths)).all():
        raise ValueError("its records are not in the files")
    if len(labels) and not -1 <= labels.min() <= labels.max() < len(class_names):
        raise ValueError("its labels are out of range")
    return Index(ends, offsets, lengths, labels, names, class_names)
