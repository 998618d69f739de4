"""PASCAL VOC as it lies on disk: image lists, class lists, annotations."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

import defusedxml.ElementTree
import numpy as np

from mgta_tf.errors import UserError
from mgta_tf.runtime import files

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

MAX_ANNOTATION_BYTES = 4 * 2**20  # VOC's largest have 30 kB
MAX_SIDE = 10**6  # pixels of an image that a box can lie in


@dataclasses.dataclass(frozen=True)
class VocObject:
    """An object's box in VOC's pixels, which count from 1 and include both ends."""

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool
    truncated: bool


@dataclasses.dataclass(frozen=True)
class VocAnnotation:
    filename: str
    width: int
    height: int
    objects: tuple[VocObject, ...]


def year_dir(voc_root: str, year: str = "2007") -> str:
    """The folder VOC<year> in a VOCdevkit, in its parent, or given itself.

    Raises:
      UserError: it is in none of these places.
    """
    for parts in ((), (f"VOC{year}",), ("VOCdevkit", f"VOC{year}")):
        path = os.path.join(voc_root, *parts)
        is_named = parts or os.path.basename(os.path.abspath(path)) == f"VOC{year}"
        if is_named and os.path.isdir(os.path.join(path, "ImageSets", "Main")):
            return path
    raise UserError(
        f"--voc_root={voc_root}: no VOC{year}/ImageSets/Main in it; name the VOCdevkit folder"
    )


def image_ids(folder: str, split: str) -> list[str]:
    """The images of a split, in the order of its list.

    Args:
      folder: What `year_dir` returned.
      split: 'train', 'val', 'trainval' or 'test'.

    Raises:
      UserError: there is no such list, or it names what cannot be an image.
    """
    path = os.path.join(folder, "ImageSets", "Main", f"{split}.txt")
    return [_checked_id(line.split()[0], path) for line in files.lines(path)]


def image_path(folder: str, image_id: str) -> str:
    return os.path.join(folder, "JPEGImages", f"{image_id}.jpg")


def class_labels(folder: str, split: str) -> tuple[list[str], np.ndarray]:
    """The images of a split and what they show: (ids, int8 [N, 20]).

    1 is present, 0 present as difficult instances only, -1 absent; columns as CLASSES.

    Raises:
      UserError: a list is missing, or two lists disagree.
    """
    ids = image_ids(folder, split)
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    labels = np.empty((len(ids), len(CLASSES)), np.int8)
    for column, name in enumerate(CLASSES):
        path = os.path.join(folder, "ImageSets", "Main", f"{name}_{split}.txt")
        lines = [line.split() for line in files.lines(path)]
        for number, words in enumerate(lines, 1):
            if len(words) != 2 or words[1] not in ("1", "0", "-1") or words[0] not in row_of:
                raise UserError(f"{path}:{number}: not an image of {split}.txt and 1, 0 or -1")
            labels[row_of[words[0]], column] = int(words[1])
        if len(lines) != len(ids) or len({words[0] for words in lines}) != len(ids):
            raise UserError(f"{path}: {len(lines)} lines for the {len(ids)} images of {split}.txt")
    return ids, labels


def read_annotation(path: str) -> VocAnnotation:
    """Annotations/<id>.xml.

    Raises:
      UserError: it is missing, not VOC's XML, or larger than any of VOC's.
    """
    try:
        content = files.read(path, MAX_ANNOTATION_BYTES)
        root = defusedxml.ElementTree.fromstring(content, forbid_dtd=True)
        size = root.find("size")
        return VocAnnotation(
            filename=_text(root, "filename"),
            width=int(_text(size, "width")),
            height=int(_text(size, "height")),
            objects=tuple(_object(element) for element in root.iter("object")),
        )
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (SyntaxError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: not a VOC annotation ({' '.join(str(error).split())})") from None


def _object(element: Any) -> VocObject:
    box = element.find("bndbox")
    xmin, ymin, xmax, ymax = (float(_text(box, s)) for s in ("xmin", "ymin", "xmax", "ymax"))
    if not all(abs(side) < MAX_SIDE for side in (xmin, ymin, xmax, ymax)):
        raise ValueError(f"a box from {xmin}, {ymin} to {xmax}, {ymax}")
    difficult, truncated = (
        (element.findtext(flag) or "0").strip() == "1" for flag in ("difficult", "truncated")
    )
    return VocObject(_text(element, "name"), xmin, ymin, xmax, ymax, difficult, truncated)


def _text(element: Any, tag: str) -> str:
    text = element.findtext(tag) if element is not None else None
    if text is None:
        raise ValueError(f"no <{tag}>")
    return text.strip()


def _checked_id(image_id: str, path: str) -> str:
    if not re.fullmatch(r"[\w-]{1,200}", image_id):
        raise UserError(f"{path}: {image_id!r} cannot be an image of VOC")
    return image_id
