"""Photographs with boxes as TFRecords, for Model Garden's reader and this package.

A folder holds `SET-00000-of-00008.tfrecord` … for each set (2007_trainval, 2007_test, … for VOC;
train and test for other data) and its description `voc_records.json`. A record is a
tf.train.Example with Model Garden's keys. `image/object/is_crowd` marks difficult objects, which
Model Garden neither trains on nor counts in its COCO evaluation. `image/source_id` is the number of
the image in its set, plus VOC's year × 100,000, which makes it unique over several years.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import Image

from mgta_tf.data import formats, images, tfrecords, voc
from mgta_tf.data.annotated import Annotated, LabelledBox, Unclear, oriented, refusal
from mgta_tf.detection.config import MANIFEST, TEST_SET, TRAIN_SETS
from mgta_tf.detection.sets import BoxSets, digest
from mgta_tf.errors import UserError, quantity
from mgta_tf.evaluation.boxes import Objects
from mgta_tf.runtime import files
from mgta_tf.runtime.files import write_json

VERSION = 1
SHARDS = 8
# Number of images of VOC's complete sets (from VOC's pages; 2012 has no public test set).
VOC_IMAGES = {"2007_trainval": 5011, "2007_test": 4952, "2012_trainval": 11540}


@dataclasses.dataclass
class Counts:
    """Numbers of images and objects of a set, and of corrected boxes."""

    images: int = 0
    without_objects: int = 0
    objects: int = 0
    difficult: int = 0
    truncated: int = 0
    clipped: int = 0
    dropped: int = 0
    resized: int = 0
    skipped: int = 0
    most: int = 0  # largest number of objects in an image


def write(sets: BoxSets, output: str) -> dict[str, Counts]:
    """Writes all sets, then the manifest.

    Boxes that extend beyond the image are clipped, and those that are empty or outside are dropped;
    each is printed. Sizes are those of the photograph, not of the annotation.

    Raises:
      UserError: the EXIF orientation of a photograph is ambiguous; or a photograph of VOC, or more
        than half of other data, is damaged.
    """
    os.makedirs(output, exist_ok=True)
    path, others = os.path.join(output, MANIFEST), {}
    if os.path.exists(path):
        before = manifest(output)
        if sets.test == TEST_SET and before.get("classes") == list(sets.classes):
            others = before["sets"]
        os.remove(path)  # outdated now; it is written last
    found = {name: _write_set(sets, name, output) for name in sets.images}
    content = {
        "version": VERSION,
        "classes": sets.classes,
        "digest": digest(sets),
        "train": sets.train,
        "test": sets.test,
        "sets": {**others, **{name: dataclasses.asdict(c) for name, c in found.items()}},
    }
    write_json(path, content)
    return found


def _write_set(sets: BoxSets, name: str, output: str) -> Counts:
    counts, images_ = Counts(), sets.images[name]
    first = int(name[:4]) * 100_000 if sets.test == TEST_SET else 0
    paths = [
        os.path.join(output, f"{name}-{i:05d}-of-{SHARDS:05d}.tfrecord") for i in range(SHARDS)
    ]
    writers = [tf.io.TFRecordWriter(f"{path}.partial") for path in paths]
    refused = []
    for number, image in enumerate(images_):
        try:
            example = _example(image, first + number, sets.classes, counts)
        except images.BadImage as error:
            if isinstance(error, Unclear) or not sets.skips_bad:
                refused.append((image.path, str(error)))
                continue
            print(f"{image.path}: {error}; skipped")
            sets.skipped.setdefault(str(error), []).append(image.path)
            counts.skipped += 1
            continue
        writers[number % SHARDS].write(example.SerializeToString())
    for writer in writers:
        writer.close()
    if refused:
        raise refusal(refused)
    if 2 * counts.skipped > len(images_):
        raise UserError(f"{name}: {counts.skipped} of {len(images_)} photographs cannot be used")
    for path in paths:
        os.replace(f"{path}.partial", path)
    return counts


def describe(name: str, counts: Counts) -> str:
    """'2007_trainval: 5,011 images, 15,662 objects (…)', with a warning if images are missing."""
    text = (
        f"{name}: {quantity(counts.images, 'image')} ({counts.without_objects} without objects), "
        f"{quantity(counts.objects, 'object')} ({counts.difficult} difficult, "
        f"{counts.truncated} truncated); "
        f"{counts.clipped} clipped, {counts.dropped} dropped"
    )
    if counts.resized:
        text += f"; {quantity(counts.resized, 'annotation')} with another size"
    if counts.skipped:
        text += f"; {quantity(counts.skipped, 'photograph')} skipped"
    whole = VOC_IMAGES.get(name, counts.images)
    return text if counts.images == whole else f"{text}; VOC's own has {whole:,} images"


def _example(
    image: Annotated, number: int, classes: tuple[str, ...], counts: Counts
) -> tf.train.Example:
    encoded, height, width = _encoded(image)
    if image.size and image.size != (width, height):
        stated = "×".join(map(str, image.size))
        print(f"{image.source}: states {stated}, the photograph has {width}×{height}")
        counts.resized += 1
    objects = []
    for item in image.boxes:
        inside = _inside(item, height, width)
        if inside is None:
            print(f"{image.source}: {_words(item)} is empty or outside the image; dropped")
            counts.dropped += 1
            continue
        if inside != item:
            print(f"{image.source}: {_words(item)} extends beyond the image; clipped")
            counts.clipped += 1
        objects.append(inside)
    counts.images += 1
    counts.without_objects += not objects
    counts.objects += len(objects)
    counts.difficult += sum(item.difficult for item in objects)
    counts.truncated += sum(item.truncated for item in objects)
    counts.most = max(counts.most, len(objects))
    name = os.path.basename(image.path)
    return _make_example(encoded, name, number, height, width, objects, classes)


def _inside(item: LabelledBox, height: int, width: int) -> LabelledBox | None:
    """The part of an object's box inside the image; None if there is none."""
    clipped = dataclasses.replace(
        item,
        xmin=max(item.xmin, 1),
        ymin=max(item.ymin, 1),
        xmax=min(item.xmax, width),
        ymax=min(item.ymax, height),
    )
    return clipped if clipped.xmin <= clipped.xmax and clipped.ymin <= clipped.ymax else None


def _words(item: LabelledBox) -> str:
    return f"{item.name} ({item.xmin:g}, {item.ymin:g}, {item.xmax:g}, {item.ymax:g})"


def _encoded(image: Annotated) -> tuple[bytes, int, int]:
    """A photograph encoded for TensorFlow, with its height and width.

    The bytes of the file, or PNG if TensorFlow would decode them differently: it does not support
    EXIF orientation, CMYK and most formats.

    Raises:
      BadImage: the file cannot be read or decoded, or its EXIF orientation is ambiguous.
    """
    try:
        data = files.read(image.path, images.MAX_BYTES)
    except OSError as error:
        raise images.BadImage(str(error.strerror)) from None
    stored, orientation = images.decode_stored(data)
    pixels = oriented(stored, orientation, image.size, bool(image.boxes))
    if orientation != 1 or not _is_rgb_jpeg(data):
        lossless = io.BytesIO()
        Image.fromarray(pixels).save(lossless, "PNG")
        data = lossless.getvalue()
    return data, pixels.shape[0], pixels.shape[1]


def _is_rgb_jpeg(data: bytes) -> bool:
    """Whether a file is a plain RGB JPEG, given its decoded image."""
    if formats.of(data[: formats.HEAD]) != "JPEG":
        return False
    with Image.open(io.BytesIO(formats.plain_jpeg(data)[0]), formats=("JPEG",)) as image:
        return image.mode == "RGB"


def _make_example(encoded, filename, number, height, width, objects, classes) -> tf.train.Example:
    def of_bytes(*values: str | bytes) -> tf.train.Feature:
        data = [os.fsencode(v) if isinstance(v, str) else v for v in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=data))

    def of_ints(*values: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=map(int, values)))

    def of_floats(*values: float) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    feature = {
        "image/encoded": of_bytes(encoded),
        "image/filename": of_bytes(filename),
        "image/source_id": of_bytes(str(number)),
        "image/height": of_ints(height),
        "image/width": of_ints(width),
        # VOC's pixels count from 1 and include both ends: the edges are xmin - 1 and xmax.
        "image/object/bbox/xmin": of_floats(*((item.xmin - 1) / width for item in objects)),
        "image/object/bbox/ymin": of_floats(*((item.ymin - 1) / height for item in objects)),
        "image/object/bbox/xmax": of_floats(*(item.xmax / width for item in objects)),
        "image/object/bbox/ymax": of_floats(*(item.ymax / height for item in objects)),
        "image/object/class/text": of_bytes(*(item.name for item in objects)),
        "image/object/class/label": of_ints(*(classes.index(o.name) + 1 for o in objects)),
        "image/object/is_crowd": of_ints(*(item.difficult for item in objects)),
        "image/object/truncated": of_ints(*(item.truncated for item in objects)),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))


def manifest(folder: str) -> dict[str, Any]:
    """Reads the manifest of a folder.

    Raises:
      UserError: the folder has no records, or records of another version.
    """
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        version = content["version"]
        if version == VERSION:
            _check_manifest(content)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; make the folder with mgta_tf.make_voc_tfrecord"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}: damaged; make the folder again") from None
    if version != VERSION:
        raise UserError(
            f"{path}: records of version {version}, not {VERSION}; make them again with "
            "mgta_tf.make_voc_tfrecord"
        )
    return content


def _check_manifest(content: dict[str, Any]) -> None:
    """Checks the values of a manifest.

    Raises:
      ValueError, KeyError, TypeError, AttributeError: the manifest is damaged.
    """
    sets, train = content["sets"], content.get("train", [])
    if content.get("test", TEST_SET) != TEST_SET and not train:
        raise ValueError("no sets to train on")
    names = [*content.get("classes", voc.CLASSES), content.get("test", TEST_SET), *train, *sets]
    numbers = [
        number for counts in sets.values() for number in (counts["images"], *counts.values())
    ]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("names that are not text")
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("counts that are not numbers")


@dataclasses.dataclass(frozen=True)
class Contents:
    """The content of a folder of records.

    classes: in the order of their labels. train, test: names of sets. counts: `Counts` of each set.
    """

    classes: tuple[str, ...]
    train: tuple[str, ...]
    test: str
    counts: dict[str, dict[str, int]]

    @property
    def most_objects(self) -> int:
        """Largest number of objects in an image."""
        return max(self.counts[name].get("most", 0) for name in (*self.train, self.test))

    @property
    def are_vocs(self) -> bool:
        """Whether classes and test set are VOC's, as in the paper."""
        return self.test == TEST_SET and self.classes == voc.CLASSES

    def num_images(self, *sets: str) -> int:
        return sum(self.counts[name]["images"] for name in sets)


def exist(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, MANIFEST))


def contents(folder: str, train_set: str) -> Contents:
    """The content of a folder; for a VOCdevkit, with the training sets of --train_set.

    Raises:
      UserError: the folder lacks a set, or is of another version.
    """
    content = manifest(folder)
    test = content.get("test", TEST_SET)
    train = TRAIN_SETS[train_set] if test == TEST_SET else tuple(content["train"])
    for name in (*train, test):
        if name not in content["sets"]:
            raise UserError(
                f"{folder}: has {', '.join(content['sets'])}, not {name}; make it with "
                "mgta_tf.make_voc_tfrecord"
            )
    classes = tuple(content.get("classes", voc.CLASSES))
    return Contents(classes, train, test, content["sets"])


def files_of(folder: str, names: tuple[str, ...]) -> list[str]:
    """The files of some sets.

    Raises:
      UserError: the folder does not hold them, or is of another version.
    """
    sets, found = manifest(folder)["sets"], []
    for name in names:
        if name not in sets:
            raise UserError(
                f"{folder}: has {', '.join(sets)}, not {name}; make it with "
                "mgta_tf.make_voc_tfrecord"
            )
        for i in range(SHARDS):
            found.append(os.path.join(folder, f"{name}-{i:05d}-of-{SHARDS:05d}.tfrecord"))
            if not os.path.isfile(found[-1]):
                raise UserError(f"{found[-1]}: missing; make the folder again")
            tfrecords.check_lengths(found[-1])
    return found


def read(files: list[str]) -> Iterator[tf.train.Example]:
    """Every record.

    Raises:
      UserError: a file is truncated or damaged, or holds other records.
    """
    for path in files:
        try:
            for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                example = tf.train.Example.FromString(record)
                source_id(example), size(example), photograph(example)  # must be there
                yield example
        except (tf.errors.OpError, DecodeError, IndexError, ValueError):
            raise UserError(f"{path}: truncated or damaged; make it again") from None


def source_id(example: tf.train.Example) -> int:
    return int(example.features.feature["image/source_id"].bytes_list.value[0])


def filename(example: tf.train.Example) -> str:
    return example.features.feature["image/filename"].bytes_list.value[0].decode("utf-8", "replace")


def photograph(example: tf.train.Example) -> bytes:
    """The encoded image."""
    return example.features.feature["image/encoded"].bytes_list.value[0]


def size(example: tf.train.Example) -> tuple[int, int]:
    """(height, width)."""
    height, width = (
        example.features.feature[f"image/{side}"].int64_list.value[0]
        for side in ("height", "width")
    )
    return height, width


def objects_of(files: list[str]) -> Objects:
    """The objects of a set; labels count from 0, images are given by `source_id`."""
    rows: list[tuple[int, int, list[float], bool]] = []
    for example in read(files):
        feature, (height, width) = example.features.feature, size(example)
        corners = zip(
            *(
                feature[f"image/object/bbox/{side}"].float_list.value
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
        )
        labels = feature["image/object/class/label"].int64_list.value
        difficult = feature["image/object/is_crowd"].int64_list.value
        for (xmin, ymin, xmax, ymax), label, hard in zip(corners, labels, difficult):
            box = [xmin * width + 1, ymin * height + 1, xmax * width, ymax * height]
            rows.append((source_id(example), label - 1, box, bool(hard)))
    return Objects(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64).reshape(-1, 4),
        np.array([row[3] for row in rows], bool),
    )
