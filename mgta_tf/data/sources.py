"""Where images come from. `open_source` looks at a folder and says what it is.

A `Source` is a list of images that can be read one by one, in any order, from any thread. Nothing
is decoded here: `mgta_tf.data.store` does that, once, for all formats alike.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import glob
import os
from collections.abc import Callable, Sequence

import numpy as np

from mgta_tf import extras
from mgta_tf.config import flag
from mgta_tf.data import formats, images, minipickle, shapes, tfrecords
from mgta_tf.errors import UserError
from mgta_tf.runtime import files


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Images in."""

    data_dir: str = flag(
        "",
        "Folder of images (flat, or one folder a class), Tiny ImageNet, miniImageNet (CSV splits "
        "or mini-imagenet-cache-*.pkl), or TFRecords of mgta_tf.make_tfrecord; which of them is "
        "found out and printed.",
    )
    data_source: str = flag(
        "",
        "In place of --data_dir: 'shapes', generated images; or 'tfds:NAME', a TensorFlow Dataset "
        "that is prepared on disk (its folder is then --data_dir, if not the default one).",
    )
    data_split: str = flag(
        "train",
        "Of data that have splits: train, val or test; of tfds its own, as train[:50%].",
    )
    shapes_count: int = flag(2000, "Images that 'shapes' generates.", minimum=1)
    load_size: int = flag(
        0, "Pixels per side as stored, for crops to cut from; 0 is --image_size.", minimum=0
    )
    resize_policy: str = flag(
        "crop",
        "How an image becomes square: its centre, the whole squashed, or padded with black.",
        choices=images.RESIZE_POLICIES,
    )
    cache_budget_mb: int = flag(
        4096, "Decoded images are kept in memory if all fit in so many MiB.", minimum=0
    )
    max_bad_fraction: float = flag(
        0.01, "Share of unusable images above which a run does not start.", minimum=0.0, maximum=1.0
    )
    follow_links: bool = flag(
        False, "Read images that links inside --data_dir place outside of it, too."
    )
    max_image_pixels: int = flag(images.MAX_PIXELS, "Larger images are not decoded.", minimum=1)

    def __post_init__(self):
        if self.data_source not in ("", "shapes") and not self.data_source.startswith("tfds:"):
            raise UserError(f"--data_source={self.data_source}: must be 'shapes' or 'tfds:NAME'")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Images that can be read by number.

    format: what it is, in words. names: [N], what messages call an image.
    labels: int32 [N] into class_names, for monitoring only, or None.
    read: number → encoded bytes, or uint8 [H, W, 3]; raises OSError or `images.BadImage`.
    """

    format: str
    names: Sequence[str]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    read: Callable[[int], bytes | np.ndarray]


def open_source(config: DataConfig, split: str = "") -> Source:
    """The source that the flags name; `split` stands in for `--data_split`.

    Raises:
      UserError: nothing there, or nothing that is known.
    """
    split, folder = split or config.data_split, config.data_dir
    if config.data_source == "shapes":
        return _shapes(config.shapes_count, split)
    if config.data_source:
        return _tfds(config.data_source.partition(":")[2], split, folder)
    if not folder:
        raise UserError("no images: give --data_dir=FOLDER, or --data_source=shapes")
    if not os.path.isdir(folder):
        raise UserError(f"--data_dir={folder}: no such folder")
    try:
        source = _recognised(folder, split, config.follow_links)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}") from None
    if source is None or not len(source.names):
        raise UserError(
            f"--data_dir={folder}: no images in it ({formats.WORDS}), nor Tiny ImageNet's, "
            "miniImageNet's or make_tfrecord.py's files"
        )
    return source


def _recognised(folder: str, split: str, follow_links: bool) -> Source | None:
    for recognise in (_tiny_imagenet, _mini_imagenet_pickles, _mini_imagenet_csv, _tfrecords):
        source = recognise(folder, split, follow_links)
        if source is not None:
            return source
    return _image_folder(folder, follow_links)


def _files(format_: str, folder: str, names: list[str], labels, class_names, links: bool) -> Source:
    """A source of files, named by their path below `folder`."""

    @functools.cache
    def stays(path: str) -> bool:
        return files.is_inside(folder, path, links)

    def read(number: int) -> bytes:
        path = os.path.join(folder, names[number])
        if not stays(os.path.dirname(path)) or (os.path.islink(path) and not stays(path)):
            raise images.BadImage("a link that leads out of --data_dir; see --follow_links")
        return files.read(path, images.MAX_BYTES)

    labels = None if labels is None else np.asarray(labels, np.int32)
    return Source(format_, names, labels, tuple(class_names), read)


def _listed_images(folder: str) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if os.path.splitext(entry.name)[1].lower() in formats.SUFFIXES
        and not entry.name.startswith(".")
        and entry.is_file()
    )


def _image_folder(folder: str, links: bool) -> Source | None:
    """Images lying flat, or in one folder for each class."""
    flat = _listed_images(folder)
    if flat:
        return _files("image folder, no classes", folder, flat, None, (), links)
    classes: list[str] = []
    names: list[str] = []
    labels: list[int] = []
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        found = _listed_images(entry.path)
        if found:
            names += [os.path.join(entry.name, name) for name in found]
            labels += [len(classes)] * len(found)
            classes.append(entry.name)
    if not names:
        return None
    return _files(f"image folder, {len(classes)} classes", folder, names, labels, classes, links)


def _tiny_imagenet(folder: str, split: str, links: bool) -> Source | None:
    """Stanford CS231n's layout: train/<wnid>/images/*.JPEG, val/images and val_annotations.txt."""
    wnids_file = os.path.join(folder, "wnids.txt")
    if not os.path.isfile(wnids_file):
        return None
    wnids = files.lines(wnids_file)
    number_of = {wnid: number for number, wnid in enumerate(wnids)}
    words = {}
    if os.path.isfile(os.path.join(folder, "words.txt")):
        for line in files.lines(os.path.join(folder, "words.txt")):
            wnid, _, words[wnid] = line.partition("\t")
    names, labels = [], []
    if split == "train":
        for wnid in wnids:
            files.inside(folder, os.path.join("train", wnid), links, wnids_file)
            part = os.path.join("train", wnid, "images")
            if os.path.isdir(os.path.join(folder, part)):
                found = _listed_images(os.path.join(folder, part))
                names += [os.path.join(part, name) for name in found]
                labels += [number_of[wnid]] * len(found)
    elif split == "val":
        table = os.path.join(folder, "val", "val_annotations.txt")
        for number, line in enumerate(files.lines(table), 1):
            name, _, rest = line.partition("\t")
            wnid = rest.partition("\t")[0]
            if wnid not in number_of:
                raise UserError(f"{table}:{number}: class {wnid!r} is not in wnids.txt")
            path = os.path.join("val", "images", name)
            names.append(files.inside(folder, path, links, f"{table}:{number}"))
            labels.append(number_of[wnid])
    else:
        raise UserError(f"{folder}: Tiny ImageNet has labels for train and val, not for {split!r}")
    classes = [words.get(wnid) or wnid for wnid in wnids]
    return _files(f"Tiny ImageNet, {split}", folder, names, labels, classes, links)


def _mini_imagenet_csv(folder: str, split: str, links: bool) -> Source | None:
    """Ravi & Larochelle's split: train.csv, val.csv, test.csv of filename,label, beside images/.

    All that are there count as one set, the paper's 60,000 images: the split is one of classes for
    few-shot learning, and pre-training uses no classes.
    """
    del split
    tables = [os.path.join(folder, f"{part}.csv") for part in ("train", "val", "test")]
    tables = [table for table in tables if os.path.isfile(table)]
    if not tables:
        return None
    names, classes = [], []
    for table in tables:
        rows = csv.reader(files.lines(table))
        try:
            if next(rows, None) != ["filename", "label"]:
                raise UserError(f"{table}: its first line is not 'filename,label'")
            for row in rows:
                where = f"{table}:{rows.line_num}"
                if len(row) != 2:
                    raise UserError(f"{where}: not 'filename,label' but {row}")
                names.append(files.inside(folder, os.path.join("images", row[0]), links, where))
                classes.append(row[1])
        except csv.Error as error:
            raise UserError(f"{table}:{rows.line_num}: {error}") from None
    kinds = sorted(set(classes))
    number_of = {kind: number for number, kind in enumerate(kinds)}
    labels = [number_of[kind] for kind in classes]
    parts = ", ".join(os.path.basename(table) for table in tables)
    return _files(f"miniImageNet ({parts})", folder, names, labels, kinds, links)


def _mini_imagenet_pickles(folder: str, split: str, links: bool) -> Source | None:
    """mini-imagenet-cache-{train,val,test}.pkl: uint8 [n, 84, 84, 3] and a dict of classes."""
    del split
    caches = _shards(folder, "mini-imagenet-cache-*.pkl", links)
    if not caches:
        return None
    parts, names, classes = [], [], []
    for path in caches:
        pixels, class_of = minipickle.read_cache(path)
        parts.append(pixels)
        names += [f"{os.path.basename(path)}[{i}]" for i in range(len(pixels))]
        classes += class_of
    kinds = sorted(set(classes))
    number_of = {kind: number for number, kind in enumerate(kinds)}
    starts = np.cumsum([0] + [len(part) for part in parts])

    def read(number: int) -> np.ndarray:
        part = int(np.searchsorted(starts, number, side="right")) - 1
        return parts[part][number - starts[part]]

    labels = np.array([number_of[kind] for kind in classes], np.int32)
    return Source(f"miniImageNet cache, {len(caches)} files", names, labels, tuple(kinds), read)


def _tfrecords(folder: str, split: str, links: bool) -> Source | None:
    del split
    records = _shards(folder, "*.tfrecord", links)
    if not records:
        return None
    shards = tfrecords.Shards(records)
    return Source(
        f"TFRecords, {len(records)} files",
        shards.names,
        shards.labels,
        shards.class_names,
        shards.read,
    )


def _shapes(count: int, split: str) -> Source:
    seed = {"train": 0, "val": 1, "test": 2}.get(split)
    if seed is None:
        raise UserError(f"shapes has the splits train, val and test, not {split!r}")
    labels = np.array([shapes.label_of(number, seed) for number in range(count)], np.int32)
    names = [f"shape {number}" for number in range(count)]
    return Source(
        f"shapes ({split}, generated)",
        names,
        labels,
        shapes.SHAPES,
        lambda number: shapes.single_object(number, seed),
    )


def _tfds(name: str, split: str, folder: str) -> Source:
    """A TensorFlow Dataset that is prepared on disk, read once as encoded images."""
    extras.require(
        "tensorflow_datasets", "TensorFlow Datasets", "detection", f"--data_source=tfds:{name}"
    )
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=folder or None)
        features = builder.info.features
        if "image" not in features:
            raise UserError(f"--data_source=tfds:{name}: it has no feature 'image'")
        decoders = {"image": tfds.decode.SkipDecoding()}
        examples = builder.as_dataset(split=split, decoders=decoders, shuffle_files=False)
    except (AssertionError, FileNotFoundError, ValueError, tfds.core.DatasetNotFoundError) as error:
        raise UserError(
            f"--data_source=tfds:{name}: not prepared on disk, or no split {split!r} "
            f"({str(error).splitlines()[0]}). Prepare it with `tfds build`, or turn its images "
            "into a folder"
        ) from None
    encoded, labels = [], []
    for example in tfds.as_numpy(examples):
        encoded.append(bytes(example["image"]))
        labels.append(int(example.get("label", -1)))
    classes = tuple(features["label"].names) if "label" in features else ()
    names = [f"{name}[{number}]" for number in range(len(encoded))]
    truth = np.array(labels, np.int32) if classes else None
    return Source(f"tfds:{name}, {split}", names, truth, classes, encoded.__getitem__)


def _shards(folder: str, pattern: str, links: bool) -> list[str]:
    """The files of a data set that consists of a few large ones."""
    found = sorted(glob.glob(os.path.join(glob.escape(folder), pattern)))
    for path in found:
        files.inside(folder, os.path.basename(path), links, folder)
    return found
