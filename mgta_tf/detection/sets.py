"""The data of a detector: photographs, boxes, classes and splits.

Everything is checked here, before TensorFlow is imported and anything is written.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os

from mgta_tf.data import voc
from mgta_tf.data.annotated import Annotated, refuse_unclear
from mgta_tf.data.annotation_trees import UNANNOTATED, UNLISTED, Found, read_voc_tree
from mgta_tf.data.coco import read_coco
from mgta_tf.data.images import MAX_BYTES
from mgta_tf.detection.config import (
    OWN_TEST_SET,
    OWN_TRAIN_SETS,
    TEST_SET,
    TRAIN_SETS,
    BoxDataConfig,
)
from mgta_tf.errors import UserError, listing, printable, quantity
from mgta_tf.runtime import files

TEST_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class BoxSets:
    """The data of a detector.

    classes: in the order of their labels. images: by set. train, test: names of sets.
    skips_bad: whether a damaged photograph is skipped; one of VOC's stops the run.
    skipped: skipped files by reason. remarks: lines to print.
    """

    classes: tuple[str, ...]
    images: dict[str, list[Annotated]]
    train: tuple[str, ...]
    test: str
    skips_bad: bool
    skipped: dict[str, list[str]]
    remarks: list[str]


def load(config: BoxDataConfig) -> BoxSets:
    """Loads the photographs given by the flags, and their boxes of the classes to detect.

    Raises:
      UserError: a set, or a class of --classes, has no boxes; the data are damaged; or the EXIF
        orientation of a photograph is ambiguous.
    """
    root = config.coco_root or config.voc_root
    if not root:
        raise UserError(
            "--voc_root or --records is required: VOCdevkit, a folder of photographs with VOC's "
            "XML, or TFRecords; or --coco_root: COCO's JSON"
        )
    if config.coco_root and config.voc_root:
        raise UserError("--voc_root and --coco_root: name one of them")
    if not os.path.exists(root):
        raise UserError(f"{_flag(config)}: no such file or folder")
    if not config.coco_root and (folders := _devkit(config)):
        sets = _voc_sets(config, folders)
    else:
        sets = _own_sets(config, read_coco(root) if config.coco_root else read_voc_tree(root))
    used = [image for listed in sets.images.values() for image in listed]
    refuse_unclear([image.path for image in used], lambda i: (used[i].size, bool(used[i].boxes)))
    return sets


def _flag(config: BoxDataConfig) -> str:
    name = "coco_root" if config.coco_root else "voc_root"
    return f"--{name}={getattr(config, name)}"


# --------------------------------------------------------------------------------------- VOCdevkit


def _devkit(config: BoxDataConfig) -> dict[str, tuple[str, str]]:
    """The folder and the split of each of VOC's sets; empty for data without VOC's layout."""
    sets = [*TRAIN_SETS[config.train_set], TEST_SET]
    try:
        found = {s: (voc.year_dir(config.voc_root, s[:4]), s[5:]) for s in sets}
    except UserError:
        if config.train_set != BoxDataConfig.train_set:
            raise
        return {}
    whole = all(os.path.exists(voc.list_path(*place)) for place in found.values())
    return found if whole else {}


def _voc_sets(config: BoxDataConfig, folders: dict[str, tuple[str, str]]) -> BoxSets:
    images = {name: _listed(*place) for name, place in folders.items()}
    train = TRAIN_SETS[config.train_set]
    occurring = {box.name for listed in images.values() for i in listed for box in i.boxes}
    wanted = tuple(voc.CLASSES) if occurring <= set(voc.CLASSES) else ()
    remarks: list[str] = []
    trained_on = {image.path for name in train for image in images[name]}
    twice = [os.path.basename(i.path) for i in images[TEST_SET] if i.path in trained_on]
    if twice:
        remarks.append(
            f"{len(twice)} of the {len(images[TEST_SET])} test images also trained on: "
            f"{listing(twice)}"
        )
    counted = {"train": [i for name in train for i in images[name]], "test": images[TEST_SET]}
    if config.classes or not wanted:
        wanted = _classes(config, counted, remarks)
        images = {name: _of_classes(listed, wanted) for name, listed in images.items()}
    _count(config, counted, wanted)
    return BoxSets(wanted, images, train, TEST_SET, False, {}, remarks)


def _listed(folder: str, split: str) -> list[Annotated]:
    """The photographs of one of VOC's lists, all of which must exist."""
    ids = voc.image_ids(folder, split)
    if not ids:
        raise UserError(f"{folder}: its list {split}.txt names no image")
    listed = []
    for image_id, path in zip(ids, voc.image_paths(folder, split, ids)):
        source = voc.annotation_path(folder, image_id)
        found = voc.read_annotation(source)
        listed.append(Annotated(path, source, found.size, found.boxes))
    return listed


# ---------------------------------------------------------------------------------------- Own data


def _own_sets(config: BoxDataConfig, found: Found) -> BoxSets:
    images, count = found.images, sum(map(len, found.images.values()))
    expected = (UNLISTED, UNANNOTATED)  # which a user may want
    lost = {why: names for why, names in found.skipped.items() if why not in expected}
    if count <= sum(map(len, lost.values())):
        reasons = [f"{len(v)} × {why} ({listing(v)})" for why, v in lost.items() if v]
        raise UserError(
            f"{_flag(config)}: {quantity(count, 'photograph')} with boxes in {found.kind}; "
            + ("; ".join(reasons) or "docs/detection.md says what is read")
        )
    train, test, how = _split(config, images)
    where, to_train = config.coco_root or config.voc_root, quantity(len(train), "photograph")
    remarks = [
        f"{where}: {found.kind}, {to_train} to train on and {len(test)} to evaluate on ({how})",
        *found.remarks,
    ]
    wanted = _classes(config, {"train": train, "test": test}, remarks)
    sets = {
        OWN_TRAIN_SETS[0]: _of_classes(train, wanted),
        OWN_TEST_SET: _of_classes(test, wanted),
    }
    skipped = {reason: names for reason, names in found.skipped.items() if names}
    remarks += [f"not read: {len(v)} × {why} ({listing(v)})" for why, v in skipped.items()]
    return BoxSets(wanted, sets, OWN_TRAIN_SETS, OWN_TEST_SET, True, skipped, remarks)


def _split(
    config: BoxDataConfig, images: dict[str, list[Annotated]]
) -> tuple[list[Annotated], list[Annotated], str]:
    """The photographs to train on and to evaluate on, and the origin of the split as text.

    The test set is the test split, else the val split, else --test_share of the photographs; the
    rest is for training.
    """
    have = {split: listed for split, listed in images.items() if listed}
    of_test = "test" if "test" in have else "val" if "val" in have else ""
    if not of_test:
        share = config.test_share or TEST_SHARE
        train, test = _by_share([image for part in have.values() for image in part], share)
        if not train or not test:
            raise UserError(
                f"{_flag(config)}: one photograph with boxes; at least two are needed, to train on "
                "and to evaluate on"
            )
        return train, test, f"--test_share={share:g}"
    if config.test_share:
        raise UserError(
            f"--test_share={config.test_share:g}: the data have a {of_test} split of their own; "
            "remove the flag"
        )
    if "" in have:
        names = [os.path.basename(image.path) for image in have[""]]
        raise UserError(
            f"{_flag(config)}: {quantity(len(names), 'photograph')} outside of its splits "
            f"({', '.join(sorted(set(have) - {''}))}): {listing(names)}"
        )
    of_train = [name for name in ("train", "val") if name in have and name != of_test]
    if not of_train:
        raise UserError(f"{_flag(config)}: only a {of_test} split, nothing to train on")
    words = f"its splits {' and '.join(of_train)}, and {of_test}"
    return [image for name in of_train for image in have[name]], have[of_test], words


def _by_share(images: list[Annotated], share: float) -> tuple[list[Annotated], list[Annotated]]:
    """Splits photographs with boxes, and those without, in the same ratio.

    The split is by a digest of the names, so it stays mostly the same when photographs are added.
    """
    train: list[Annotated] = []
    test: list[Annotated] = []
    for filled in (True, False):
        group = sorted(
            (image for image in images if bool(image.boxes) == filled),
            key=lambda i: hashlib.sha256(os.fsencode(os.path.basename(i.path))).digest(),
        )
        count = round(share * len(group))
        if filled:
            count = min(max(count, 1), len(group) - 1)
        test += group[:count]
        train += group[count:]
    return train, test


# ----------------------------------------------------------------------------------------- Classes


def _classes(
    config: BoxDataConfig, images: dict[str, list[Annotated]], remarks: list[str]
) -> tuple[str, ...]:
    """The classes to detect: those of --classes, or all that occur, in alphabetical order.

    Adds lines about the classes to `remarks`.
    """
    occurring = sorted({box.name for part in images.values() for i in part for box in i.boxes})
    if not occurring:
        raise UserError(f"{_flag(config)}: no boxes in its annotations")
    wanted = tuple(dict.fromkeys(filter(None, map(str.strip, config.classes.split(",")))))
    wanted = wanted or tuple(occurring)
    strange = [name for name in wanted if name not in occurring]
    if strange:
        raise UserError(
            f"--classes: no boxes of {', '.join(strange)}; the data have {', '.join(occurring)}"
        )
    counts = _count(config, images, wanted)
    shown = ", ".join(f"{name} {counts['train'][name]}/{counts['test'][name]}" for name in wanted)
    remarks.append(f"boxes to train on/to evaluate on: {shown}")
    for name, what in (("train", "to train on"), ("test", "to evaluate on")):
        missing = [c for c in wanted if not counts[name][c]]
        if missing and name == "train" and config.classes:
            raise UserError(f"--classes: no boxes to train on of {', '.join(missing)}")
        if missing:
            remarks.append(f"no boxes {what}: {', '.join(missing)}")
    others = [name for name in occurring if name not in wanted]
    if others:
        remarks.append(f"boxes of classes that --classes does not name: {', '.join(others)}")
    by_fold = collections.Counter(name.casefold() for name in wanted)
    alike = [name for name in wanted if by_fold[name.casefold()] > 1]
    if alike:
        remarks.append(f"names that differ by capitals only, taken as classes: {', '.join(alike)}")
    return wanted


def _count(
    config: BoxDataConfig, images: dict[str, list[Annotated]], classes: tuple[str, ...]
) -> dict[str, collections.Counter[str]]:
    """Number of boxes of each class in 'train' and 'test', without difficult ones.

    Raises:
      UserError: one of the sets has no boxes.
    """
    counts = {}
    for name, what in (("train", "to train on"), ("test", "to evaluate on")):
        boxes = (box for image in images[name] for box in image.boxes if not box.difficult)
        counts[name] = collections.Counter(box.name for box in boxes if box.name in classes)
        if not counts[name]:
            raise UserError(
                f"{_flag(config)}: no boxes {what} in {quantity(len(images[name]), 'photograph')}, "
                f"of the classes {', '.join(classes)}"
            )
    return counts


def _of_classes(images: list[Annotated], classes: tuple[str, ...]) -> list[Annotated]:
    """The photographs with their boxes of these classes."""
    return [
        dataclasses.replace(image, boxes=tuple(b for b in image.boxes if b.name in classes))
        for image in images
    ]


# ------------------------------------------------------------------------------------------ Digest


def digest(sets: BoxSets) -> str:
    """A digest of everything that the records depend on: classes, boxes, and photographs."""
    found = hashlib.sha256(repr(sets.classes).encode())
    for name, images in sets.images.items():
        for image in images:
            what = (name, os.path.basename(image.path), image.size, image.boxes)
            found.update(repr(what).encode("utf-8", "surrogateescape"))
            try:
                found.update(hashlib.sha256(files.read(image.path, MAX_BYTES)).digest())
            except OSError as error:
                found.update(str(error.errno).encode())
    return found.hexdigest()


def write_skipped(sets: BoxSets, path: str) -> None:
    """Writes a line for each file that is not read: its name and the reason."""
    lines = [
        f"{printable(name)}\t{printable(why)}\n" for why, v in sets.skipped.items() for name in v
    ]
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(lines)
