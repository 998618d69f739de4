"""VOC as TFRecords that Model Garden's reader and this package read.

A folder holds `SET-00000-of-00008.tfrecord` … for each set (2007_trainval, 2007_test, …) and
`voc_records.json`, which says what is in it. A record is a tf.train.Example with Model Garden's
keys; `image/object/is_crowd` marks difficult objects, which its parser omits from training
and its COCO evaluator from the count. `image/source_id` is year × 100,000 + the image's number in
its set, unique over several years.
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
from PIL import Image

from mgta_tf.data import images, voc
from mgta_tf.data.annotated import LabelledBox, oriented
from mgta_tf.errors import UserError
from mgta_tf.evaluation.boxes import Objects
from mgta_tf.runtime import files
from mgta_tf.runtime.files import write_json

VERSION = 1
MANIFEST = "voc_records.json"
SHARDS = 8
# What the sets have when they are whole: images (VOC's own pages; 2012 has no public test set).
VOC_IMAGES = {"2007_trainval": 5011, "2007_test": 4952, "2012_trainval": 11540}


@dataclasses.dataclass
class Counts:
    """What a set holds, and what was put right."""

    images: int = 0
    without_objects: int = 0
    objects: int = 0
    difficult: int = 0
    truncated: int = 0
    clipped: int = 0
    dropped: int = 0
    resized: int = 0


def write_set(voc_root: str, name: str, output: str) -> Counts:
    """Writes one set, as '2007_trainval', and enters it in the manifest.

    Boxes that reach over the image's edge are clipped to it, those that are empty or outside are
    dropped; each is printed. Sizes are those of the photograph, not of the annotation.

    Raises:
      UserError: a list, a photograph or an annotation is missing or damaged, or names a class that
        VOC does not have.
    """
    year, split = name.split("_")
    folder = voc.year_dir(voc_root, year)
    ids, counts = voc.image_ids(folder, split), Counts()
    if not ids:
        raise UserError(f"{folder}: its list {split}.txt names no image")
    photographs = voc.image_paths(folder, split, ids)
    os.makedirs(output, exist_ok=True)
    paths = [
        os.path.join(output, f"{name}-{i:05d}-of-{SHARDS:05d}.tfrecord") for i in range(SHARDS)
    ]
    writers = [tf.io.TFRecordWriter(f"{path}.partial") for path in paths]
    for number, (image_id, photograph) in enumerate(zip(ids, photographs)):
        path = voc.annotation_path(folder, image_id)
        example = _example(path, photograph, int(year) * 100_000 + number, counts)
        writers[number % SHARDS].write(example.SerializeToString())
    for path, writer in zip(paths, writers):
        writer.close()
        os.replace(f"{path}.partial", path)
    sets = {**sets_of(output), name: dataclasses.asdict(counts)}
    write_json(os.path.join(output, MANIFEST), {"version": VERSION, "sets": sets})
    return counts


def describe(name: str, counts: Counts) -> str:
    """'2007_trainval: 5011 images, 15662 objects (…)', with a warning where images are missing."""
    text = (
        f"{name}: {counts.images} images ({counts.without_objects} without objects), "
        f"{counts.objects} objects ({counts.difficult} difficult, {counts.truncated} truncated); "
        f"{counts.clipped} clipped, {counts.dropped} dropped"
    )
    whole = VOC_IMAGES.get(name, counts.images)
    return text if counts.images == whole else f"{text}; VOC's own has {whole} images"


def _example(path: str, photograph: str, number: int, counts: Counts) -> tf.train.Example:
    annotation = voc.read_annotation(path)
    encoded, height, width = _encoded(photograph, annotation)
    if annotation.size and annotation.size != (width, height):
        stated = "×".join(map(str, annotation.size))
        print(f"{path}: says {stated}, the photograph has {width}×{height}")
        counts.resized += 1
    objects = []
    for item in annotation.boxes:
        if item.name not in voc.CLASSES:
            raise UserError(f"{path}: {item.name!r} is none of VOC's 20 classes")
        inside = _inside(item, height, width)
        if inside is None:
            print(f"{path}: {_words(item)} is empty or outside the image; dropped")
            counts.dropped += 1
            continue
        if inside != item:
            print(f"{path}: {_words(item)} reaches over the edge; clipped")
            counts.clipped += 1
        objects.append(inside)
    counts.images += 1
    counts.without_objects += not objects
    counts.objects += len(objects)
    counts.difficult += sum(item.difficult for item in objects)
    counts.truncated += sum(item.truncated for item in objects)
    return _make_example(encoded, os.path.basename(photograph), number, height, width, objects)


def _inside(item: LabelledBox, height: int, width: int) -> LabelledBox | None:
    """The part of an object's box that lies in the image; None if there is none."""
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


def _encoded(path: str, annotation: voc.VocAnnotation) -> tuple[bytes, int, int]:
    """A photograph as TensorFlow decodes it, and its height and width.

    The file's bytes, or PNG where TensorFlow would decode them otherwise: it does not know EXIF
    orientation, CMYK and most formats.
    """
    try:
        data = files.read(path, images.MAX_BYTES)
        stored, orientation = images.decode_stored(data)
        pixels = oriented(stored, orientation, annotation.size, bool(annotation.boxes))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except images.BadImage as error:
        raise UserError(f"{path}: {error}") from None
    if orientation != 1 or not _is_rgb_jpeg(data):
        lossless = io.BytesIO()
        Image.fromarray(pixels).save(lossless, "PNG")
        data = lossless.getvalue()
    return data, pixels.shape[0], pixels.shape[1]


def _is_rgb_jpeg(data: bytes) -> bool:
    """Of an image that has been decoded."""
    if not data.startswith(b"\xff\xd8"):
        return False
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return image.format == "JPEG" and image.mode == "RGB"


def _make_example(encoded, filename, number, height, width, objects) -> tf.train.Example:
    def of_bytes(*values: str | bytes) -> tf.train.Feature:
        data = [v.encode() if isinstance(v, str) else v for v in values]
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
        "image/object/class/label": of_ints(*(voc.CLASSES.index(o.name) + 1 for o in objects)),
        "image/object/is_crowd": of_ints(*(item.difficult for item in objects)),
        "image/object/truncated": of_ints(*(item.truncated for item in objects)),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature))


def _manifest(folder: str) -> dict[str, Any]:
    path = os.path.join(folder, MANIFEST)
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        version = manifest["version"]
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; make the folder with mgta_tf.make_voc_tfrecord"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; make the folder again") from None
    if version != VERSION:
        raise UserError(
            f"{path}: records of version {version}, not {VERSION}; make them again with "
            "mgta_tf.make_voc_tfrecord"
        )
    return manifest


def sets_of(folder: str) -> dict[str, dict[str, int]]:
    """The sets that a folder holds and the counts of each; none where it is not there yet."""
    return _manifest(folder)["sets"] if os.path.exists(os.path.join(folder, MANIFEST)) else {}


def files_of(folder: str, names: tuple[str, ...]) -> list[str]:
    """The files of some sets.

    Raises:
      UserError: the folder does not hold them, or is of another version.
    """
    sets, files = _manifest(folder)["sets"], []
    for name in names:
        if name not in sets:
            raise UserError(
                f"{folder}: has {', '.join(sets)}, not {name}; make it with "
                "mgta_tf.make_voc_tfrecord"
            )
        for i in range(SHARDS):
            files.append(os.path.join(folder, f"{name}-{i:05d}-of-{SHARDS:05d}.tfrecord"))
            if not os.path.isfile(files[-1]):
                raise UserError(f"{files[-1]}: missing; make the folder again")
    return files


def read(files: list[str]) -> Iterator[tf.train.Example]:
    """Every record.

    Raises:
      UserError: a file is cut or damaged.
    """
    for path in files:
        try:
            for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
                yield tf.train.Example.FromString(record)
        except tf.errors.OpError:
            raise UserError(f"{path}: cut or damaged; make it again") from None


def source_id(example: tf.train.Example) -> int:
    return int(example.features.feature["image/source_id"].bytes_list.value[0])


def filename(example: tf.train.Example) -> str:
    return example.features.feature["image/filename"].bytes_list.value[0].decode()


def size(example: tf.train.Example) -> tuple[int, int]:
    """(height, width)."""
    height, width = (
        example.features.feature[f"image/{side}"].int64_list.value[0]
        for side in ("height", "width")
    )
    return height, width


def objects_of(files: list[str]) -> Objects:
    """What there is to find in a set; labels are 0 … 19, images their `source_id`."""
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
