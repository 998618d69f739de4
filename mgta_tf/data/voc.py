"""PASCAL VOC on disk: image lists, class lists, annotations."""

from __future__ import annotations

import codecs
import collections
import dataclasses
import os
import re
from typing import Any

import defusedxml.ElementTree
import numpy as np

from mgta_tf.data.annotated import LabelledBox, Size
from mgta_tf.errors import UserError, listing, quantity
from mgta_tf.runtime import files

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip

MAX_ANNOTATION_BYTES = 4 * 2**20  # VOC's largest have 30 kB
MAX_SIDE = 10**6  # pixels of an image that a box can lie in
MAX_NAME = 200  # characters of a class's name
_IMAGE_SUFFIX = re.compile(r"\.(jpe?g|jfif|png|bmp|gif|webp|tiff?|avif|heic|jp2|ppm)$", re.I)
# Encodings that are decoded here: those that the XML parser does not know, and UTF-8, which some
# tools write file names of another encoding into.
_CODECS = {
    "utf-8": "utf-8", "gb2312": "gb18030", "gbk": "gb18030", "cp936": "gb18030",
    "gb18030": "gb18030", "big5": "cp950", "cp950": "cp950", "shift_jis": "cp932",
    "cp932": "cp932", "euc-jp": "euc_jp",
    "euc-kr": "cp949", "cp949": "cp949", "ks_c_5601-1987": "cp949",
}  # fmt: skip
_DECLARATION = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.-]{1,40})["']""")


@dataclasses.dataclass(frozen=True)
class VocAnnotation:
    """The content of Annotations/<id>.xml. size: (width, height), or None if not stated."""

    size: Size | None
    boxes: tuple[LabelledBox, ...]


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


def list_path(folder: str, split: str) -> str:
    """Path of the list of a split's images."""
    return os.path.join(folder, "ImageSets", "Main", f"{split}.txt")


def image_ids(folder: str, split: str) -> list[str]:
    """The images of a split, in the order of its list, which may name them with folder or suffix.

    Args:
      folder: What `year_dir` returned.
      split: 'train', 'val', 'trainval' or 'test'.

    Raises:
      UserError: there is no such list, or a line of it cannot be the name of an image.
    """
    return listed_ids(list_path(folder, split))


def listed_ids(path: str) -> list[str]:
    """`image_ids` of the list at a path."""
    return [_checked_id(line.strip(), path) for line in files.lines(path)]


def image_paths(folder: str, split: str, ids: list[str]) -> list[str]:
    """The photographs of a split's images, in JPEGImages, with any suffix.

    Raises:
      UserError: some are missing, or one image has two photographs.
    """
    place = os.path.join(folder, "JPEGImages")
    try:
        names = sorted(entry.name for entry in os.scandir(place) if entry.is_file())
    except OSError as error:
        raise UserError(f"{place}: {error.strerror}") from None
    by_stem = collections.defaultdict(list)
    for name in names:
        by_stem[os.path.splitext(name)[0]].append(name)
    missing = [image_id for image_id in ids if image_id not in by_stem]
    if missing:
        raise UserError(
            f"{list_path(folder, split)}: {len(missing)} of its {len(ids)} images missing from "
            f"{place}: {listing(missing)}"
        )
    for image_id in ids:
        if len(by_stem[image_id]) > 1:
            raise UserError(
                f"{place}: {listing(by_stem[image_id])} are all image {image_id}; keep one"
            )
    return [os.path.join(place, by_stem[image_id][0]) for image_id in ids]


def annotation_path(folder: str, image_id: str) -> str:
    return os.path.join(folder, "Annotations", f"{image_id}.xml")


def class_labels(folder: str, split: str) -> tuple[list[str], np.ndarray]:
    """The images of a split and what they show: (ids, int8 [N, 20]).

    1 is present, 0 present as difficult instances only, -1 absent; columns as CLASSES. Labels come
    from the class lists, or from the annotations if there are no such lists.

    Raises:
      UserError: a list is missing, or two lists disagree.
    """
    ids = image_ids(folder, split)
    if not any(os.path.exists(list_path(folder, f"{name}_{split}")) for name in CLASSES):
        return ids, np.array([_shown(annotation_path(folder, i)) for i in ids], np.int8)
    row_of = {image_id: row for row, image_id in enumerate(ids)}
    labels = np.empty((len(ids), len(CLASSES)), np.int8)
    for column, name in enumerate(CLASSES):
        path = list_path(folder, f"{name}_{split}")
        seen = set()
        for number, line in enumerate(files.lines(path), 1):
            listed, value = line.rsplit(None, 1) if len(line.split()) > 1 else ("", line)
            image_id = _checked_id(listed.strip(), path) if listed else ""
            if value not in ("1", "0", "-1") or image_id not in row_of:
                raise UserError(f"{path}:{number}: not an image of {split}.txt and 1, 0 or -1")
            if image_id in seen:
                raise UserError(f"{path}:{number}: {image_id} is listed twice")
            labels[row_of[image_id], column] = int(value)
            seen.add(image_id)
        if len(seen) != len(ids):
            lines = quantity(len(seen), "line")
            raise UserError(f"{path}: {lines} for the {len(ids)} images of {split}.txt")
    return ids, labels


def _shown(path: str) -> list[int]:
    """What one image shows, from its annotation: a row of `class_labels`."""
    boxes = read_annotation(path).boxes
    return [
        max((0 if b.difficult else 1 for b in boxes if b.name == c), default=-1) for c in CLASSES
    ]


def read_annotation(path: str) -> VocAnnotation:
    """Reads Annotations/<id>.xml, by VOC itself or a labelling tool.

    Raises:
      UserError: it is missing, not VOC's XML, or larger than any of VOC's.
    """
    try:
        content = files.read(path, MAX_ANNOTATION_BYTES)
        root = _parse(content)
        if root.tag != "annotation":
            raise ValueError(f"<{root.tag}>, not <annotation>")
        boxes = tuple(_box(element) for element in root.iter("object"))
        return VocAnnotation(_size(root.find("size")), boxes)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (SyntaxError, ValueError, LookupError, AttributeError) as error:
        raise UserError(f"{path}: not a VOC annotation ({' '.join(str(error).split())})") from None


def _parse(content: bytes) -> Any:
    declared = _DECLARATION.match(content)
    codec = _CODECS.get(declared[1].decode().lower() if declared else "utf-8")
    if codec is None or content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return defusedxml.ElementTree.fromstring(content, forbid_dtd=True)
    parser = defusedxml.ElementTree.DefusedXMLParser(encoding="utf-8", forbid_dtd=True)
    parser.feed(content.decode(codec, "replace").encode())
    return parser.close()


def _size(element: Any) -> Size | None:
    """Width and height; None if they are missing, or 0, as some tools write."""
    stated = ["", ""] if element is None else [element.findtext(s) for s in ("width", "height")]
    sides = [float(text) if text and text.strip() else 0.0 for text in stated]
    if not all(0 <= side < MAX_SIDE for side in sides):
        raise ValueError(f"a size of {sides[0]}×{sides[1]}")
    return (round(sides[0]), round(sides[1])) if all(sides) else None


def _box(element: Any) -> LabelledBox:
    name = " ".join((element.findtext("name") or "").split())
    if not name or len(name) > MAX_NAME or "\ufffd" in name:
        raise ValueError(f"an object of the class {name[:MAX_NAME]!r}")
    place = element.find("bndbox")
    if place is None:
        raise ValueError(f"an object, {name!r}, without a <bndbox>; export boxes")
    xmin, ymin, xmax, ymax = (float(_text(place, s)) for s in ("xmin", "ymin", "xmax", "ymax"))
    if not all(abs(side) < MAX_SIDE for side in (xmin, ymin, xmax, ymax)):
        raise ValueError(f"a box from {xmin}, {ymin} to {xmax}, {ymax}")
    difficult, truncated = (
        (element.findtext(flag) or "").strip().lower() in ("1", "true", "yes")
        for flag in ("difficult", "truncated")
    )
    return LabelledBox(name, xmin, ymin, xmax, ymax, difficult, truncated)


def _text(element: Any, tag: str) -> str:
    text = element.findtext(tag)
    if text is None:
        raise ValueError(f"no <{tag}>")
    return text.strip()


def _checked_id(listed: str, path: str) -> str:
    """'000001', 'JPEGImages/000001.jpg' → '000001'."""
    parts = listed.replace("\\", "/").split("/")
    image_id = _IMAGE_SUFFIX.sub("", parts[-1])
    if not image_id or "\0" in listed or not parts[0] or ".." in parts or len(listed) > 1000:
        raise UserError(f"{path}: {listed[:MAX_NAME]!r} cannot be an image of VOC")
    return image_id
