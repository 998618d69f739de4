"""Batches of the images that a Python caller passes: paths, PIL images, arrays, tf.data."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from mgta_tf.data import images
from mgta_tf.data.in_memory import as_file, image_of, is_path, path_of
from mgta_tf.embed.embedder import Embedder
from mgta_tf.errors import UserError
from mgta_tf.runtime import files
from mgta_tf.runtime.progress import counting


def is_folder(value: Any) -> bool:
    """Whether it names a folder."""
    return is_path(value) and os.path.isdir(path_of(value))


def batches(data: Any, size: int, batch_size: int) -> Iterator[tuple[list[str], np.ndarray]]:
    """The images of `data` with their names, uint8 [≤ batch_size, H, W, 3] at a time.

    Args:
      data: One path; an array uint8 [N, H, W, 3], used as it is; or any iterable of paths, PIL
        images, arrays [H, W, 3] (each resized and center-cropped to `size`) or batches
        [n, H, W, 3], used as they are, or of tuples that begin with one of these. The name of an
        image is its path, else its number.
      size: Pixels per side.
      batch_size: Images at once.

    Raises:
      UserError: an item is not an image, or cannot be read.
    """
    names: list[str] = []
    squares: list[np.ndarray] = []
    number = 0
    for item in _items(data):
        batch = _batch(item, number)
        if batch is not None:
            if squares:
                yield names, np.stack(squares)
                names, squares = [], []
            for start in range(0, len(batch), batch_size):
                part = batch[start : start + batch_size]
                yield [str(number + start + i) for i in range(len(part))], part
            number += len(batch)
            continue
        name = os.fsdecode(item) if is_path(item) else str(number)
        squares.append(_square(item, name, size))
        names.append(name)
        number += 1
        if len(squares) == batch_size:
            yield names, np.stack(squares)
            names, squares = [], []
    if squares:
        yield names, np.stack(squares)


def encode(
    embedder: Embedder, data: Any, batch_size: int, progress: bool = False
) -> tuple[list[str], np.ndarray]:
    """Names and vectors of `data`, as `batches` reads it: [N], float32 [N, D].

    progress: whether to show a progress line on stderr.
    """
    names: list[str] = []
    vectors: list[np.ndarray] = []
    shown = counting(count_of(data), builds=1.0) if progress else contextlib.nullcontext()
    with shown as line:
        for some, pixels in batches(data, embedder.size, batch_size):
            names += some
            vectors.append(embedder.encode(pixels))
            if line:
                line.advance(len(some))
    return names, np.concatenate([np.zeros((0, embedder.dimensions), np.float32), *vectors])


def count_of(data: Any) -> float:
    """Number of images in `data`; infinity where only reading them would tell."""
    if isinstance(data, tf.data.Dataset):
        images_alone = len(image_of(data.element_spec).shape) == 3
        count = int(data.cardinality())
        return count if images_alone and count >= 0 else math.inf
    items = _items(data)
    if isinstance(items, (list, tuple)):
        return sum(len(one) if getattr(one, "ndim", 0) == 4 else 1 for one in items)
    return len(items) if isinstance(items, Sized) else math.inf


def _items(data: Any) -> Iterable[Any]:
    """The images one by one, or batches of them."""
    if is_path(data) or isinstance(data, Image.Image):
        return [data]
    if isinstance(data, tf.data.Dataset):
        return map(image_of, data.as_numpy_iterator())
    if getattr(data, "ndim", 1) == 2 and data.shape[1] == 1:  # a column of a table
        data = data.iloc[:, 0] if hasattr(data, "iloc") else data[:, 0]
    if isinstance(data, np.ndarray) and data.dtype.kind not in "OUS" and data.size:
        return [data]
    if not isinstance(data, Iterable):
        raise UserError(f"{type(data).__name__}: neither images nor paths of images")
    if hasattr(data, "columns"):
        raise UserError("a table of several columns; give the one of the images")
    return data


def _batch(item: Any, number: int) -> np.ndarray | None:
    """The item, if it is a batch; None for a single image.

    Raises:
      UserError: an array of neither shape.
    """
    if not isinstance(item, np.ndarray) or item.ndim == 3:
        return None
    if item.dtype != np.uint8 or item.ndim != 4 or item.shape[3] != 3:
        where = f"image {number}: " if number else ""
        raise UserError(
            f"{where}images are uint8 [n, H, W, 3], not {item.dtype} {list(item.shape)}"
        )
    return item


def _square(item: Any, name: str, size: int) -> np.ndarray:
    """A single image, uint8 [size, size, 3]."""
    try:
        if is_path(item):
            source: Any = files.read(path_of(item), images.MAX_BYTES)
        elif isinstance(item, Image.Image):
            source = as_file(item)
        else:
            source = item
        if not isinstance(source, (bytes, np.ndarray)):
            raise images.BadImage(f"{type(item).__name__} is neither an image nor a path of one")
        return images.load_square(source, size, "crop", images.MAX_PIXELS)
    except OSError as error:
        raise UserError(f"{name}: {error.strerror or error}") from None
    except images.BadImage as error:
        raise UserError(f"{name if is_path(item) else f'image {name}'}: {error}") from None
