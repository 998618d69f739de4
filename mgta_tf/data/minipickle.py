"""A safe reader for miniImageNet's cache files, which are pickles and could run code.

This unpickler accepts only the content of those files: dicts with plain keys, lists, tuples,
strings, small integers, and NumPy arrays of plain numbers. It supports only the opcodes for these,
resolves only the names in the table below, and builds arrays from their bytes without NumPy's
unpickling. It extends Python's pure-Python unpickler, whose memory grows with the content of the
file; the C version allocates any size that a file states.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from mgta_tf.errors import UserError
from mgta_tf.runtime import files

SIDE = 84  # pixels, of every image in the cache
MAX_BYTES = 4 * 2**30  # maximum size of a file; the largest of the three has 0.8 GB
MAX_OPCODES = 3_000_000  # an image takes about three, in the list of its class

OPCODES = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE"),
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
    *("TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "LIST", "EMPTY_LIST", "APPEND"),
    *("APPENDS", "DICT", "EMPTY_DICT", "SETITEM", "SETITEMS", "BUILD"),
    *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
)

_PythonUnpickler: Any = pickle._Unpickler


class _Dtype:
    """A NumPy dtype of plain numbers, built from its code and its byte order."""

    def __init__(self, code: str, *_: Any):
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?[biuf][1248]", code):
            raise pickle.UnpicklingError("an array of something other than numbers")
        self.numpy = np.dtype(code)

    def take(self, state: Any) -> None:
        order, rest = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or rest != (None, None, None):
            raise pickle.UnpicklingError("an array of records")
        self.numpy = self.numpy.newbyteorder(order)


class _Array:
    """A NumPy array, empty until its state is set."""

    numpy = np.empty(0, np.uint8)

    def take(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.numpy = _frombuffer(content, dtype, shape, "F" if fortran else "C").numpy


def _latin1_encode(text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode`, with which Python 3 writes bytes in protocols 0 to 2; latin-1 only."""
    if encoding != "latin1":
        raise pickle.UnpicklingError("an encoding other than Latin-1")
    return text.encode("latin1")


def _frombuffer(content: Any, dtype: _Dtype, shape: tuple, order: Any) -> _Array:
    """`numpy.core.numeric._frombuffer`, which holds an array in protocol 5."""
    content = content.encode("latin1") if isinstance(content, str) else content
    array = _Array()
    array.numpy = np.frombuffer(content, dtype.numpy).reshape(shape, order=order)
    return array


def _reconstruct(*_: Any) -> _Array:
    """`numpy.core.multiarray._reconstruct`: an empty array, whose state follows."""
    return _Array()


def _scalar(dtype: _Dtype, content: Any) -> int | float:
    return _frombuffer(content, dtype, (1,), "C").numpy[0].item()


def _bytearray(content: bytes = b"") -> bytes:
    if not isinstance(content, bytes):
        raise pickle.UnpicklingError("a bytearray of no bytes")
    return content


_ADMITTED: dict[tuple[str, str], Callable | str] = {
    ("_codecs", "encode"): _latin1_encode,
    ("builtins", "bytearray"): _bytearray,
    ("__builtin__", "bytearray"): _bytearray,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "numpy.ndarray",  # only ever an argument of _reconstruct
    **{
        (f"numpy.{core}.multiarray", name): function
        for core in ("core", "_core")
        for name, function in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}


class _Counted(dict):
    """A dispatch table that stops after MAX_OPCODES opcodes."""

    left = MAX_OPCODES

    def __getitem__(self, key: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"more than {MAX_OPCODES} opcodes")
        return super().__getitem__(key)

    def __missing__(self, key: int) -> Any:
        raise pickle.UnpicklingError(f"opcode {key}, which no such file has")


class _Unpickler(_PythonUnpickler):
    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="latin1")
        codes = [getattr(pickle, name)[0] for name in OPCODES]
        known = {code: _PythonUnpickler.dispatch[code] for code in codes}
        known[pickle.BUILD[0]] = _Unpickler.build
        for name in ("DICT", "SETITEM", "SETITEMS"):
            code = getattr(pickle, name)[0]
            known[code] = _with_plain_keys(known[code])
        self.dispatch = _Counted(known)

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module:.40}.{name:.40}") from None

    def build(self) -> None:
        state = self.stack.pop()
        self.stack[-1].take(state)


def _with_plain_keys(store: Callable) -> Callable:
    """An opcode that fills a dict, restricted to keys that are safe to hash."""

    def checked(self: Any) -> None:
        keys = self.stack[-2:-1] if store is _PythonUnpickler.load_setitem else self.stack[::2]
        for key in keys:
            if not isinstance(key, (str, bytes)) and not (type(key) is int and abs(key) < 2**60):
                raise pickle.UnpicklingError("a dict with keys of another kind")
        store(self)

    return checked


def read_cache(path: str) -> tuple[np.ndarray, list[str]]:
    """Reads a mini-imagenet-cache-*.pkl, written by Python 2 or 3.

    Returns:
      (uint8 [n, 84, 84, 3], the class of each image by name).

    Raises:
      UserError: the file is damaged, has other content, or is a pickle that would run code.
    """
    try:
        with files.opened(path, MAX_BYTES) as file:
            content = _Unpickler(file).load()
        pixels = content["image_data"].numpy
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (SIDE, SIDE, 3):
            raise ValueError(f"image_data is {pixels.dtype} {list(pixels.shape)}")
        return pixels, _classes(content["class_dict"], len(pixels))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path}: not a miniImageNet cache ({reason}); get the file again from its source"
        ) from None


def _classes(members: dict[str, Any], count: int) -> list[str]:
    """The class of each of `count` images, from the image numbers of each class."""
    classes, left = [""] * count, count
    for name, numbers in members.items():
        numbers = numbers.numpy.tolist() if isinstance(numbers, _Array) else numbers
        left -= len(numbers)
        if left < 0:
            raise ValueError(f"class_dict names more images than there are ({count})")
        for number in numbers:
            if not isinstance(number, int) or not 0 <= number < count:
                raise ValueError(f"class {str(name)[:40]!r} names an image that does not exist")
            classes[number] = str(name)
    return classes
