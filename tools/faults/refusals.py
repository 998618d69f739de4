"""Seconds from finding the images to refusing flags or files that a command cannot use."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from PIL import Image

from mgta_tf import config as config_lib
from mgta_tf import probe, supervised, train
from mgta_tf.data import layouts, voc
from mgta_tf.detection import sets
from mgta_tf.detection.config import BoxDataConfig
from mgta_tf.errors import UserError
from mgta_tf.probe import ProbeConfig
from mgta_tf.training.config import SupervisedConfig, TrainConfig
from tools.faults.suite import Row, Suite

LIMIT = 3.0  # seconds from the images being found to the refusal
GUIDED = {"labels": "clusters", "decoder": "mirror", "clusters_per_batch": 8}
# Flags of mgta_tf.train that images of two classes cannot satisfy.
TRAIN: dict[str, dict[str, Any]] = {
    "K below P": {"num_clusters": 4},
    "K above the images": {"num_clusters": 10**6},
    "P×K above a half": {"num_clusters": 300, "clusters_per_batch": 256, "images_per_cluster": 200},
    "candidates of K": {"num_clusters": "auto", "k_candidates": "2,4"},
    "no such stage 1": {"num_clusters": 20, "iae_checkpoint": "gone"},
    "a split that is not there": {"num_clusters": 20, "data_split": "val"},
}


@dataclasses.dataclass
class Clock:
    """The time at which images were last found."""

    found: float = 0.0

    def after(self, function: Callable) -> Callable:
        """Wraps a function so that the time of its return is recorded."""

        def recorded(*args, **kwargs):
            result = function(*args, **kwargs)
            self.found = time.monotonic()
            return result

        return recorded


def refusals(suite: Suite) -> Row:
    """A refusal of each kind, on 2,000 photographs or 200: how many were in time."""
    folder, count = suite.folder("refusals"), suite.tries(2000, 200)
    photographs, devkit = os.path.join(folder, "photographs"), os.path.join(folder, "voc")
    _write_photographs(photographs, count)
    _write_devkit(devkit, count // 2)
    seconds: dict[str, float] = {}
    for name, command in _commands(folder, photographs, devkit):
        clock = Clock(time.monotonic())
        with (
            mock.patch.object(layouts.tree, "walk", clock.after(layouts.tree.walk)),
            mock.patch.object(voc, "image_paths", clock.after(voc.image_paths)),
        ):
            try:
                command()
            except UserError as error:
                seconds[name] = time.monotonic() - clock.found
                print(f"  {seconds[name]:6.2f} s  {name}: {str(error)[:120]}", flush=True)
            else:
                raise AssertionError(f"{name}: not refused")
    in_time = sum(value <= LIMIT for value in seconds.values())
    return {"tries": len(seconds), "survived": in_time, "bytes_lost": 0, "refused_after": seconds}


def _commands(
    folder: str, photographs: str, devkit: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    for name, flags in TRAIN.items():
        of_train = {**GUIDED, **flags, "data_dir": photographs, "workdir": f"{folder}/{name}"}
        yield name, functools.partial(train.train, config_lib.from_dict(TrainConfig, of_train))
    values = {"data_dir": photographs, "workdir": f"{folder}/supervised", "batch_size": 10**6}
    yield (
        "a batch above the images",
        lambda: supervised.train(config_lib.from_dict(SupervisedConfig, values)),
    )
    output = f"{folder}/probe.json"
    yield (
        "the probe's split",
        lambda: probe.main(
            ProbeConfig(dataset="folder", data_dir=photographs, test_split="val", output=output)
        ),
    )
    yield (
        "VOC, orientation, probe",
        lambda: probe.main(ProbeConfig(voc_root=devkit, output=output)),
    )
    yield (
        "VOC, orientation, detect",
        lambda: sets.load(BoxDataConfig(voc_root=devkit)),
    )


def _write_photographs(folder: str, count: int) -> None:
    first = os.path.join(folder, "a", "0.jpg")
    for name in "ab":
        os.makedirs(os.path.join(folder, name))
    Image.effect_noise((500, 375), 60).convert("RGB").save(first)
    for number in range(1, count):
        shutil.copyfile(first, os.path.join(folder, "ab"[number % 2], f"{number}.jpg"))


def _write_devkit(folder: str, count: int) -> None:
    """A VOC2007 with one photograph whose orientation is ambiguous."""
    year = os.path.join(folder, "VOC2007")
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        os.makedirs(os.path.join(year, part))
    picture, exif = Image.effect_noise((500, 375), 60).convert("RGB"), Image.Exif()
    exif[0x0112] = 3
    first, turned = (os.path.join(year, "JPEGImages", f"{i:06d}.jpg") for i in (0, 2 * count - 1))
    picture.save(first)
    picture.save(turned, exif=exif)
    box = "<xmin>1</xmin><ymin>1</ymin><xmax>99</xmax><ymax>99</ymax>"
    item = f"<object><name>cow</name><bndbox>{box}</bndbox></object>"
    size = "<size><width>500</width><height>375</height></size>"
    for number in range(2 * count):
        path = os.path.join(year, "JPEGImages", f"{number:06d}.jpg")
        if not os.path.exists(path):
            shutil.copyfile(first, path)
        with open(os.path.join(year, "Annotations", f"{number:06d}.xml"), "w") as file:
            file.write(f"<annotation>{size}{item}</annotation>")
    for split, numbers in (("trainval", range(count)), ("test", range(count, 2 * count))):
        with open(os.path.join(year, "ImageSets", "Main", f"{split}.txt"), "w") as file:
            file.writelines(f"{number:06d}\n" for number in numbers)
