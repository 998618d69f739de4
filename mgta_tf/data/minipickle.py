"""miniImageNet's cache files, which are pickles, and pickles run code.

The unpickler here admits what those files hold and nothing else: containers, strings, numbers, and
NumPy arrays of plain numbers. It never looks a name up outside of the table below.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from mgta_tf.errors import UserError

SIDE = 84  # pixels, of every image in the cache


def _latin1_encode(text: str, encoding: str = "latin1") -> bytes:
    """`_codecs.encode` as Python 3 writes bytes in protocols 0 to 2, for this encoding only."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding!r}")
    return text.encode("latin1")


def _dtype(*args: Any) -> np.dtype:
    dtype = np.dtype(*args)
    if dtype.hasobject:
        raise pickle.UnpicklingError("an array of Python objects")
    return dtype


class _Array(np.ndarray):
    """Takes an array's state only if it holds plain numbers."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state[2], np.dtype) and state[2].hasobject:
            raise pickle.UnpicklingError("an array of Python objects")
        super().__setstate__(state)


def _reconstruct(subtype: type, shape: tuple, typecode: Any) -> np.ndarray:
    """`numpy.core.multiarray._reconstruct`: an empty array whose state comes next."""
    del subtype, shape, typecode
    return np.ndarray.__new__(_Array, (0,), np.dtype("u1"))


def _frombuffer(buffer: bytes, dtype: np.dtype, shape: tuple, order: Any) -> np.ndarray:
    """`numpy.core.numeric._frombuffer`: how protocol 5 holds an array."""
    return np.frombuffer(buffer, _dtype(dtype)).reshape(shape, order=order)


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    return np.frombuffer(data, _dtype(dtype))[0]


_ADMITTED: dict[tuple[str, str], Callable] = {
    ("_codecs", "encode"): _latin1_encode,
    ("collections", "OrderedDict"): dict,
    ("builtins", "list"): list,
    ("builtins", "bytearray"): bytearray,
    ("__builtin__", "bytearray"): bytearray,
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): _Array,
    **{
        (f"numpy.{core}.multiarray", name): function
        for core in ("core", "_core")
        for name, function in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def read_cache(path: str) -> tuple[np.ndarray, list[str]]:
    """A mini-imagenet-cache-*.pkl, written by Python 2 or 3.

    Returns:
      (uint8 [n, 84, 84, 3], the class of each image by name).

    Raises:
      UserError: damaged, of another content, or a pickle that would run code.
    """
    try:
        with open(path, "rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
        pixels, members = np.asarray(content["image_data"]), content["class_dict"]
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (SIDE, SIDE, 3):
            raise ValueError(f"image_data is {pixels.dtype} {list(pixels.shape)}")
        classes = [""] * len(pixels)
        for name, numbers in members.items():
            for number in numbers:
                if not 0 <= int(number) < len(pixels):
                    raise ValueError(f"class {name!r} names image {number}")
                classes[int(number)] = str(name)
        return pixels.view(np.ndarray), classes
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{path}: not a miniImageNet cache ({reason}); get the file again from its source"
        ) from None
