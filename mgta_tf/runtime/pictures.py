"""Pictures for TensorBoard and the report: strips, sheets and thumbnails, as JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

THUMBNAIL = 48  # pixels per side of a cluster's sample images
TILE = 96  # maximum pixels per side in reconstructions and galleries
GRAY = 128  # of places without an image, on light and dark pages
GAP = 4  # pixels between nearest and farthest images


def shrink(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 [n, S, S, 3] → at most `size` pixels a side; smaller images stay as they are."""
    if images.shape[1] <= size:
        return images
    small = [
        np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))
        for image in images
    ]
    return np.stack(small)


def enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 [n, S, S, 3] → about `size` pixels a side: larger ones are shrunk, smaller ones have
    their pixels repeated.
    """
    times = max(1, round(size / images.shape[1]))
    return shrink(images, size).repeat(times, axis=1).repeat(times, axis=2)


def rows(blocks: list[np.ndarray], columns: int = 4) -> np.ndarray:
    """Blocks of images, row by row: below each row of a block is the same row of the next block.

    uint8 [n, S, S, 3] each → [H, columns·S, 3]; a gap follows the row of the last block; places
    without an image are gray.
    """
    size = blocks[0].shape[1]
    lines = []
    for start in range(0, max(map(len, blocks)), columns):
        for block in blocks:
            row = np.full((columns, size, size, 3), GRAY, np.uint8)
            part = block[start : start + columns]
            row[: len(part)] = part
            lines.append(strip(row))
        lines.append(np.full((GAP, columns * size, 3), GRAY, np.uint8))
    return np.concatenate(lines[:-1])


def strip(images: np.ndarray) -> np.ndarray:
    """Images side by side: uint8 [n, S, S, 3] → [S, n·S, 3]."""
    return np.concatenate(list(images), axis=1)


def sheet(images: np.ndarray) -> np.ndarray:
    """Images row by row on a square sheet, the format of sprites in TensorBoard's projector.

    uint8 [n, S, S, 3] → [C·S, C·S, 3] with C = ⌈√n⌉; unused places are black.
    """
    columns = int(np.ceil(np.sqrt(len(images))))
    size = images.shape[1]
    grid = np.zeros((columns * columns, size, size, 3), np.uint8)
    grid[: len(images)] = images
    rows = grid.reshape(columns, columns, size, size, 3).transpose(0, 2, 1, 3, 4)
    return rows.reshape(columns * size, columns * size, 3)


def two_ends(nearest: np.ndarray, farthest: np.ndarray, count: int) -> np.ndarray:
    """A row of `count` nearest images, a gap, and `count` farthest; unused places are gray.

    nearest, farthest: uint8 [≤ count, S, S, 3] → uint8 [S, 2·count·S + GAP, 3].
    """
    size = nearest.shape[1]

    def filled(images: np.ndarray) -> np.ndarray:
        row = np.full((count, size, size, 3), GRAY, np.uint8)
        row[: len(images)] = images
        return strip(row)

    gap = np.full((size, GAP, 3), GRAY, np.uint8)
    return np.concatenate([filled(nearest), gap, filled(farthest)], axis=1)


def jpeg(pixels: np.ndarray, quality: int = 88) -> bytes:
    """uint8 [H, W, 3] → JPEG without chroma subsampling."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()
