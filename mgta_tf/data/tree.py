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
            here = _list_folder(root, folder, service, links)
        except OSError as error:
            if not folder:
                raise
            found.others.append(Unread(folder, f"a folder: {error.strerror}", lost=True))
            continue
        below = [
            (os.path.join(folder, entry.name), service or _is_service(entry.name))
            for entry in sorted(here.folders, key=lambda entry: entry.name)
            if _enter(here.others, entry, root, folder, links, seen)
        ]
        here.images.sort()
        for number, name in enumerate(here.images):  # in place: there may be a million
            here.images[number] = os.path.join(folder, name)
        found.images.extend(here.images)
        found.others.extend(sorted(here.others))
        pending += reversed(below)
    return found


class _Folder(NamedTuple):
    """A folder's images, by name; other files, by path; and folders."""

    images: list[str]
    others: list[Unread]
    folders: list[os.DirEntry]


def _list_folder(root: str, folder: str, service: bool, links: bool) -> _Folder:
    """Lists a folder, in any order. Entries are not kept, since each takes 300 bytes."""
    found = _Folder([], [], [])
    with os.scandir(os.path.join(root, folder)) as entries:
        for entry in entries:
            if entry.is_dir():
                found.folders.append(entry)
                continue
            if service or entry.name.startswith("."):
                reason: tuple = ("in a service folder" if service else "hidden",)
            else:
                reason = _why_not_an_image(root, entry, links)
            if reason:
                found.others.append(Unread(os.path.join(folder, entry.name), *reason))
            else:
                found.images.append(entry.name)
    return found


def _is_service(name: str) -> bool:
    return name.startswith(".") or name.lower() in SERVICE


def _enter(
    others: list[Unread], entry: os.DirEntry, root: str, folder: str, links: bool, seen: set
) -> bool:
    """Whether a folder is listed; if not, the reason is added to the other files."""
    path = os.path.join(folder, entry.name)
    if entry.is_symlink() and not files.is_inside(root, entry.path, links):
        others.append(Unread(path, OUT, lost=True))
        return False
    about = entry.stat()
    known = (about.st_dev, about.st_ino) in seen
    if known:
        others.append(Unread(path, "a link to a folder that is read already"))
    seen.add((about.st_dev, about.st_ino))
    return not known


def _why_not_an_image(root: str, entry: os.DirEntry, links: bool) -> tuple:
    """(reason, whether it may be an image) for a file that is not listed as one, else ()."""
    suffix = os.path.splitext(entry.name)[1].lower()
    is_image = suffix in formats.SUFFIXES
    if entry.is_symlink() and not os.path.exists(entry.path):
        return "a broken link", is_image
    if not entry.is_file():
        return "not a file", is_image
    if is_image or (_stays(root, entry, links) and _looks_like_one(entry.path)):
        return ()
    return (f"{NO_IMAGE}: {suffix or 'no suffix'}",)


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


def folder_of(path: str) -> str:
    """The folder of a relative path; '' for none."""
    return path.rpartition(os.sep)[0]


def photographs(images: list[str]) -> tuple[list[str], list[Unread]]:
    """The images without those that are annotations, such as masks/ next to images/."""
    folders = {folder_of(path) for path in images}
    holders = {parent for folder in folders for parent in _parents_of_holders(folder)}
    beside = {folder: name for folder in folders if (name := _annotations_of(folder, holders))}
    if not beside:
        return images, []
    kept, left = [], []
    for path in images:
        if annotations := beside.get(folder_of(path)):
            left.append(Unread(path, f"annotations: {annotations}/ beside the images"))
        else:
            kept.append(path)
    return kept, left


def _annotations_of(folder: str, holders: set[tuple[str, ...]]) -> str:
    """The part of a folder's path that names annotations beside a holder; '' for none."""
    parts = _parts(folder)
    named = (
        part
        for i, part in enumerate(parts)
        if part.lower() in ANNOTATIONS and (*parts[:i],) in holders
    )
    return next(named, "")


def _parts(folder: str) -> list[str]:
    return folder.split(os.sep) if folder else []


def _parents_of_holders(folder: str) -> list[tuple[str, ...]]:
    parts = _parts(folder)
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
    of_folder = {}
    for folder in {folder_of(path) for path in images}:
        named = ((split_named(p), i) for i, p in enumerate(_parts(folder)) if split_named(p))
        of_folder[folder] = next(named, ("", -1))
    if {split for split, _ in of_folder.values()} == {"train", ""} and _is_class(of_folder):
        return [("", -1)] * len(images)
    return [of_folder[folder_of(path)] for path in images]


def _is_class(of_folder: dict[str, tuple[str, int]]) -> bool:
    """Whether the folder called train directly contains images, as two or more siblings do.

    of_folder: for each folder with images its split, and which folder of its path says so.
    """
    parts_of = {folder: _parts(folder) for folder in of_folder}
    depths = {i for split, i in of_folder.values() if split}
    leaves = all(len(parts_of[f]) == i + 1 for f, (split, i) in of_folder.items() if split)
    if len(depths) != 1 or not leaves:
        return False
    depth = depths.pop()
    siblings = {(*parts[: depth + 1],) for parts in parts_of.values() if len(parts) > depth}
    return len(siblings) > 2


def classes_of(images: Sequence[str], skip: Sequence[int]) -> list[str]:
    """The class of each image, '' for none: the first folder of its path.

    A folder that all images share is skipped if it is called `images/` or the like, or if all
    images are in folders below it and its name is not a number such as a year.

    Args:
      images: Paths.
      skip: For each, the folder of its path that names the split, or -1.
    """
    paths = {}
    for folder, place in set(zip(map(folder_of, images), skip)):
        parts = _parts(folder)
        if place >= 0:
            del parts[place]
        paths[folder, place] = parts
    while paths and all(paths.values()) and len({parts[0] for parts in paths.values()}) == 1:
        first = next(iter(paths.values()))[0]
        above = all(len(parts) > 1 for parts in paths.values()) and not first.isdigit()
        if not above and first.lower() not in HOLDERS:
            break
        paths = {key: parts[1:] for key, parts in paths.items()}
    named = {key: parts[0] if parts else "" for key, parts in paths.items()}
    return [named[key] for key in zip(map(folder_of, images), skip)]
