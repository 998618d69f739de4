"""Labelled images for the probe: the splits of VOC, or folders with one class per image."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from mgta_tf.data import images, voc
from mgta_tf.data.annotated import Size, oriented, refuse_unclear
from mgta_tf.data.sources import DataConfig, Source, open_source, splits_of
from mgta_tf.data.store import ImageStore, describe, load_store
from mgta_tf.errors import UserError, quantity
from mgta_tf.evaluation import features
from mgta_tf.runtime import files

if TYPE_CHECKING:
    from mgta_tf.probe import ProbeConfig


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images with targets. name: of the set. load: indices → uint8 [n, S, S, 3].

    targets: int8 [N, C] in {1, 0, -1}. labels: int [N] if each image has one class, else None.
    digest: of the contents of the images and how they are loaded; the key of cached features.
    """

    name: str
    load: Callable[[np.ndarray], np.ndarray]
    targets: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    digest: str


# -------------------------------------------------------------------------------------------- VOC


def voc_sets(config: ProbeConfig) -> list[Labelled]:
    """The two splits of VOC, with images resized by the protocol.

    Raises:
      UserError: a list, a photograph or an annotation is missing or damaged.
    """
    if not config.voc_root:
        raise UserError(
            "--voc_root is required: the VOCdevkit folder, or evaluate on --dataset=folder"
        )
    folder = voc.year_dir(config.voc_root, config.voc_year)
    sets = []
    for split in (config.train_split or "trainval", config.test_split or "test"):
        ids, targets = voc.class_labels(folder, split)
        annotations = [voc.annotation_path(folder, image_id) for image_id in ids]
        paths = voc.image_paths(folder, split, ids)
        refuse_unclear(paths, functools.partial(_stated, annotations))
        name = f"{os.path.abspath(folder)} {split} 256→224"
        loader, digest = _voc_loader(paths, annotations), _digest_of_files(paths, annotations)
        sets.append(Labelled(name, loader, targets, None, voc.CLASSES, f"256→224 {digest}"))
    return sets


def _digest_of_files(paths: list[str], annotations: list[str]) -> str:
    """SHA-256 of the photographs in order, and of the annotations, which say how they are turned.

    Files that cannot be read are ignored here; loading them raises the error.
    """

    def one(path: str) -> bytes:
        try:
            return hashlib.sha256(files.read(path, images.MAX_BYTES)).digest()
        except OSError:
            return b"none"

    digest = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        for path, content in zip((*paths, *annotations), pool.map(one, (*paths, *annotations))):
            digest.update(os.fsencode(os.path.basename(path)) + b"\0" + content)
    return digest.hexdigest()


def _stated(annotations: list[str], number: int) -> tuple[Size | None, bool]:
    """The image size in an annotation, and whether it has boxes; (None, False) without one."""
    if not os.path.exists(annotations[number]):
        return None, False
    found = voc.read_annotation(annotations[number])
    return found.size, bool(found.boxes)


def _voc_loader(paths: list[str], annotations: list[str]):
    """A `Labelled.load` for photographs, with the orientation that the detector uses."""
    pool = ThreadPoolExecutor()

    def one(number: int) -> np.ndarray:
        path = paths[number]
        try:
            pixels, orientation = images.decode_stored(files.read(path, images.MAX_BYTES))
            if orientation != 1:
                pixels = oriented(pixels, orientation, *_stated(annotations, number))
            return features.voc_image(pixels)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        except images.BadImage as error:
            raise UserError(f"{path}: {error}") from None

    return lambda numbers: np.stack(list(pool.map(one, numbers)))


# ---------------------------------------------------------------------------------------- Folders


def folder_sets(config: ProbeConfig) -> list[Labelled]:
    """Train and test images: two folders, two splits of one, or halves of it by class.

    Raises:
      UserError: a split or a class is missing, or there is only one class.
    """
    if bool(config.train_dir) != bool(config.val_dir):
        raise UserError("--train_dir and --val_dir go together: give both")
    if config.train_dir:
        if config.data_dir or config.train_split or config.test_split:
            raise UserError(
                "--train_dir and --val_dir replace --data_dir; remove --data_dir, --train_split "
                "and --test_split"
            )
        places = [(config.train_dir, ("train",)), (config.val_dir, ("val", "test", "train"))]
        return aligned(_stores(config, [(path, _own_split(path, s)) for path, s in places]))
    has = splits_of(DataConfig(data_dir=config.data_dir))
    train = config.train_split or ("train" if "train" in has else "")
    test = config.test_split or next((split for split in ("val", "test") if split in has), train)
    if train != test:
        return aligned(_stores(config, [(config.data_dir, split) for split in (train, test)]))
    (whole,) = aligned(_stores(config, [(config.data_dir, train)]))
    order = np.argsort(np.asarray(whole.labels), kind="stable")
    return [_half_of(whole, number, np.sort(order[number::2])) for number in (0, 1)]


def _own_split(path: str, wanted: tuple[str, ...]) -> str:
    """The first of some splits that a folder has; '' if it has no splits."""
    has = splits_of(DataConfig(data_dir=path))
    return next((split for split in wanted if split in has), "")


def _stores(config: ProbeConfig, places: list[tuple[str, str]]) -> list[ImageStore]:
    """The images of (folder, split) pairs; all are found and compared before any is decoded."""
    sources = [open_source(DataConfig(data_dir=path), split) for path, split in places]
    for (path, _), source in zip(places, sources):
        if source.labels is None:
            raise UserError(f"{path}: no class labels found; use one sub-folder per class")
    _check_classes(sources)
    stores = []
    for source in sources:
        stores.append(load_store(source, size=config.image_size, labelled=True))
        print("\n".join(describe(stores[-1])), flush=True)
    return stores


def _check_classes(parts: Sequence[Source | ImageStore]) -> None:
    """Refuses a single class, and classes of which the first part has no images to train on."""
    shown = [
        {part.class_names[label] for label in np.unique(np.asarray(part.labels)) if label >= 0}
        for part in parts
    ]
    if len(shown[0]) < 2:
        raise UserError(f"{parts[0].format}: a single class, so there is nothing to tell apart")
    for part, classes in zip(parts, shown):
        if unknown := sorted(classes - shown[0]):
            names = ", ".join(unknown[:5])
            raise UserError(f"{part.format}: no training images of its classes {names}")


def aligned(stores: list[ImageStore]) -> list[Labelled]:
    """Stores as sets with the same class numbers, those of the first; classes match by name."""
    _check_classes(stores)  # again: images that could not be read may have been all of a class
    names = stores[0].class_names
    number_of = {name: number for number, name in enumerate(names)}
    sets = []
    for store in stores:
        own = [number_of.get(name, -1) for name in store.class_names]
        labels = np.asarray([own[label] for label in np.asarray(store.labels)])
        targets = np.where(labels[:, None] == np.arange(len(names)), 1, -1).astype(np.int8)
        name = f"{store.format}: {quantity(len(store), 'image')} of {store.size} px"
        digest = f"{store.fingerprint()} {store.size} px"
        sets.append(Labelled(name, store.batch, targets, labels, names, digest))
    return sets


def _half_of(whole: Labelled, number: int, chosen: np.ndarray) -> Labelled:
    assert whole.labels is not None
    return Labelled(
        f"{whole.name}, half {number + 1}",
        lambda numbers: whole.load(chosen[numbers]),
        whole.targets[chosen],
        whole.labels[chosen],
        whole.class_names,
        f"{whole.digest} {hashlib.sha256(chosen.tobytes()).hexdigest()}",
    )
