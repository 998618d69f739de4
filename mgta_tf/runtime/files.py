"""Files: untrusted ones read within limits, our own written whole or not at all."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import io
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from mgta_tf.errors import UserError

PATTERN = frozenset("*?[]\\")  # of which TensorFlow makes a pattern
MAX_LIST_BYTES = 256 * 2**20  # of a list of images; ImageNet's has 70 MB


def opened(path: str, limit: int) -> BinaryIO:
    """The file, opened to be read.

    Raises:
      OSError: it is no file (a pipe would be waited for, a device may have no end), or has more
        than `limit` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    about = os.fstat(descriptor)
    if stat.S_ISREG(about.st_mode) and about.st_size <= limit:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISREG(about.st_mode):
        raise OSError(errno.EFBIG, f"{about.st_size} bytes, over the limit of {limit}", path)
    raise OSError(errno.EINVAL, "not a file", path)


def read(path: str, limit: int) -> bytes:
    """The whole file; raises as `opened` does."""
    with opened(path, limit) as file:
        return file.read(limit)


def lines(path: str) -> list[str]:
    """The lines of a text file that are not empty, without their ends and a byte order mark.

    UTF-8, or UTF-16 by its mark; bytes of another encoding stay as Python has them in file names.

    Raises:
      UserError: it cannot be read.
    """
    try:
        content = read(path, MAX_LIST_BYTES)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", "replace")
    else:
        text = content.decode("utf-8-sig", "surrogateescape")
    return [line for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


def is_inside(folder: str, path: str, links: bool) -> bool:
    """Whether a path leads into the folder; unless `links`, also when links are followed."""
    resolve = os.path.abspath if links else os.path.realpath
    root = resolve(folder)
    return os.path.commonpath([root, resolve(path)]) == root


def inside(folder: str, name: str, links: bool, where: str) -> str:
    """`name`, if it stays inside `folder`; unless `links`, also when links are followed.

    Raises:
      UserError: it does not, says the line `where`.
    """
    if "\0" in name:
        raise UserError(f"{where}: {name!r} cannot be a file")
    if not is_inside(folder, os.path.join(folder, name), links):
        raise UserError(f"{where}: {name!r} points outside of {folder}; it is not read")
    return name


def arrays(source: str | BinaryIO, *names: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, without pickles; those of these names must be among them.

    Raises:
      ValueError: damaged.
    """
    try:
        with np.load(source, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        # NumPy gives the bytes of a member that does not begin as an array does.
        if not all(isinstance(value, np.ndarray) for value in found.values()):
            raise ValueError("not only arrays")
        if missing := sorted(set(names) - set(found)):
            raise ValueError(f"no {', '.join(missing)}")
        return found
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds
        raise ValueError(f"damaged ({type(error).__name__}: {error})") from None


@contextlib.contextmanager
def literal(folder: str) -> Iterator[str]:
    r"""A folder, by a path that TensorFlow reads as it stands.

    It takes *, ?, [, ] and \ in the path of a checkpoint for a pattern. Where one of them is there,
    the path is that of a temporary link.
    """
    if not set(folder) & PATTERN:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mgta_tf-") as place:
        link = os.path.join(place, "folder")
        os.symlink(os.path.abspath(folder), link)
        yield link


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A binary file to write; when the block ends it is on the disk and takes the place of `path`.

    A reader, or a kill, finds the old file or the new one, each whole. The folder is made.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    partial = f"{path}.partial"
    with open(partial, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file as `replacing` does."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 text file as `replacing` does; file names in it keep their bytes."""
    write_bytes(path, text.encode(errors="surrogateescape"))


def write_json(path: str, value: Any) -> None:
    """Writes JSON as `replacing` does; NaN and infinity become null."""
    write_text(path, json.dumps(plain(value), indent=1, allow_nan=False) + "\n")


def write_csv(file: BinaryIO, rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows as UTF-8 CSV. Bytes of file names that are not UTF-8 are escaped as \\udcXX."""
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="", write_through=True)
    csv.writer(text).writerows(rows)
    text.detach()  # the file is the caller's to close


def plain(value: Any) -> Any:
    """NumPy scalars, arrays and NaN as what JSON has for them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
