"""Photographs with boxes in COCO's JSON, in the layouts of COCO, Roboflow, CVAT and Label Studio.

A JSON has `images` (id, file_name, width, height), `categories` (id, name) and `annotations`
(image_id, category_id, bbox, iscrowd); bbox is [x, y, width, height] in pixels from the corner.
"""

from __future__ import annotations

import collections
import json
import math
import os
import re
from collections.abc import Iterable
from typing import Any

from mgta_tf.data import tree, voc
from mgta_tf.data.annotated import Annotated, LabelledBox, Size
from mgta_tf.data.annotation_trees import UNANNOTATED, Found, listed
from mgta_tf.errors import UserError, listing, quantity
from mgta_tf.runtime import files

MAX_BYTES = 512 * 2**20  # COCO's own largest has 450 MB
KEYS = ("images", "annotations", "categories")


def read_coco(root: str) -> Found:
    """Reads the photographs of the JSON files in a folder, or of a single JSON file.

    The split is named by the folders and the name of a JSON: train/_annotations.coco.json,
    instances_val2017.json.

    Raises:
      UserError: no JSON was found, or one is damaged.
    """
    alone = os.path.isfile(root)
    folder = os.path.dirname(os.path.abspath(root)) if alone else root
    if alone and os.path.basename(folder).lower() == "annotations":
        folder = os.path.dirname(folder)
    found = Found("COCO's JSON")
    images, others = listed(folder, found.skipped)
    names = [os.path.relpath(os.path.abspath(root), folder)] if alone else _chosen(others)
    loaded = {name: _load(os.path.join(folder, name), alone) for name in names}
    jsons = {name: content for name, content in loaded.items() if content is not None}
    if not jsons:
        raise UserError(f"--coco_root={root}: no JSON with {', '.join(KEYS)} in it")
    by_name = collections.defaultdict(list)
    for path in images:
        by_name[path.rpartition("/")[2]].append(path)
    used: dict[str, str] = {}
    for name, content in jsons.items():
        split = "" if alone else _split(name)
        try:
            _read_one(folder, name, content, by_name, used, found, split)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{os.path.join(folder, name)}: not COCO's JSON ({reason})") from None
    found.skipped[UNANNOTATED] += [path for path in images if path not in used]
    return found


def _chosen(paths: list[str]) -> list[str]:
    """The JSON files with boxes; only those with the usual names of tools, if there are any."""
    jsons = [path for path in paths if path.lower().endswith(".json")]
    for pattern in (r"_annotations\.coco\.json$", r"(^|/)instances_[^/]*\.json$"):
        if named := [path for path in jsons if re.search(pattern, path, re.I)]:
            return named
    return jsons


def _split(path: str) -> str:
    """The split of a JSON or a photograph: of valid/…, train2017/…, instances_val.json."""
    *words, name = path.lower().split("/")
    if name.endswith(".json"):
        words += re.split(r"[^a-z]+", name)
    return next(filter(None, map(tree.split_named, words)), "")


def _load(path: str, named: bool) -> dict[str, Any] | None:
    """The content of a JSON file; None if it is not COCO's and was not given by name.

    Raises:
      UserError: the file cannot be read, or was given by name and is not COCO's.
    """
    try:
        content = json.loads(files.read(path, MAX_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged JSON ({' '.join(str(error).split())})") from None
    if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in KEYS):
        return content
    if named:
        raise UserError(f"{path}: not COCO's JSON: has no lists {', '.join(KEYS)}")
    return None


def _read_one(
    folder: str,
    name: str,
    content: dict[str, Any],
    by_name: dict[str, list[str]],
    used: dict[str, str],
    found: Found,
    split: str,
) -> None:
    """Adds the photographs of one JSON to `found`.

    Damaged content raises ValueError, KeyError, TypeError or the like.
    """
    classes = {_id(entry["id"]): _name(entry["name"]) for entry in content["categories"]}
    boxes = collections.defaultdict(list)
    for entry in content["annotations"]:
        boxes[_id(entry["image_id"])].append(_box(entry, classes))
    seen = set()
    for entry in content["images"]:
        image_id, file_name = _id(entry["id"]), entry["file_name"]
        if image_id in seen:
            raise ValueError(f"two images of the id {image_id}")
        seen.add(image_id)
        path = _photograph(file_name, name, split, by_name)
        if not path:
            found.skipped["image that is listed and missing"].append(f"{file_name} of {name}")
            continue
        if path in used:
            raise ValueError(f"{path} is listed twice, here and in {used[path]}")
        used[path] = name
        source = f"{os.path.join(folder, name)}: {file_name}"
        size = _size(entry.get("width"), entry.get("height"))
        found.images[split or _split(path)].append(
            Annotated(os.path.join(folder, path), source, size, tuple(boxes.get(image_id, ())))
        )
    lost = sum(len(boxes[image_id]) for image_id in boxes if image_id not in seen)
    if lost:
        found.remarks.append(f"{name}: {quantity(lost, 'box', 'boxes')} of unlisted images ignored")


def _photograph(file_name: str, json_name: str, split: str, by_name: dict[str, list[str]]) -> str:
    """The photograph for a file name in a JSON, '' if there is none.

    Candidates have this name and belong to no other split. The one that shares the most folders
    with the given path is chosen, then the one nearest to the JSON. Only files below the folder
    qualify.
    """
    wanted = [part for part in re.split(r"[/\\]", file_name) if part not in ("", ".")]
    candidates = by_name.get(wanted[-1], []) if wanted else []
    candidates = [path for path in candidates if not split or _split(path) in ("", split)]
    if len(candidates) < 2:
        return candidates[0] if candidates else ""

    def nearness(path: str) -> tuple[int, int, int]:
        parts = path.split("/")
        return (
            _common(reversed(parts), reversed(wanted)),
            int(_split(path) == split),
            _common(parts, json_name.split("/")[:-1]),
        )

    ranked = sorted(candidates, key=nearness, reverse=True)
    if nearness(ranked[0]) == nearness(ranked[1]):
        raise ValueError(f"{file_name} may be {listing(candidates)}")
    return ranked[0]


def _common(one: Iterable[str], other: Iterable[str]) -> int:
    """Number of leading parts that two paths have in common."""
    count = 0
    for a, b in zip(one, other):
        if a != b:
            break
        count += 1
    return count


def _box(entry: dict[str, Any], classes: dict[str, str]) -> LabelledBox:
    category = _id(entry["category_id"])
    if category not in classes:
        raise ValueError(f"a box of the category {category}, which is not listed")
    if len(entry["bbox"]) != 4:
        raise ValueError(f"annotation {entry.get('id')} without a box; export boxes")
    x, y, width, height = (float(value) for value in entry["bbox"])
    if not all(abs(value) < voc.MAX_SIDE for value in (x, y, width, height)):
        raise ValueError(f"a box {entry['bbox']}")
    hidden = bool(entry.get("iscrowd")) or bool(entry.get("ignore"))
    # VOC's pixels count from 1 and include both ends.
    return LabelledBox(classes[category], x + 1, y + 1, x + width, y + height, hidden)


def _size(width: Any, height: Any) -> Size | None:
    sides = float(width or 0), float(height or 0)
    if not all(math.isfinite(side) and 0 <= side < voc.MAX_SIDE for side in sides):
        raise ValueError(f"a size of {width}×{height}")
    return (round(sides[0]), round(sides[1])) if all(sides) else None


def _id(value: Any) -> str:
    """An id as text: an integer, which some tools write as text."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"an id {value!r}")
    return str(value)


def _name(value: Any) -> str:
    name = " ".join(str(value).split())
    if not name or len(name) > voc.MAX_NAME:
        raise ValueError(f"a category called {name[: voc.MAX_NAME]!r}")
    return name
