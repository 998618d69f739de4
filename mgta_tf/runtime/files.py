"""Files: untrusted files are read within limits, and our own are replaced atomically."""

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

# TensorFlow takes a path with one of these for a pattern; Model Garden splits it at a comma.
PATTERN = frozenset("*?[]\\,")
MAX_LIST_BYTES = 256 * 2**20  # size of a list of images; ImageNet's has 70 MB


def opened(path: str, limit: int) -> BinaryIO:
    """Opens a regular file of at most `limit` bytes for reading.

    Raises:
      OSError: the file is larger, or is a pipe or a device, from which reading might never end.
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
    """The content of a file; raises as `opened` does."""
    with opened(path, limit) as file:
        return file.read(limit)


def stamp(path: str) -> str:
    """The path of a file, its size in bytes and its modification time in ns, as text.

    Raises:
      OSError: there is no such file.
    """
    about = os.stat(path)
    return f"{path}\0{about.st_size} {about.st_mtime_ns}"


def lines(path: str) -> list[str]:
    """The non-empty lines of a text file, without line ends and byte order mark.

    The file is UTF-16 if it has its byte order mark, else UTF-8; bytes of other encodings become
    surrogate escapes, as in Python's file names.

    Raises:
      UserError: the file cannot be read.
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
    """Whether a path lies inside the folder; without `links`, after symbolic links are resolved."""
    resolve = os.path.abspath if links else os.path.realpath
    root = resolve(folder)
    return os.path.commonpath([root, resolve(path)]) == root


def inside(folder: str, name: str, links: bool, where: str) -> str:
    """Returns `name` if it lies inside `folder`, as `is_inside` defines it.

    where: the place that names it, for the message.

    Raises:
      UserError: it does not, or cannot be a file name.
    """
    if "\0" in name:
        raise UserError(f"{where}: {name!r} cannot be a file")
    if not is_inside(folder, os.path.join(folder, name), links):
        raise UserError(f"{where}: {name!r} points outside of {folder}; it is not read")
    return name


def arrays(source: str | BinaryIO, *names: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, read without pickle. `names`: arrays that it must contain.

    Raises:
      ValueError: the file is damaged, or an array is missing.
    """
    try:
        with np.load(source, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        # NumPy returns bytes for a member without the header of an array.
        if not all(isinstance(value, np.ndarray) for value in found.values()):
            raise ValueError("not only arrays")
        if missing := sorted(set(names) - set(found)):
            raise ValueError(f"no {', '.join(missing)}")
        return found
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds
        raise ValueError(f"damaged ({type(error).__name__}: {error})") from None


@contextlib.contextmanager
def literal(folder: str) -> Iterator[str]:
    r"""A path to the folder that TensorFlow does not take for a pattern.

    TensorFlow expands *, ?, [, ] and \ in the path of a checkpoint, and Model Garden splits a path
    at commas. For a folder with one of them, this is a temporary symbolic link; a `UserError` names
    the folder itself.
    """
    if not set(folder) & PATTERN:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mgta_tf-") as place:
        link = os.path.join(place, "folder")
        os.symlink(os.path.abspath(folder), link)
        try:
            yield link
        except UserError as error:
            raise UserError(str(error).replace(link, folder)) from None


@contextlib.contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """Yields a binary file that replaces `path` when the block ends, synced to disk.

    The replacement is atomic: readers see the old file or the new one, also after a crash. The
    folder is created if it does not exist.
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
    """Writes UTF-8 text as `replacing` does; surrogate escapes of file names become their bytes."""
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
    """The value for JSON: NumPy scalars and arrays become numbers and lists, NaN becomes None."""
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
