"""A file that remembers the check of images, so that no run pays for it twice.

An image is known by its stamp: a hash of the path, size and modification time of its file. By
stamp, the file of checks holds a digest of the content and what the check found. The digest is
compared whenever the image is read, so one that was replaced without a new time is noticed then.
"""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from typing import Any, NamedTuple

import numpy as np
import PIL

from mgta_tf.data import cache_files, images
from mgta_tf.data.images import BadImage, NotRead
from mgta_tf.data.names import ENCODING

FORMAT = 1
DIGEST = 16  # bytes of the digest of an image's content
WORK = "the images are checked"  # without the file
_forgetting = threading.Lock()
ERRORS = {"damaged": BadImage, "unsupported": NotRead}


class Verdict(NamedTuple):
    """What the check of an image found. kind: '', which is usable, or a key of ERRORS.

    text: the reason; for a usable image a remark, or nothing.
    """

    kind: str = ""
    text: str = ""

    def error(self) -> BadImage:
        """The exception for an image that is not usable."""
        return ERRORS[self.kind](self.text)


USABLE = Verdict()


@dataclasses.dataclass(frozen=True, eq=False)
class Remembered:
    """The content of the file, a row per image.

    stamps: uint64 [M], ascending, none of them 0. digests: uint8 [M, DIGEST].
    codes: int32 [M], index of the image's verdict in `verdicts`.
    """

    stamps: np.ndarray
    digests: np.ndarray
    codes: np.ndarray
    verdicts: tuple[Verdict, ...]

    def rows_of(self, stamps: np.ndarray) -> np.ndarray:
        """The row of each stamp, uint64 [N] → int64 [N], -1 for an unknown one."""
        if not len(self.stamps):
            return np.full(len(stamps), -1)
        rows = np.searchsorted(self.stamps, stamps)
        rows[rows == len(self.stamps)] = 0
        rows[self.stamps[rows] != stamps] = -1
        return rows

    def without(self, stamps: np.ndarray) -> Remembered:
        """The other rows."""
        kept = ~np.isin(self.stamps, stamps)
        rows = (self.stamps[kept], self.digests[kept], self.codes[kept])
        return Remembered(*rows, self.verdicts)

    def updated(self, new: Remembered) -> Remembered:
        """With the rows of `new`, which replace those of the same stamp.

        new: its verdicts begin with those of this object.
        """
        old = self.without(new.stamps)
        if not len(old.stamps):
            return new
        stamps, digests, codes = (
            np.concatenate([getattr(one, name) for one in (new, old)])
            for name in ("stamps", "digests", "codes")
        )
        order = np.argsort(stamps)
        return Remembered(stamps[order], digests[order], codes[order], new.verdicts)


NOTHING = Remembered(
    np.zeros(0, np.uint64), np.zeros((0, DIGEST), np.uint8), np.zeros(0, np.int32), (USABLE,)
)


@dataclasses.dataclass(frozen=True)
class CheckFile:
    """The file at `path`, with the limit `--max_image_pixels` of its check.

    An empty path remembers nothing.
    """

    path: str
    max_pixels: int

    def load(self) -> Remembered:
        """The rows of the file; none if there is no file, or its check was another.

        A damaged file is reported, and holds nothing.
        """
        arrays = ("stamps", "digests", "codes")
        return cache_files.load(self.path, arrays, self._rows, WORK) or NOTHING

    def save(self, rows: Remembered) -> bool:
        """Replaces the file as `cache_files.save` does; what it lacks is checked again."""
        about = {**self._about(), "verdicts": rows.verdicts}
        arrays = {"stamps": rows.stamps, "digests": rows.digests, "codes": rows.codes}
        return cache_files.save(self.path, about, arrays, WORK)

    def forget(self, stamp: int) -> None:
        """Removes the row of an image that is not what it was. Threads may call it at once."""
        with _forgetting:
            rows = self.load()
            if stamp in rows.stamps:
                self.save(rows.without(np.array([stamp], np.uint64)))

    def _rows(self, about: dict[str, Any], stored: dict[str, np.ndarray]) -> Remembered:
        verdicts = tuple(Verdict(*map(str, each)) for each in about.pop("verdicts"))
        rows = _valid(stored["stamps"], stored["digests"], stored["codes"], verdicts)
        return rows if about == self._about() else NOTHING

    def _about(self) -> dict[str, Any]:
        """What the verdicts depend on, besides the content of the images."""
        heif = images.has_heif()
        return {
            "format": FORMAT,
            "max_pixels": self.max_pixels,
            "pillow": PIL.__version__,
            "heif": heif,
        }


def _valid(
    stamps: np.ndarray, digests: np.ndarray, codes: np.ndarray, verdicts: tuple[Verdict, ...]
) -> Remembered:
    """The arrays of a file as rows.

    Raises:
      ValueError: they do not fit together.
    """
    kinds = (stamps.dtype, digests.dtype, codes.dtype) == (np.uint64, np.uint8, np.int32)
    shapes = (digests.shape, codes.shape) == ((len(stamps), DIGEST), stamps.shape)
    if not kinds or stamps.ndim != 1 or not shapes:
        raise ValueError("its arrays do not fit together")
    ascending = len(stamps) == 0 or (stamps[0] > 0 and bool((stamps[1:] > stamps[:-1]).all()))
    in_range = len(codes) == 0 or (codes.min() >= 0 and codes.max() < len(verdicts))
    if not ascending or not in_range or any(v.kind and v.kind not in ERRORS for v in verdicts):
        raise ValueError("its rows are not in order")
    if verdicts[:1] != (USABLE,):
        raise ValueError("its verdicts are not in order")
    return Remembered(stamps, digests, codes, verdicts)


def stamp_of(about: str) -> int:
    """The stamp of an image, 1 … 2**64 - 1, from `Source.stamp`; 0 where that is empty."""
    if not about:
        return 0
    hashed = hashlib.blake2b(about.encode(*ENCODING), digest_size=8)
    return int.from_bytes(hashed.digest(), "little") or 1


def digest_of(content: bytes | np.ndarray) -> bytes:
    """A digest of DIGEST bytes of the content of an image."""
    if isinstance(content, np.ndarray):
        content = repr((content.shape, content.dtype.str)).encode() + content.tobytes()
    return hashlib.blake2b(content, digest_size=DIGEST).digest()
