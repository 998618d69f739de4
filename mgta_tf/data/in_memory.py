"""A Source of images in a program: arrays, PIL images, paths, or a tf.data.Dataset."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mgta_tf.data import images
from mgta_tf.data.layouts import Source
from mgta_tf.errors import UserError
from mgta_tf.runtime import files

PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def is_path(value: Any) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


def path_of(value: Any) -> str:
    """A path as text, with '~' expanded."""
    return os.path.expanduser(os.fsdecode(value))


def source_of(data: Any) -> Source:
    """The images of `data`. The name of an image is its path, else its number.

    Args:
      data: An array uint8 [N, H, W, 3]; a list of paths, PIL images or arrays; or a
        `tf.data.Dataset`, which is read to its end and kept in memory. Its elements are images
        [H, W, 3] or batches, alone, first in a tuple, or under 'image' in a dict.

    Raises:
      UserError: `data` is none of these, or empty.
    """
    kind = type(data).__name__
    if isinstance(data, np.ndarray) and data.dtype.kind not in "OUS":
        if data.dtype != np.uint8 or data.ndim != 4 or data.shape[3] != 3:
            raise UserError(
                f"images are uint8 [N, H, W, 3] in 0..255, not {data.dtype} {list(data.shape)}"
            )
        found: Any = data
    elif hasattr(data, "as_numpy_iterator"):
        kind, found = "tf.data.Dataset", list(_of_dataset(data.as_numpy_iterator()))
    elif isinstance(data, Iterable):
        found = [_as_read(item, number) for number, item in enumerate(data)]
    else:
        raise UserError(f"{kind}: neither a folder nor images; see help(mgta_tf.pretrain)")
    if not len(found):
        raise UserError(f"{kind}: no images in it")

    def read(number: int) -> bytes | np.ndarray:
        one = found[number]
        return files.read(one, images.MAX_BYTES) if isinstance(one, str) else one

    def stamp(number: int) -> str:
        one = found[number]
        return files.stamp(os.path.abspath(one)) if isinstance(one, str) else ""

    names = [one if isinstance(one, str) else str(number) for number, one in enumerate(found)]
    return Source(f"{kind} of images", names, None, (), read, stamp=stamp)


def _of_dataset(elements: Iterable[Any]) -> Iterable[np.ndarray]:
    """The images of a dataset one by one."""
    for element in elements:
        image = image_of(element)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (3, 4):
            what = getattr(image, "dtype", type(image).__name__)
            shape = list(getattr(image, "shape", ()))
            raise UserError(
                f"tf.data.Dataset: images are uint8 [H, W, 3] or [n, H, W, 3] in 0..255, not "
                f"{what} {shape}"
            )
        yield from image if image.ndim == 4 else [image]


def image_of(element: Any) -> Any:
    """The image of a dataset's element, which may have a label as well."""
    if isinstance(element, dict):
        element = element.get("image", element)
    return element[0] if isinstance(element, tuple) else element


def _as_read(item: Any, number: int) -> str | bytes | np.ndarray:
    """A path as text, the file of a PIL image, or the pixels uint8 [H, W, 3] of an array."""
    if is_path(item):
        return path_of(item)
    if isinstance(item, Image.Image):
        return as_file(item)
    if isinstance(item, np.ndarray):
        return item
    raise UserError(f"image {number}: {type(item).__name__} is neither an image nor a path of one")


def as_file(image: Image.Image) -> bytes:
    """A PIL image as a file, so that it is read by the same rules: transparency, 16 bits, EXIF."""
    upright = ImageOps.exif_transpose(image)
    buffer = io.BytesIO()
    mode = upright.mode if upright.mode in PNG_MODES else "RGB"
    upright.convert(mode).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()
