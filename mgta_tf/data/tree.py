"""Lists the files of a folder: images with split and class, and other files with a reason.

Only names are inspected and, for files with other suffixes, the first bytes. Every file is counted
once, as an image or as another file.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mgta_tf.data import formats
from mgta_tf.runtime import files

# Service folders of operating systems and programs, besides those whose names begin with a dot.
SERVICE = frozenset(
    ("__macosx", "@eadir", "$recycle.bin", "lost+found", "system volume information", "#recycle")
)
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SPLIT = re.compile(rf"({'|'.join(_SPLITS)})(?:[ _-]?set)?(?:[ _-]?\d{{4}})?", re.IGNORECASE)
# Names of folders of images, which are not classes, and names of folders of annotations.
HOLDERS = frozenset(("images", "image", "imgs", "img", "jpegimages", "leftimg8bit"))
ANNOTATIONS = frozenset(
    (
        *("masks", "mask", "labels", "label", "annotations", "depth", "gt", "groundtruth"),
        *("ground_truth", "segmentation", "segmentations", "gtfine", "gtcoarse"),
        *("segmentationclass", "segmentationobject"),
    )
)

SHOWN = 8  # reasons that are counted one by one
NO_IMAGE = "no image"  # prefix of the reason for files that are not images
OUT = "a link that leads out of --data_dir; see --follow_links"


class Unread(NamedTuple):
    """A file that is not used. lost: whether it is, or may be, an image."""

    name: str
    reason: str
    lost: bool = False


@dataclasses.dataclass(frozen=True)
class Listing:
    """All files below `root`, by relative path; in a folder, files come before sub-folders."""

    root: str
    images: list[str]
    others: list[Unread]


def walk(root: str, links: bool) -> Listing:
    """Lists all files below a folder, at any depth.

    Args:
      root: The folder.
      links: Whether links to folders outside of it are followed. No folder is listed twice.

    Raises:
      OSError: `root` itself cannot be listed.
    """
    found = Listing(root, [], [])
    about = os.stat(root)
    seen = {(about.st_dev, about.st_ino)}
    pending = [("", False)]
    while pending:
        folder, service = pending.pop()
        try:
            entries = sorted(os.scandir(os.path.join(root, folder)), key=lambda e: e.name)
        except OSError as error:
            if not folder:
                raise
            found.others.append(Unread(folder, f"a folder: {error.strerror}", lost=True))
            continue
        below = []
        for entry in entries:
            path = os.path.join(folder, entry.name)
            hidden = entry.name.startswith(".")
            if entry.is_dir():
                inner = service or hidden or entry.name.lower() in SERVICE
                if _enter(found, entry, path, links, seen):
                    below.append((path, inner))
            elif service or hidden:
                why = "in a service folder" if service else "hidden"
                found.others.append(Unread(path, why))
            else:
                _add_file(found, entry, path, links)
        pending += reversed(below)
    return found


def _enter(found: Listing, entry: os.DirEntry, path: str, links: bool, seen: set) -> bool:
    """Whether a folder is listed; if not, the reason is added to the other files."""
    if entry.is_symlink() and not files.is_inside(found.root, entry.path, links):
        found.others.append(Unread(path, OUT, lost=True))
        return False
    about = entry.stat()
    known = (about.st_dev, about.st_ino) in seen
    if known:
        found.others.append(Unread(path, "a link to a folder that is read already"))
    seen.add((about.st_dev, about.st_ino))
    return not known


def _add_file(found: Listing, entry: os.DirEntry, path: str, links: bool) -> None:
    suffix = os.path.splitext(entry.name)[1].lower()
    is_image = suffix in formats.SUFFIXES
    if not os.path.exists(entry.path):
        found.others.append(Unread(path, "a broken link", lost=is_image))
    elif not entry.is_file():
        found.others.append(Unread(path, "not a file", lost=is_image))
    elif is_image or (_stays(found.root, entry, links) and _looks_like_one(entry.path)):
        found.images.append(path)
    else:
        found.others.append(Unread(path, f"{NO_IMAGE}: {suffix or 'no suffix'}"))


def _stays(root: str, entry: os.DirEntry, links: bool) -> bool:
    return not entry.is_symlink() or files.is_inside(root, entry.path, links)


def _looks_like_one(path: str) -> bool:
    try:
        with files.opened(path, 2**62) as file:
            return bool(formats.of(file.read(formats.HEAD)))
    except OSError:
        return False


def by_reason(reasons: Iterable[str]) -> str:
    """Counts reasons, the most frequent first, as '60 no image: .txt, 2 empty file'."""
    counts = collections.Counter(re.sub(r"^\d+×\d+ is | \(.*", "", reason) for reason in reasons)
    shown = [f"{count} {reason}" for reason, count in counts.most_common(SHOWN)]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(SHOWN))
    return ", ".join([*shown, f"{rest} for other reasons"] if rest else shown)


# --------------------------------------------------------------------------------- Splits, classes


def photographs(images: Sequence[str]) -> tuple[list[str], list[Unread]]:
    """The images without those that are annotations, such as masks/ next to images/."""
    holders = {parent for path in images for parent in _parents_of_holders(path)}
    kept, left = [], []
    for path in images:
        parts = path.split(os.sep)[:-1]
        beside = next(
            (
                p
                for i, p in enumerate(parts)
                if p.lower() in ANNOTATIONS and (*parts[:i],) in holders
            ),
            None,
        )
        if beside:
            left.append(Unread(path, f"annotations: {beside}/ beside the images"))
        else:
            kept.append(path)
    return kept, left


def _parents_of_holders(path: str) -> list[tuple[str, ...]]:
    parts = path.split(os.sep)[:-1]
    return [(*parts[:i],) for i, part in enumerate(parts) if part.lower() in HOLDERS]


def split_named(folder: str) -> str:
    """'train', 'val' or 'test' for folders such as train2017 or test_set; else ''."""
    found = _SPLIT.fullmatch(folder)
    return _SPLITS[found[1].lower()] if found else ""


def splits_of(images: Sequence[str]) -> list[tuple[str, int]]:
    """For each image (its split: 'train', 'val', 'test' or ''; the index in its path of the folder
    that names the split, or -1).

    A folder called train is a class instead if there is no val or test, and two or more other
    folders of images lie beside it.
    """
    found = []
    for path in images:
        parts = path.split(os.sep)[:-1]
        named = ((split_named(p), i) for i, p in enumerate(parts) if split_named(p))
        found.append(next(named, ("", -1)))
    if {split for split, _ in found} == {"train", ""} and _is_class(images, found):
        return [("", -1)] * len(found)
    return found


def _is_class(images: Sequence[str], found: list[tuple[str, int]]) -> bool:
    """Whether the folder called train directly contains images, as two or more siblings do."""
    depths = {i for split, i in found if split}
    leaves = all(path.count(os.sep) == i + 1 for path, (split, i) in zip(images, found) if split)
    if len(depths) != 1 or not leaves:
        return False
    depth = depths.pop()
    siblings = {
        (*path.split(os.sep)[: depth + 1],) for path in images if path.count(os.sep) > depth
    }
    return len(siblings) > 2


def classes_of(images: Sequence[str], skip: Sequence[int]) -> list[str]:
    """The class of each image, '' for none: the first folder of its path.

    A folder that all images share is skipped if it is called `images/` or the like, or if all
    images are in folders below it and its name is not a number such as a year.

    Args:
      images: Paths.
      skip: For each, the folder of its path that names the split, or -1.
    """
    paths = [path.split(os.sep)[:-1] for path in images]
    for parts, place in zip(paths, skip):
        if place >= 0:
            del parts[place]
    while paths and all(paths) and len({parts[0] for parts in paths}) == 1:
        first = paths[0][0]
        above = all(len(parts) > 1 for parts in paths) and not first.isdigit()
        if not above and first.lower() not in HOLDERS:
            break
        paths = [parts[1:] for parts in paths]
    return [parts[0] if parts else "" for parts in paths]
