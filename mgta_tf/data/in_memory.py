"""Images that a program has already: arrays, PIL images, paths, a tf.data.Dataset; as a Source."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from mgta_tf.data import images
from mgta_tf.data.layouts import Source
from mgta_tf.errors import UserError
from mgta_tf.runtime import files


def source_of(data: Any) -> Source:
    """The images of `data`, by number; a path is the name of an image, others have their number.

    Args:
      data: An array uint8 [N, H, W, 3]; a `tf.data.Dataset` of such images, [H, W, 3] each or in
        batches, alone or as the first component of a tuple, or under 'image', which is read to its
        end and kept in memory; or a list of paths, PIL images or arrays.

    Raises:
      UserError: it is none of these, or empty.
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

    names = [one if isinstance(one, str) else str(number) for number, one in enumerate(found)]
    return Source(f"{kind} of images", names, None, (), read)


def _of_dataset(elements: Iterable[Any]) -> Iterable[np.ndarray]:
    """The images of a dataset one by one."""
    for element in elements:
        image = element.get("image") if isinstance(element, dict) else element
        image = image[0] if isinstance(image, tuple) else image
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (3, 4):
            what = getattr(image, "dtype", type(image).__name__)
            shape = list(getattr(image, "shape", ()))
            raise UserError(
                f"tf.data.Dataset: images are uint8 [H, W, 3] or [n, H, W, 3] in 0..255, not "
                f"{what} {shape}"
            )
        yield from image if image.ndim == 4 else [image]


def _as_read(item: Any, number: int) -> str | np.ndarray:
    """A path as text, or the pixels uint8 [H, W, 3] of an image that is in memory."""
    if isinstance(item, (str, bytes, os.PathLike)):
        return os.path.expanduser(os.fsdecode(item))
    if isinstance(item, Image.Image):
        return np.asarray(ImageOps.exif_transpose(item).convert("RGB"))
    if isinstance(item, np.ndarray):
        return item
    raise UserError(f"image {number}: {type(item).__name__} is neither an image nor a path of one")
