"""Every reader of files, with intact files that `tools.faults.fuzz` damages."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from mgta_tf import config as config_lib
from mgta_tf.clustering.journal import Journal
from mgta_tf.clustering.lloyd import State, kmeans
from mgta_tf.data import annotation_trees, coco, images, minipickle, tfrecords, voc
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.detection import records
from mgta_tf.detection.config import BoxDataConfig
from mgta_tf.detection.sets import load
from mgta_tf.embed import stream, table
from mgta_tf.evaluation import features
from mgta_tf.models import artifact
from mgta_tf.runtime.checkpoints import Checkpoints, Position
from mgta_tf.runtime.workdir import load_config
from mgta_tf.training.config import TrainConfig

# ---------------------------------------------------------------------------------------- Readers
# Each is (intact files, function that writes a damaged one to its own folder and reads it).

Reader = tuple[list[bytes], Callable[[bytes], Any]]


def write(path: str, data: bytes) -> str:
    with open(path, "wb") as file:
        file.write(data)
    return path


def _one_of(folder: str, names: Sequence[str], read_folder: Callable[[], None]) -> Reader:
    """Reads a folder in which one file is damaged and the others are intact."""
    whole = {}
    for name in names:
        with open(os.path.join(folder, name), "rb") as file:
            whole[name] = file.read()

    def read(data: bytes) -> None:
        name, _, content = data.partition(b" ")
        for other, good in whole.items():
            write(os.path.join(folder, other), content if other.encode() == name else good)
        read_folder()

    return [name.encode() + b" " + content for name, content in whole.items()], read


def _images(folder: str) -> Reader:
    del folder
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)

    def read(data: bytes) -> None:
        with contextlib.suppress(images.BadImage):
            images.header(data)
        images.load_square(data, 16, "crop", 10**6)

    return [*_pictures(pixels), *_deep_pictures(pixels)], read


def _pictures(pixels: np.ndarray) -> list[bytes]:
    """Images of 8 bits in every format and mode, with metadata."""
    picture, seeds = Image.fromarray(pixels), []
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode, kind, options in (
        ("RGB", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("CMYK", "JPEG", {}),
        ("L", "PNG", {}),
        ("P", "PNG", {"transparency": 3}),
        ("RGBA", "PNG", {}),
        ("RGB", "BMP", {}),
        ("P", "GIF", {}),
        ("RGB", "GIF", {"save_all": True, "append_images": [picture.rotate(180)]}),
        ("RGB", "MPO", {"save_all": True, "append_images": [picture.rotate(180)]}),
        ("RGB", "JPEG", {"exif": exif, "icc_profile": b"icc" * 99, "comment": b"c" * 99}),
        ("RGB", "PNG", {"transparency": (1, 2, 3), "exif": exif, "icc_profile": b"i" * 99}),
        ("RGB", "PNG", {"save_all": True, "append_images": [picture.rotate(180)]}),
        ("RGB", "WEBP", {}),
        ("RGBA", "WEBP", {"lossless": True, "exif": exif}),
        ("RGB", "WEBP", {"save_all": True, "append_images": [picture.rotate(180)]}),
        ("RGB", "AVIF", {"exif": exif}),
        ("RGBA", "AVIF", {}),
        ("RGB", "JPEG2000", {}),
        ("L", "JPEG2000", {"no_jp2": True, "tile_size": (16, 16)}),
        ("1", "PPM", {}),
        ("L", "PPM", {}),
        ("RGB", "PPM", {}),
        ("RGB", "TIFF", {}),
        ("CMYK", "TIFF", {"exif": exif}),
        ("F", "TIFF", {}),
        ("1", "TIFF", {"compression": "group4"}),
        ("P", "TIFF", {"compression": "packbits"}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGBA", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("YCbCr", "TIFF", {"compression": "jpeg"}),
        ("RGB", "TIFF", {"big_tiff": True}),
        ("RGB", "TIFF", {"save_all": True, "append_images": [picture.rotate(180)]}),
    ):
        file = io.BytesIO()
        picture.convert(mode).save(file, kind, **options)
        seeds.append(file.getvalue())
    return seeds


def _deep_pictures(pixels: np.ndarray) -> list[bytes]:
    """Images of 16 bits, of floats and in text form; HEIC if it can be written."""
    seeds = []
    gray = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    for kind in ("PNG", "TIFF", "JPEG2000", "PPM"):
        file = io.BytesIO()
        gray.save(file, kind)
        seeds.append(file.getvalue())
    seeds.append(b"P3 # plain\n2 1\n255\n1 2 3 # more\n4 5 6\n")
    seeds.append(b"Pf 4 2 -1.0\n" + np.linspace(0, 1, 8, dtype="<f4").tobytes())
    if images.has_heif():
        images.load_heif()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "HEIF")
        seeds.append(file.getvalue())
    return seeds


def _lists(folder: str) -> Reader:
    """The list of --data_dir=@FILE; files named in it are read, folders are not listed."""
    path = os.path.join(folder, "files.txt")
    write(os.path.join(folder, "a.png"), b"no image")
    lines = f"a.png\n{folder}/a.png\n./b/c.jpg\n~/d.png\n"
    seeds = [lines.encode(), lines.encode("utf-8-sig"), lines.encode("utf-16")]

    def read(data: bytes) -> None:
        source = open_source(DataConfig(data_dir=f"@{write(path, data)}"))
        for number in range(len(source.names)):
            with contextlib.suppress(OSError):
                source.read(number)

    return seeds, read


def _pickles(folder: str) -> Reader:
    pixels = np.zeros((1, minipickle.SIDE, minipickle.SIDE, 3), np.uint8)
    cache = {"image_data": pixels, "class_dict": {"n1": [0], "n2": []}}
    seeds = [pickle.dumps(cache, protocol) for protocol in range(6)]
    tail = len(pixels.tobytes()) - 40  # without most pixels, damage mostly hits the structure
    seeds += [seed.replace(b"\0" * tail, b"") for seed in seeds[3:]]
    path = os.path.join(folder, "mini-imagenet-cache-train.pkl")
    return seeds, lambda data: minipickle.read_cache(write(path, data))


def _tfrecords(folder: str) -> Reader:
    path = os.path.join(folder, "0.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for number in range(3):
            example = tfrecords.make_example(b"x" * 40, f"{number}.png", number, "a class")
            writer.write(example.SerializeToString())
    with open(path, "rb") as file:
        seed = file.read()

    def read(data: bytes) -> None:
        shards = tfrecords.Shards([tfrecords.Part(write(path, data))])
        for number in range(len(shards.names)):
            shards.read(number)

    return [seed], read


def _examples(folder: str) -> Reader:
    """The records themselves, with correct checksums."""
    path = os.path.join(folder, "0.tfrecord")
    seeds = [
        tfrecords.make_example(b"x" * 9, "a.png", 2, "a class").SerializeToString(),
        tfrecords.make_example(b"x", "a.png", -1, "").SerializeToString(),
    ]

    def read(data: bytes) -> None:
        with tf.io.TFRecordWriter(path) as writer:
            writer.write(data)
        tfrecords.Shards([tfrecords.Part(path)]).read(0)

    return seeds, read


def _annotations(folder: str) -> Reader:
    seed = (
        b"<annotation><filename>1.jpg</filename><size><width>35</width><height>50</height></size>"
        b"<object><name>dog</name><truncated>1</truncated><difficult>0</difficult><bndbox>"
        b"<xmin>4</xmin><ymin>24</ymin><xmax>19</xmax><ymax>37</ymax></bndbox></object>"
        b"</annotation>"
    )
    entities = b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]>' + seed
    path = os.path.join(folder, "1.xml")
    return [seed, entities], lambda data: voc.read_annotation(write(path, data))


def _coco(folder: str) -> Reader:
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 35, "height": 50}],
        "categories": [{"id": 3, "name": "dog", "supercategory": "none"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [4.5, 2, 19, 7]}],
    }
    write(os.path.join(folder, "1.jpg"), b"")
    path = os.path.join(folder, "result.json")
    seed = json.dumps(content).encode()
    return [seed, seed.replace(b'": ', b'":\n')], lambda data: coco.read_coco(write(path, data))


def _voc_lists(folder: str) -> Reader:
    main = os.path.join(folder, "ImageSets", "Main")
    os.makedirs(main)
    for name in voc.CLASSES:
        write(os.path.join(main, f"{name}_test.txt"), b"000001  1\n000002 -1\n")
    write(os.path.join(main, "test.txt"), b"000001\n000002\n")
    path = os.path.join(main, "cat_test.txt")
    seeds = [b"000001  1\n000002 -1\n", b"000001  0\r\n000002 1\r\n"]

    def read(data: bytes) -> None:
        write(path, data)
        voc.class_labels(folder, "test")

    return seeds, read


def _box_trees(folder: str) -> Reader:
    """The lists and annotations of own boxes, one of which is damaged."""
    box = "<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax>"
    item = f"<object><name>a dog</name><bndbox>{box}</bndbox></object>"
    xml = f"<annotation><size><width>12</width><height>12</height></size>{item}</annotation>"
    whole = {"ImageSets/Main/train.txt": b"a\nb.jpg\n", "ImageSets/Main/test.txt": b"c\nd\n"}
    whole |= {f"Annotations/{stem}.xml": xml.encode() for stem in "abcd"}
    for place in ("ImageSets/Main", "Annotations", "JPEGImages"):
        os.makedirs(os.path.join(folder, place))
    for stem in "abcd":
        Image.new("RGB", (12, 12)).save(os.path.join(folder, "JPEGImages", f"{stem}.png"))
    seeds = [name.encode() + b" " + content for name, content in whole.items()]

    def read(data: bytes) -> None:
        name, _, content = data.partition(b" ")
        for other, good in whole.items():
            write(os.path.join(folder, other), content if other.encode() == name else good)
        annotation_trees.read_voc_tree(folder)
        load(BoxDataConfig(voc_root=folder))

    return seeds, read


def _box_records(folder: str) -> Reader:
    """A detector's records and their manifest."""
    picture, boxes = os.path.join(folder, "a.png"), "<name>dog</name>"
    Image.new("RGB", (12, 12)).save(picture)
    for number in range(2):
        shutil.copy(picture, os.path.join(folder, f"{number}.png"))
        place = "<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax>"
        xml = f"<annotation><object>{boxes}<bndbox>{place}</bndbox></object></annotation>"
        write(os.path.join(folder, f"{number}.xml"), xml.encode())
    made = os.path.join(folder, "records")
    records.write(load(BoxDataConfig(voc_root=folder)), made)
    names = (records.MANIFEST, "train-00000-of-00008.tfrecord", "test-00000-of-00008.tfrecord")

    def read() -> None:
        held = records.contents(made, "voc07")
        paths = records.files_of(made, (*held.train, held.test))
        records.objects_of([path for path in paths if os.path.getsize(path)])

    return _one_of(made, names, read)


def _embeddings(folder: str) -> Reader:
    """A table of embeddings, as read by the search, and an unfinished one."""
    path, unfinished = os.path.join(folder, "a.npz"), os.path.join(folder, "unfinished")
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    table.write(path, ["a.jpg", "b/c.jpg", "\udce9.jpg"], vectors, {"key": "k", "digest": "d"})
    with open(path, "rb") as file:
        seeds = [b"table " + file.read()]
    state = {"key": "k", "images": 0, "rows": 3, "digest": "", "bad": [[1, "empty file", False]]}
    seeds.append(b"state " + json.dumps(state).encode())
    source = open_source(DataConfig(data_source="shapes", shapes_count=4))

    def read(data: bytes) -> None:
        name, _, content = data.partition(b" ")
        if name == b"table":
            table.read(write(path, content))
            return
        os.makedirs(unfinished, exist_ok=True)
        write(os.path.join(unfinished, "vectors.f32"), vectors.tobytes())
        write(os.path.join(unfinished, "state.json"), content)
        partial = stream.Partial(unfinished, 2)
        partial.open("k", source).errors()
        partial.remove()

    return seeds, read


def _features(folder: str) -> Reader:
    """The probe's cache: damaged features are computed again."""
    kept = np.arange(6, dtype=np.float32).reshape(3, 2)
    features.cached(folder, "key", lambda: (kept, "a pool"))
    (name,) = os.listdir(folder)
    path = os.path.join(folder, name)
    with open(path, "rb") as file:
        seed = file.read()

    def read(data: bytes) -> None:
        write(path, data)
        found, pool = features.cached(folder, "key", lambda: (kept, "a pool"))
        np.testing.assert_array_equal(found, kept)
        if pool != "a pool":
            raise AssertionError(f"pool {pool!r}")

    return [seed], read


def _tables(folder: str) -> Reader:
    """miniImageNet's CSV, Tiny ImageNet's lists."""
    tiny = os.path.join(folder, "tiny")
    os.makedirs(os.path.join(tiny, "val", "images"))
    os.makedirs(os.path.join(folder, "images"))
    for name in ("a.png", 'b,".png'):  # a table is miniImageNet's if its images are there
        Image.new("RGB", (8, 8)).save(os.path.join(folder, "images", name))
    table = io.StringIO()
    csv.writer(table).writerows((("filename", "label"), ("a.png", "n1"), ('b,".png', "n2")))
    seeds = [
        b"csv " + table.getvalue().encode(),
        b"wnids.txt n01\nn02\n",
        b"words.txt n01\ta fish\nn02\tanother\n",
        b"val/val_annotations.txt val_0.png\tn01\t0\t0\t9\t9\n",
    ]

    def read(data: bytes) -> None:
        name, _, content = data.partition(b" ")
        if name == b"csv":
            write(os.path.join(folder, "train.csv"), content)
            open_source(DataConfig(data_dir=folder))
            return
        for known in seeds[1:]:  # the others intact
            known_name, _, known_content = known.partition(b" ")
            damaged_here = known_name == name
            path = os.path.join(tiny, known_name.decode())
            write(path, content if damaged_here else known_content)
        open_source(DataConfig(data_dir=tiny, data_split="val"))

    return seeds, read


def _flagfiles(folder: str) -> Reader:
    path = os.path.join(folder, "flags.flagfile")
    run = "# a run\n" + config_lib.to_flagfile(TrainConfig())
    short = "--width=0.5\n--blocks=1,1,1,1\n--noflip\n"
    seeds = [text.encode() for text in (run, short, f"{short}--flagfile={path}\n")]
    return seeds, lambda data: load_config(write(path, data), TrainConfig)


def _facts(folder: str) -> Reader:
    values = {"width": 0.25, "blocks": [1, 1, 1, 1], "normalization": "unit", "image_size": 32}
    seed = json.dumps({**values, "net": "n2", "mgta_tf": "0.1.0"}).encode()
    path = os.path.join(folder, artifact.FACTS)

    def read(data: bytes) -> None:
        write(path, data)
        artifact.read_facts(folder)

    return [seed], read


class _Net:
    def __init__(self) -> None:
        keras = tf.keras
        self.model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        self.optimizer = keras.optimizers.SGD()
        self.optimizer.build(self.model.trainable_variables)


def _checkpoints(folder: str) -> Reader:
    """Any file of a checkpoint or its manifest; the previous checkpoint must be restored."""
    net = _Net()
    checkpoints = Checkpoints(folder, [net], keep=2)
    for step in (1, 2):
        checkpoints.save(Position(1, step, [{}], {}, {None: np.arange(4)}, "d"))
    names = [f"ckpt-2.{part}" for part in ("index", "data-00000-of-00001", "json")] + ["checkpoint"]

    def read() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            step = Checkpoints(folder, [net], keep=2).restore("d").step
        if step not in (1, 2):
            raise AssertionError(f"restored step {step}")

    return _one_of(folder, names, read)


def _kmeans_states(folder: str) -> Reader:
    """The journal of k-means: it must return the saved state, or nothing."""
    path = os.path.join(folder, "kmeans.npz")
    points = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    states: list[State] = []
    kmeans(points, 4, 0, on_step=states.append)
    journal = Journal(path, every_secs=-1.0)
    with contextlib.suppress(StopIteration), journal.opened(points, 4, 0, None):
        journal.step(states[0])
        raise StopIteration  # keeps the file, like a kill
    with open(path, "rb") as file:
        seed = file.read()

    def read(data: bytes) -> None:
        write(path, data)
        with journal.opened(points, 4, 0, None) as state:
            if state is not None:
                np.testing.assert_array_equal(state.centroids, states[0].centroids)

    return [seed], read


READERS: dict[str, Callable[[str], Reader]] = {
    "images": _images,
    "lists": _lists,
    "pickles": _pickles,
    "tfrecords": _tfrecords,
    "records": _examples,
    "annotations": _annotations,
    "coco": _coco,
    "voc_lists": _voc_lists,
    "box_trees": _box_trees,
    "box_records": _box_records,
    "embeddings": _embeddings,
    "features": _features,
    "tables": _tables,
    "flagfiles": _flagfiles,
    "facts": _facts,
    "checkpoints": _checkpoints,
    "kmeans_states": _kmeans_states,
}
