"""Photographs with boxes in VOC's XML, in the folder layouts of labelling tools.

Supported layouts: `images/` and `annotations/`; photographs and XML in one folder; either of these
once per split; and VOC's own folders. An annotation belongs to the photograph of the same name.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import re

from mgta_tf.data import tree, voc
from mgta_tf.data.annotated import Annotated
from mgta_tf.errors import UserError, listing, quantity
from mgta_tf.runtime import files

LISTS = {"train": "train", "trainval": "train", "val": "val", "test": "test"}  # the last counts
# Folders that separate photographs from annotations; they are ignored when paths are compared.
PARTS = frozenset((
    "annotation", "annotations", "xml", "xmls", "label", "labels",
    "image", "images", "img", "jpegimages",
))  # fmt: skip
UNLISTED = "annotation in no list of ImageSets/Main"
LEADS_OUT = "a link that leads out of the folder"
UNANNOTATED = "image without an annotation"


@dataclasses.dataclass
class Found:
    """The content of a folder.

    kind: the layout, as text. images: by split: 'train', 'val', 'test', or '' without splits.
    skipped: skipped files by reason. remarks: lines to print.
    """

    kind: str
    images: dict[str, list[Annotated]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    skipped: dict[str, list[str]] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(list)
    )
    remarks: list[str] = dataclasses.field(default_factory=list)


def listed(root: str, skipped: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """The images and the other files below a folder, with '/' in their paths.

    Files that training would not read, such as links to the outside, are omitted.

    Raises:
      UserError: the folder cannot be read.
    """
    try:
        found = tree.walk(root, links=False)
    except OSError as error:
        raise UserError(f"{root}: {error.strerror}") from None
    for name, reason, lost in found.others:
        if lost:
            skipped[LEADS_OUT if reason == tree.OUT else reason].append(name)
    others = [name for name, why, _ in found.others if why.startswith(tree.NO_IMAGE)]
    kept = []
    for names in (found.images, others):
        links = (name for name in names if os.path.islink(os.path.join(root, name)))
        out = {n for n in links if not files.is_inside(root, os.path.join(root, n), links=False)}
        skipped[LEADS_OUT] += sorted(out)
        kept.append([name.replace(os.sep, "/") for name in names if name not in out])
    return kept[0], kept[1]


def split_of(path: str) -> str:
    """'train', 'val' or 'test', if a folder of the path says so; else ''."""
    words = map(tree.split_named, path.split("/")[:-1])
    return next(filter(None, words), "")


def read_voc_tree(root: str) -> Found:
    """The photographs below a folder that have an annotation as VOC's XML.

    The split is named by the lists of an ImageSets/Main, or by folders (tree.split_named).

    Raises:
      UserError: the folder or a list cannot be read; two annotations may belong to a photograph,
        or two photographs to an annotation.
    """
    found = Found("VOC's XML")
    images, others = listed(root, found.skipped)
    by_stem = collections.defaultdict(list)
    for path in images:
        by_stem[stem(path)].append(path)
    lists = _Lists(root, others, found)
    used: dict[str, str] = {}
    for path in (path for path in others if path.lower().endswith(".xml")):
        image = _photograph(path, by_stem[stem(path)], root)
        if not image:
            found.skipped["annotation without an image"].append(path)
            continue
        if image in used:
            raise UserError(f"{root}: {used[image]} and {path} both annotate {image}; keep one")
        used[image] = path
        split = lists.split_of(path) if lists.bases else split_of(path) or split_of(image)
        if lists.bases and not split:
            found.skipped[UNLISTED].append(path)
            continue
        where = os.path.join(root, path)
        try:
            read = voc.read_annotation(where)
        except UserError as error:
            found.skipped[str(error).partition(f"{where}: ")[2]].append(path)
            continue
        found.images[split].append(
            Annotated(os.path.join(root, image), where, read.size, read.boxes)
        )
    found.skipped["listed in ImageSets/Main, without an annotation"] += lists.unused()
    found.skipped[UNANNOTATED] += [path for path in images if path not in used]
    return found


def stem(path: str) -> str:
    """'a/b.c.jpg' → 'b.c'."""
    return os.path.splitext(os.path.basename(path))[0]


def _photograph(annotation: str, candidates: list[str], root: str) -> str:
    """The photograph to which an annotation belongs; '' if there is none."""
    split = split_of(annotation)
    candidates = [path for path in candidates if not split or split_of(path) in ("", split)]
    if len(candidates) > 1:
        near = [path for path in candidates if _shared(path) == _shared(annotation)]
        if len(near) != 1:
            raise UserError(
                f"{root}: {annotation} may belong to {listing(candidates)}; keep one of these, "
                "or name the folders of photographs and of annotations alike"
            )
        candidates = near
    return candidates[0] if candidates else ""


def _shared(path: str) -> list[str]:
    """The folders of a path that a photograph and its annotation have in common."""
    return [part for part in path.split("/")[:-1] if part.lower() not in PARTS]


class _Lists:
    """The lists of every ImageSets/Main below a folder; an image has the split of the last one.

    bases: the folders that hold an ImageSets, such as VOC2007.
    """

    def __init__(self, root: str, paths: list[str], found: Found):
        pattern = re.compile(rf"(?:(.*)/)?ImageSets/Main/({'|'.join(LISTS)})\.txt", re.I)
        named: dict[str, set[tuple[str, str]]] = {name: set() for name in LISTS}
        self.bases = set()
        for matched in filter(None, map(pattern.fullmatch, paths)):
            base, path = matched[1] or "", os.path.join(root, matched[0])
            self.bases.add(base)
            named[matched[2].lower()] |= {(base, image_id) for image_id in voc.listed_ids(path)}
        self._split = {key: LISTS[name] for name in LISTS for key in named[name]}
        evaluated = "test" if named["test"] else "val"
        others = [named[name] for name in LISTS if name != evaluated]
        if evaluated == "val":
            others = [named["train"]]  # VOC's trainval has val in it
        if twice := sorted(name for _, name in named[evaluated].intersection(set().union(*others))):
            found.remarks.append(
                f"{evaluated}.txt: {quantity(len(twice), 'image')} also in other lists, not "
                f"trained on: {listing(twice)}"
            )
        self._unused = set(self._split)

    def split_of(self, path: str) -> str:
        """The split of an annotation, '' if no list names it."""
        bases = [base for base in self.bases if not base or path.startswith(f"{base}/")]
        key = (max(bases, key=len, default=""), stem(path))
        self._unused.discard(key)
        return self._split.get(key, "")

    def unused(self) -> list[str]:
        """Listed names for which no annotation was found."""
        return sorted(f"{base}/{name}".lstrip("/") for base, name in self._unused)
