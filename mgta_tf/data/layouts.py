"""Detects the layout of a folder: that of a known data set, or images in folders."""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from mgta_tf.data import images, minipickle, tfrecords, tree
from mgta_tf.data.names import Names
from mgta_tf.data.tree import Listing, Unread
from mgta_tf.errors import UserError, quantity
from mgta_tf.runtime import files

MINI_TABLES = ("train.csv", "val.csv", "test.csv")
ALL = "train"  # name of the split of data without splits


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Images that can be read by number.

    format: description of the layout. names: [N], for messages.
    labels: int32 [N] into class_names, -1 for an image without a class, for monitoring only; or
    None. read: number → encoded bytes, or uint8 [H, W, 3]; raises OSError or `images.BadImage`.
    unread: other files in the folder. notes: lines to print.
    stamp: number → text that differs between images, and changes with the file of an image; ''
    where nothing is known about it; raises OSError.
    keep: path of the file of checks → nothing; saves beside it what opening took long to find.
    """

    format: str
    names: Sequence[str]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    read: Callable[[int], bytes | np.ndarray]
    unread: tuple[Unread, ...] = ()
    notes: tuple[str, ...] = ()
    stamp: Callable[[int], str] = lambda number: ""
    keep: Callable[[str], None] = lambda check_file: None


class Request(NamedTuple):
    """What is wanted of a folder. links: whether to follow links out of it.

    check_file: the file of checks, beside which an earlier run may have saved an index; '' is none.
    """

    split: str
    links: bool
    check_file: str = ""


def open_folder(folder: str, request: Request) -> Source:
    """The images of a split of a folder.

    Raises:
      UserError: the folder has no such split, or a file of its layout is damaged.
    """
    listing = _listed(folder, request.links)
    found = _special(listing, request.split)
    if found:
        place, opener, _ = found
        return opener(listing, place, request)
    return _image_folders(listing, request.split, request.links)


def splits(folder: str, links: bool) -> tuple[str, ...]:
    """The splits of a folder: some of train, val and test; empty if it has no splits."""
    listing = _listed(folder, links)
    special = _special(listing, ALL)
    if special:
        place, opener, has = special
        val = os.path.join(place, "val", "")
        if opener is _tiny_imagenet and any(name.startswith(val) for name in listing.images):
            return ("train", "val")
        return has
    photographs, _ = tree.photographs(listing.images)
    found = {split for split, _ in tree.splits_of(photographs)}
    if found <= {""}:
        return ()
    return tuple(s for s in ("train", "val", "test") if s in found or (s == ALL and "" in found))


def _listed(folder: str, links: bool) -> Listing:
    try:
        return tree.walk(folder, links)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from None


def from_files(
    format_: str,
    listing: Listing,
    paths: Iterable[str],
    labels: Sequence[int] | None,
    class_names: Sequence[str],
    links: bool,
    **more,
) -> Source:
    """A source of files, named by their paths below the listing's root; `more`: notes, unread."""
    root, names = listing.root, Names(paths)

    @functools.cache
    def stays(path: str) -> bool:
        return files.is_inside(root, path, links)

    def read(number: int) -> bytes:
        path = os.path.join(root, names[number])
        if not stays(os.path.dirname(path)) or (os.path.islink(path) and not stays(path)):
            raise images.BadImage(tree.OUT)
        return files.read(path, images.MAX_BYTES)

    real = os.path.realpath(root)

    def stamp(number: int) -> str:
        return files.stamp(os.path.join(real, names[number]))

    truth = None if labels is None else np.asarray(labels, np.int32)
    return Source(format_, names, truth, tuple(class_names), read, stamp=stamp, **more)


def refuse_split(folder: str, split: str, has: Sequence[str]) -> UserError:
    """The error for a split that the data do not have."""
    known = f"it has {', '.join(has)}" if has else "it has no splits"
    return UserError(
        f"--data_dir={folder}: no split {split!r}; {known} (--data_split, or the probe's "
        "--train_split and --test_split)"
    )


# ----------------------------------------------------------------------------- Images in folders


def _image_folders(listing: Listing, split: str, links: bool) -> Source:
    """Images at any depth; the class is the first folder, or the first below that of the split."""
    found, left = tree.photographs(listing.images)
    splits_, unread = tree.splits_of(found), [*listing.others, *left]
    present = {name for name, _ in splits_}
    wanted = split
    if present <= {""}:
        if split != ALL:
            raise refuse_split(listing.root, split, ())
        wanted = ""
    elif split not in present:
        if split != ALL or "" not in present:
            has = present - {""} | ({ALL} if "" in present else set())
            raise refuse_split(listing.root, split, sorted(has))
        wanted = ""  # images outside of the splits, if there is no train
    for path, (name, _) in zip(found, splits_):
        if name != wanted:
            unread.append(Unread(path, f"of the split {name}" if name else "in no split"))
    names = [path for path, (name, _) in zip(found, splits_) if name == wanted]
    classes = tree.classes_of(names, [place for name, place in splits_ if name == wanted])
    kinds, labels = numbered(classes)
    what = in_words(len(kinds))
    name = f"image folder, {what}" if present <= {""} else f"image folder, {split}, {what}"
    notes = _notes_of_classes(classes)
    return from_files(name, listing, names, labels, kinds, links, unread=tuple(unread), notes=notes)


def numbered(classes: Sequence[str]) -> tuple[list[str], list[int] | None]:
    """Names of classes, '' for none → (the names, sorted; the number of each, -1 for none)."""
    kinds = sorted(set(classes) - {""})
    number_of = {"": -1, **{kind: number for number, kind in enumerate(kinds)}}
    return kinds, [number_of[kind] for kind in classes] if kinds else None


def in_words(classes: int) -> str:
    """The number of classes, as text."""
    return quantity(classes, "class", "classes") if classes else "no class labels"


def _notes_of_classes(classes: Sequence[str]) -> tuple[str, ...]:
    without = sum(not kind for kind in classes)
    if not without or without == len(classes):
        return ()
    return (f"{without} without a class, beside the class folders",)


# --------------------------------------------------------------------------- Data sets' own layouts

Opener = Callable[[Listing, str, Request], Source]


def _special(listing: Listing, split: str) -> tuple[str, Opener, tuple[str, ...]] | None:
    """The folder of a known layout, its reader, and its splits.

    It is the folder itself or one below it.
    """
    order = [_tiny_imagenet, _mini_imagenet_pickles, _mini_imagenet_csv, _tfrecords]
    places: dict[str, Any] = {}
    for name, reason, _ in listing.others:
        place, base = os.path.split(name)
        opener = _opener(listing, place, base) if reason.startswith(tree.NO_IMAGE) else None
        if opener is not None:
            places[place] = min(places.get(place, opener), opener, key=order.index)
    if not places:
        return None
    least = min(_depth(place) for place in places)
    shallow = {place: opener for place, opener in places.items() if _depth(place) == least}
    if len(shallow) == 1:
        return (*next(iter(shallow.items())), ())
    named = {tree.split_named(os.path.basename(place)): place for place in shallow}
    if "" in named or len(named) < len(shallow):
        raise UserError(
            f"--data_dir={listing.root}: several data sets ({', '.join(sorted(shallow))}); name "
            "one of them, or several with commas between them"
        )
    if split not in named:
        raise refuse_split(listing.root, split, sorted(named))
    opener = functools.partial(_in_split, shallow[named[split]])
    return named[split], opener, tuple(sorted(named))


def _in_split(opener: Opener, listing: Listing, place: str, request: Request) -> Source:
    return opener(listing, place, request._replace(split=ALL))  # the folder is the split


def _depth(place: str) -> int:
    return len(place.split(os.sep)) if place else 0


def _opener(listing: Listing, place: str, base: str) -> Opener | None:
    """The reader of the layout that a file identifies; None if it identifies none."""
    if base == "wnids.txt":
        below = os.path.join(place, "train", "")
        return _tiny_imagenet if any(n.startswith(below) for n in listing.images) else None
    if base.startswith("mini-imagenet-cache-") and base.endswith(".pkl"):
        return _mini_imagenet_pickles
    if base in MINI_TABLES:
        below = os.path.join(place, "images", "")
        has_images = any(name.startswith(below) for name in listing.images)
        own = has_images and _columns(os.path.join(listing.root, place, base))
        return _mini_imagenet_csv if own else None
    return _tfrecords if base.endswith(".tfrecord") else None


def _beside(listing: Listing, used: Sequence[str], what: str) -> tuple[Unread, ...]:
    """All files that are not part of the layout `what`; images among them count as lost."""
    taken = set(used)
    left = [Unread(name, what, lost=True) for name in listing.images if name not in taken]
    return (*(other for other in listing.others if other.name not in taken), *left)


def _tiny_imagenet(listing: Listing, place: str, request: Request) -> Source:
    """Stanford CS231n's layout: train/<wnid>/images/*.JPEG, val/images and val_annotations.txt.

    Also without the folders images/, and with val/<wnid>/ as in train/.
    """
    root, split = os.path.join(listing.root, place), request.split
    wnids_file = os.path.join(root, "wnids.txt")
    wnids = files.lines(wnids_file)
    number_of = {wnid: number for number, wnid in enumerate(wnids)}
    words = {}
    if os.path.isfile(os.path.join(root, "words.txt")):
        for line in files.lines(os.path.join(root, "words.txt")):
            wnid, _, words[wnid] = line.partition("\t")
    if split not in ("train", "val"):
        raise UserError(f"{root}: Tiny ImageNet has labels for train and val, not for {split!r}")
    table = os.path.join(root, "val", "val_annotations.txt")
    notes: tuple[str, ...] = ()
    if split == "val" and os.path.isfile(table):
        names, labels = _tiny_val(listing, place, table, number_of, request.links)
    else:
        names, labels = _tiny_classes(listing, os.path.join(place, split), number_of)
        found = set(labels)
        empty = [wnid for number, wnid in enumerate(wnids) if number not in found]
        if empty:
            shown = ", ".join([*empty[:5], "…"] if len(empty) > 5 else empty)
            notes = (f"{len(empty)} of {len(wnids)} classes have no images: {shown}",)
    taken, unread = set(names), list(listing.others)
    for name in listing.images:
        if name not in taken:
            mine = name.startswith(os.path.join(place, split, ""))
            unread.append(Unread(name, f"not in the {split} of Tiny ImageNet", lost=mine))
    classes = [words.get(wnid) or wnid for wnid in wnids]
    format_ = f"Tiny ImageNet, {split}"
    more = {"unread": tuple(unread), "notes": notes}
    return from_files(format_, listing, names, labels, classes, request.links, **more)


def _tiny_classes(listing: Listing, place: str, number_of: dict[str, int]):
    """Names and labels of the images below <place>/<wnid>/, class by class."""
    below = collections.defaultdict(list)
    prefix = os.path.join(place, "")
    for name in listing.images:
        if name.startswith(prefix):
            below[name[len(prefix) :].split(os.sep)[0]].append(name)
    names = [name for wnid in number_of for name in below[wnid]]
    return names, [number for wnid, number in number_of.items() for _ in below[wnid]]


def _tiny_val(listing: Listing, place: str, table: str, number_of: dict[str, int], links: bool):
    """Names and labels of the images that val_annotations.txt lists, in its order."""
    names, labels = [], []
    for number, line in enumerate(files.lines(table), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        if wnid not in number_of:
            raise UserError(f"{table}:{number}: class {wnid!r} is not in wnids.txt")
        path = os.path.join(place, "val", "images", name)
        names.append(files.inside(listing.root, path, links, f"{table}:{number}"))
        labels.append(number_of[wnid])
    return names, labels


def _columns(table: str) -> tuple[int, int, int] | None:
    """The columns of filename and label in miniImageNet's CSV, and its width; None for others."""
    try:
        with files.opened(table, files.MAX_LIST_BYTES) as file:
            first = file.readline(4096).decode("utf-8-sig", "replace")
    except OSError:
        return None
    cells = [cell.strip().strip('"').lower() for cell in first.split(",")]
    if "filename" not in cells or "label" not in cells:
        return None
    return cells.index("filename"), cells.index("label"), len(cells)


def _mini_imagenet_csv(listing: Listing, place: str, request: Request) -> Source:
    """Ravi & Larochelle's split: train.csv, val.csv, test.csv of filename,label, beside images/.

    All files together are one set, the paper's 60,000 images: the splits separate classes for
    few-shot learning, and pre-training uses no classes. Upper case, blanks, a byte order mark and
    further columns are accepted.
    """
    root = os.path.join(listing.root, place)
    if request.split != ALL:
        raise UserError(
            f"{root}: miniImageNet's splits have no classes in common, and are read as one set; "
            f"there is no split {request.split!r}"
        )
    tables = [os.path.join(root, name) for name in MINI_TABLES]
    tables = [table for table in tables if os.path.isfile(table)]
    names, classes = [], []
    for table in tables:
        columns = _columns(table)
        if columns is None:
            raise UserError(f"{table}: its first line is not 'filename,label'")
        for where, name, kind in _rows(table, *columns):
            path = os.path.join(place, "images", name)
            names.append(files.inside(listing.root, path, request.links, where))
            classes.append(kind)
    kinds, labels = numbered(classes)
    parts = ", ".join(os.path.basename(table) for table in tables)
    used = [*names, *(os.path.relpath(table, listing.root) for table in tables)]
    unread = _beside(listing, used, "not in miniImageNet's tables")
    format_ = f"miniImageNet ({parts})"
    return from_files(format_, listing, names, labels, kinds, request.links, unread=unread)


def _rows(table: str, filename: int, label: int, width: int):
    """(where, file name, class) of every line of a table but the first."""
    rows = csv.reader(files.lines(table))
    try:
        next(rows)
        for row in rows:
            where = f"{table}:{rows.line_num}"
            if len(row) != width:
                raise UserError(f"{where}: not 'filename,label' but {row}")
            yield where, row[filename].strip(), row[label].strip()
    except csv.Error as error:
        raise UserError(f"{table}:{rows.line_num}: {error}") from None


def _mini_imagenet_pickles(listing: Listing, place: str, request: Request) -> Source:
    """mini-imagenet-cache-{train,val,test}.pkl: uint8 [n, 84, 84, 3] and a dict of classes."""
    if request.split != ALL:
        raise refuse_split(listing.root, request.split, ())
    caches = _shards(listing, place, "mini-imagenet-cache-", ".pkl", request.links)
    parts, names, classes = [], [], []
    for path in caches:
        pixels, class_of = minipickle.read_cache(os.path.join(listing.root, path))
        parts.append(pixels)
        names += [f"{os.path.basename(path)}[{i}]" for i in range(len(pixels))]
        classes += class_of
    kinds, labels = numbered(classes)
    starts = np.cumsum([0] + [len(part) for part in parts])

    def read(number: int) -> np.ndarray:
        part = int(np.searchsorted(starts, number, side="right")) - 1
        return parts[part][number - starts[part]]

    truth = np.array(labels, np.int32) if labels is not None else None
    unread = _beside(listing, caches, "not in miniImageNet's caches")
    format_ = f"miniImageNet cache, {quantity(len(caches), 'file')}"
    return Source(format_, names, truth, tuple(kinds), read, unread)


def _tfrecords(listing: Listing, place: str, request: Request) -> Source:
    if request.split != ALL:
        raise refuse_split(listing.root, request.split, ())
    records = _shards(listing, place, "", ".tfrecord", request.links)
    paths = [os.path.join(listing.root, path) for path in records]
    shards = tfrecords.Shards(
        [tfrecords.Part(path) for path in paths], check_file=request.check_file
    )
    return Source(
        f"TFRecords, {quantity(len(records), 'file')}",
        shards.names,
        shards.labels,
        shards.class_names,
        shards.read,
        _beside(listing, records, "beside TFRecords"),
        stamp=shards.stamp,
        keep=shards.keep,
    )


def _shards(listing: Listing, place: str, begin: str, end: str, links: bool) -> list[str]:
    """The files of a data set that consists of a few large files."""
    found = []
    for name, reason, _ in listing.others:
        base = os.path.basename(name)
        own = (
            reason.startswith(tree.NO_IMAGE)
            and os.path.dirname(name) == place
            and base.startswith(begin)
            and base.endswith(end)
        )
        if own:
            found.append(files.inside(listing.root, name, links, listing.root))
    return found
