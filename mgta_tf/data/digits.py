"""Handwritten digits in random colors: images to learn from without a download.

scikit-learn ships 1,797 digits of 8×8 pixels, written by 13 people (the test set of UCI's "Optical
Recognition of Handwritten Digits"). Each is enlarged and drawn on a soft, noisy background. Colors,
size, position, noise, and whether digit or background is brighter do not depend on the class. So a
linear classifier of pixels is not far above chance, while the outline still shows the digit.

Image `number` of a split is a pure function of the two.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SIZE = 64  # pixels per side of an image
DIGITS = tuple("0123456789")
SPLITS = ("train", "val")  # numbered 0 and 1
FIRST_OF_VAL = 1000  # of scikit-learn's digits; those before it are train
HEIGHT = (0.8, 1.0)  # of a digit, as a fraction of the image's
DARK, LIGHT = (10, 100), (155, 245)  # gray levels of digit and ground, one dark, the other light
TINT = 40  # largest difference of a channel from its gray
SHADE = 15  # largest difference of a corner of the ground from its color
NOISE = 40  # standard deviation of the noise, in squares of GRAIN pixels
GRAIN = 2


def count(split: int) -> int:
    """Number of digits of a split; larger image numbers repeat them with other random values."""
    return len(_handwriting(split)[1])


def label_of(number: int, split: int) -> int:
    """The class of an image, 0 to 9."""
    return int(_handwriting(split)[1][number % count(split)])


def single_object(number: int, split: int) -> np.ndarray:
    """A digit on its ground, uint8 [SIZE, SIZE, 3]; its class is `label_of(number, split)`."""
    rng = np.random.default_rng([0xD161, split, number])
    side = SIZE * rng.uniform(*HEIGHT)
    left, top = rng.uniform(0, SIZE - side, 2)
    ink, ground = _colors(rng)
    cells = rng.normal(scale=NOISE, size=(SIZE // GRAIN, SIZE // GRAIN, 1))
    ground = ground + cells.repeat(GRAIN, axis=0).repeat(GRAIN, axis=1)
    strokes = _handwriting(split)[0][number % count(split)]
    covered = mask(strokes, side, left, top)[..., None]
    return np.round(ground + (ink - ground) * covered).clip(0, 255).astype(np.uint8)


def mask(strokes: np.ndarray, side: float, left: float, top: float) -> np.ndarray:
    """The fraction of each pixel that the ink covers: float32 [SIZE, SIZE] in 0..1.

    Args:
      strokes: float32 [8, 8] in 0..1.
      side: Size of the enlarged digit, in pixels.
      left: Column of its corner, in pixels.
      top: Row of its corner, in pixels.
    """
    padded = Image.fromarray(np.pad(strokes.astype(np.float32), 1))
    scale = side / 8
    inverse = (1 / scale, 0, 1 - left / scale, 0, 1 / scale, 1 - top / scale)
    large = padded.transform(
        (SIZE, SIZE), Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC
    )
    return np.clip((np.asarray(large) - 0.25) / 0.4, 0, 1)  # sharpens the interpolated edges


@functools.lru_cache(maxsize=len(SPLITS))
def _handwriting(split: int) -> tuple[np.ndarray, np.ndarray]:
    """Strokes float32 [N, 8, 8] in 0..1 and classes int [N] of a split's digits."""
    found = load_digits()
    part = (slice(FIRST_OF_VAL), slice(FIRST_OF_VAL, None))[split]
    return found.images[part].astype(np.float32) / 16, found.target[part]


def _colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colors of the ink, [3], and of the ground without its noise, [SIZE, SIZE, 3]."""
    levels = [rng.uniform(*DARK), rng.uniform(*LIGHT)]
    if rng.random() < 0.5:
        levels.reverse()
    ink, ground = (level + rng.uniform(-TINT, TINT, 3) for level in levels)
    corners = ground + rng.uniform(-SHADE, SHADE, (2, 2, 3))
    across = np.linspace(0, 1, SIZE)[:, None]
    left, right = (corners[0] + (corners[1] - corners[0]) * across[..., None]).transpose(1, 0, 2)
    return ink, left[:, None] + (right - left)[:, None] * across
