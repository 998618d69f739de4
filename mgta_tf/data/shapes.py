"""Generated images, so that the whole system runs without a download.

They test the system, not the method: a class is an outline, which is easy to learn. There are
images of single objects on crops of the two photographs in scikit-learn (color, size, rotation,
position and texture do not depend on the class), and scenes of several objects with boxes in VOC's
layout.

An image is a pure function of its `number` and `seed`.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
import os
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw

from mgta_tf.data.voc import CLASSES
from mgta_tf.errors import UserError

SPLITS = ("train", "val", "test")  # of seeds 0, 1 and 2
SIZE = 64  # pixels per side of a single object's image
_SUPERSAMPLING = 4
_TEXTURES = ("plain", "stripes", "checks", "dots")

# Outline → the VOC class that it represents in scenes, so that all VOC tools can read them.
VOC_NAME = {
    "disc": "aeroplane",
    "square": "bicycle",
    "triangle": "bird",
    "star": "boat",
    "cross": "bottle",
    "ring": "bus",
    "crescent": "car",
    "heart": "cat",
    "hexagon": "chair",
    "arrow": "cow",
    "bar": "diningtable",
    "drop": "dog",
}
SHAPES = tuple(VOC_NAME)


def _regular(corners: int, turn: float = 0.0) -> np.ndarray:
    angle = turn + 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _star() -> np.ndarray:
    angle = np.pi * np.arange(10) / 5
    radius = np.where(np.arange(10) % 2, 0.42, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y], axis=1) / 17


def _crescent() -> np.ndarray:
    outer = np.linspace(0.2 * np.pi, 1.8 * np.pi, 40)
    tip = np.array([np.cos(0.2 * np.pi), np.sin(0.2 * np.pi)])
    center = np.array([0.55, 0.0])
    radius = np.linalg.norm(tip - center)
    first = math.atan2(*(tip - center)[::-1])
    inner = np.linspace(2 * np.pi - first, first, 40)
    return np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            center + radius * np.stack([np.cos(inner), np.sin(inner)], axis=1),
        ]
    )


def _drop() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.stack([np.cos(t), np.sin(t) * np.sin(t / 2) ** 2 * 1.1], axis=1)


def _cross() -> np.ndarray:
    a, b = 0.33, 1.0
    quarter = np.array([(a, b), (a, a), (b, a)])
    corners = []
    for turn in range(4):
        c, s = round(math.cos(turn * math.pi / 2)), round(math.sin(turn * math.pi / 2))
        corners.append(quarter[::-1] @ np.array([[c, s], [-s, c]]))
    return np.concatenate(corners)


_OUTLINES = {
    "disc": [_regular(60)],
    "square": [_regular(4, np.pi / 4)],
    "triangle": [_regular(3)],
    "star": [_star()],
    "cross": [_cross()],
    "ring": [_regular(60), 0.55 * _regular(60)],
    "crescent": [_crescent()],
    "heart": [_heart()],
    "hexagon": [_regular(6)],
    "arrow": [
        np.array([(-1, 0.3), (0.1, 0.3), (0.1, 0.8), (1, 0), (0.1, -0.8), (0.1, -0.3), (-1, -0.3)])
    ],
    "bar": [np.array([(-1, 0.28), (1, 0.28), (1, -0.28), (-1, -0.28)])],
    "drop": [_drop()],
}


def label_of(number: int, seed: int) -> int:
    """The class of an image: its number in SHAPES."""
    return int(_random(number, seed).integers(len(SHAPES)))


def single_object(number: int, seed: int) -> np.ndarray:
    """An image of one object, uint8 [SIZE, SIZE, 3]; its class is `label_of(number, seed)`."""
    rng = _random(number, seed)
    shape = SHAPES[rng.integers(len(SHAPES))]
    canvas = _background(rng, SIZE, SIZE)
    radius = SIZE * rng.uniform(0.2, 0.42)
    center = rng.uniform(radius * 0.8, SIZE - radius * 0.8, 2)
    return _paint(canvas, _mask(shape, SIZE, SIZE, center, radius, rng), rng)


def _random(number: int, seed: int) -> np.random.Generator:
    return np.random.default_rng([0x5A4E, seed, number])


@functools.lru_cache(maxsize=1)
def _photographs() -> tuple[Image.Image, ...]:
    folder = importlib.resources.files("sklearn.datasets") / "images"
    photographs = []
    for name in ("china.jpg", "flower.jpg"):
        with (folder / name).open("rb") as file:
            photographs.append(Image.open(file).convert("RGB").reduce(2))
    return tuple(photographs)


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A crop of a photograph at a random size, mirrored or not: float32 [height, width, 3]."""
    photograph = _photographs()[rng.integers(2)]
    scale = rng.uniform(0.25, 0.95) * min(photograph.width / width, photograph.height / height)
    w, h = width * scale, height * scale
    left, top = rng.uniform(0, photograph.width - w), rng.uniform(0, photograph.height - h)
    crop = photograph.resize(
        (width, height), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h)
    )
    pixels = np.asarray(crop, np.float32)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def _mask(shape: str, width: int, height: int, center, radius: float, rng) -> np.ndarray:
    """Coverage of each pixel by a randomly rotated shape: float32 [height, width] in 0..1."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    large = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    pen = ImageDraw.Draw(large)
    for fill, outline in zip((255, 0), _OUTLINES[shape]):
        points = (np.asarray(center) + radius * outline @ turn) * _SUPERSAMPLING
        pen.polygon([tuple(point) for point in points], fill=fill)
    return np.asarray(large.reduce(_SUPERSAMPLING), np.float32) / 255


def _paint(canvas: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The canvas with an object of random colors and texture drawn through the mask: uint8."""
    height, width = mask.shape
    first, second = rng.uniform(0, 255, (2, 3))
    y, x = np.mgrid[:height, :width]
    angle, period = rng.uniform(0, np.pi), rng.uniform(5, 14)
    u = (x * np.cos(angle) + y * np.sin(angle)) / period
    v = (y * np.cos(angle) - x * np.sin(angle)) / period
    texture = _TEXTURES[rng.integers(len(_TEXTURES))]
    pattern = {
        "plain": np.zeros_like(u),
        "stripes": np.sin(2 * np.pi * u) > 0,
        "checks": (np.sin(2 * np.pi * u) > 0) ^ (np.sin(2 * np.pi * v) > 0),
        "dots": (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.09,
    }[texture][..., None]
    colors = np.where(pattern, second, first)
    return np.round(canvas + (colors - canvas) * mask[..., None]).astype(np.uint8)


def scene(number: int, seed: int, size: int) -> tuple[np.ndarray, list[dict]]:
    """A scene of 1 to 4 objects, later ones in front.

    Returns:
      (uint8 [size, size, 3], objects): each object a dict of `name` (VOC's), `box` (xmin, ymin,
      xmax, ymax in VOC's pixels, from 1, inclusive), `truncated` (extends beyond the image) and
      `difficult` (less than half of it is visible).
    """
    rng = _random(number, seed + 1000)
    canvas = _background(rng, size, size)
    visible: list[tuple[float, np.ndarray]] = []
    objects: list[dict] = []
    for _ in range(rng.integers(1, 5)):
        shape = SHAPES[rng.integers(len(SHAPES))]
        radius = size * rng.uniform(0.1, 0.26)
        center = rng.uniform(0, size, 2).clip(0.7 * radius, size - 0.7 * radius)
        mask = _mask(shape, size, size, center, radius, rng)
        canvas = _paint(canvas, mask, rng).astype(np.float32)
        visible = [(full, left * (1 - mask)) for full, left in visible] + [(mask.sum(), mask)]
        ys, xs = np.flatnonzero((mask > 0.5).any(1)), np.flatnonzero((mask > 0.5).any(0))
        box = (int(xs[0]) + 1, int(ys[0]) + 1, int(xs[-1]) + 1, int(ys[-1]) + 1)
        truncated = min(box) == 1 or max(box) == size
        objects.append({"name": VOC_NAME[shape], "box": box, "truncated": truncated})
    for item, (full, left) in zip(objects, visible):
        item["difficult"] = bool(left.sum() < 0.5 * full)
    return canvas.astype(np.uint8), objects


def write_voc_scenes(
    directory: str, num_trainval: int, num_test: int, size: int = 160, seed: int = 0
) -> None:
    """Writes scenes as `directory`/VOCdevkit/VOC2007, complete for the VOC tools.

    Raises:
      UserError: that folder exists already.
    """
    root = os.path.join(directory, "VOCdevkit", "VOC2007")
    if os.path.exists(root):
        raise UserError(f"{root} exists already; scenes are written to a new folder")
    for part in ("JPEGImages", "Annotations", os.path.join("ImageSets", "Main")):
        os.makedirs(os.path.join(root, part))
    for split, first, count in (("trainval", 0, num_trainval), ("test", num_trainval, num_test)):
        present: dict[str, dict[str, int]] = {}
        for number in range(first, first + count):
            pixels, objects = scene(number, seed, size)
            name = f"{number:06d}"
            Image.fromarray(pixels).save(
                os.path.join(root, "JPEGImages", f"{name}.jpg"), quality=92
            )
            with open(os.path.join(root, "Annotations", f"{name}.xml"), "w") as file:
                file.write(_annotation(name, size, objects))
            present[name] = {
                voc: max(
                    (0 if o["difficult"] else 1 for o in objects if o["name"] == voc), default=-1
                )
                for voc in CLASSES
            }
        _write_split(root, split, present)


def _write_split(root: str, split: str, present: dict[str, dict[str, int]]) -> None:
    """Writes ImageSets/Main: the names, and for each class 1, 0 (difficult only) or -1 (absent)."""
    main = os.path.join(root, "ImageSets", "Main")
    with open(os.path.join(main, f"{split}.txt"), "w") as file:
        file.writelines(f"{name}\n" for name in present)
    for voc in CLASSES:
        with open(os.path.join(main, f"{voc}_{split}.txt"), "w") as file:
            file.writelines(f"{name} {classes[voc]:2d}\n" for name, classes in present.items())


def _annotation(name: str, size: int, objects: list[dict]) -> str:
    parts = [
        f"<annotation>\n<folder>VOC2007</folder>\n<filename>{escape(name)}.jpg</filename>\n"
        f"<size><width>{size}</width><height>{size}</height><depth>3</depth></size>\n"
        "<segmented>0</segmented>\n"
    ]
    for item in objects:
        xmin, ymin, xmax, ymax = item["box"]
        parts.append(
            f"<object>\n<name>{escape(item['name'])}</name>\n<pose>Unspecified</pose>\n"
            f"<truncated>{int(item['truncated'])}</truncated>\n"
            f"<difficult>{int(item['difficult'])}</difficult>\n"
            f"<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
            f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>\n</object>\n"
        )
    return "".join([*parts, "</annotation>\n"])
