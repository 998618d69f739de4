"""A drawn VOC tree, its records and a tiny untrained encoder, shared by all tests here."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mgta_tf.detection import records
from mgta_tf.detection.config import (
    BoxDataConfig,
    CacheConfig,
    DetectConfig,
    DetectorConfig,
    DetectRunConfig,
    ScheduleConfig,
)
from mgta_tf.detection.sets import load
from mgta_tf.models import artifact
from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ModelConfig

ODD = "a [b-c] *?, d"  # characters that TensorFlow or Model Garden treats as a pattern
MODEL = ModelConfig(width=0.0625, blocks=(1, 1, 1, 1))
SIDE = 96
COLORS = {"aeroplane": (250, 40, 40), "bird": (40, 250, 40), "cow": (40, 40, 250)}
# Four images: (class, xmin, ymin, xmax, ymax, difficult) in VOC's pixels.
SCENES = (
    [("aeroplane", 11, 21, 42, 52, 0), ("bird", 56, 50, 87, 81, 0)],
    [("bird", 5, 5, 36, 36, 0), ("cow", 50, 12, 81, 43, 0)],
    [("cow", 30, 40, 61, 71, 0)],
    [("aeroplane", 60, 8, 91, 39, 0), ("cow", 9, 55, 40, 86, 0)],
)


def annotation(objects, width=SIDE, height=SIDE):
    parts = [
        f"<object><name>{name}</name><difficult>{hard}</difficult><truncated>1</truncated><bndbox>"
        f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>"
        "</object>"
        for name, xmin, ymin, xmax, ymax, hard in objects
    ]
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>x.jpg</filename>{size}{''.join(parts)}</annotation>"


def write_voc(devkit, trainval, test):
    """A VOC2007 whose splits are lists of scenes; an object is a square of its class's color."""
    folder = devkit / "VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    number = 0
    for split, scenes in (("trainval", trainval), ("test", test)):
        names = []
        for objects in scenes:
            number += 1
            names.append(f"{number:06d}")
            pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
            for name, xmin, ymin, xmax, ymax, _ in objects:
                color = COLORS.get(name, (0, 0, 0))
                pixels[max(ymin - 1, 0) : ymax, max(xmin - 1, 0) : xmax] = color
            path = folder / "JPEGImages" / f"{names[-1]}.jpg"
            Image.fromarray(pixels).save(path, quality=95)
            (folder / "Annotations" / f"{names[-1]}.xml").write_text(annotation(objects))
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    return devkit


@pytest.fixture(scope="session")
def make_voc():
    """`write_voc`, for tests that need a tree of their own."""
    return write_voc


@pytest.fixture(scope="session")
def devkit(tmp_path_factory):
    """The same four images for training and test, and one training image without objects."""
    return write_voc(tmp_path_factory.mktemp("voc") / ODD / "VOCdevkit", [*SCENES, []], SCENES)


@pytest.fixture(scope="session")
def records_dir(devkit, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("records") / ODD)
    records.write(load(BoxDataConfig(voc_root=str(devkit))), folder)
    return folder


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    tf.keras.utils.set_random_seed(0)
    path = str(tmp_path_factory.mktemp("encoder") / ODD)
    facts = artifact.Facts(MODEL, "centered", 32, "untrained")
    artifact.save(build_autoencoder(MODEL), facts, path)
    return path


@pytest.fixture(scope="session")
def small(saved_model, records_dir):
    """A config with which everything takes seconds.

    400 steps do not memorize four images with every seed: AP50 of seeds 1 to 10 was 84.8 to 100
    on TensorFlow 2.15 (mean 97.5) and 75.8 to 100 on 2.20 (mean 92.3), which is no significant
    difference (Welch's t 1.7). The same seed varies from run to run, too.
    many_seeds.py makes the rows of docs/results/detector_seeds.json.
    """
    return DetectConfig(
        run=DetectRunConfig(
            saved_model=saved_model,
            records=records_dir,
            log_every_steps=10,
            checkpoint_every_steps=10,
        ),
        detector=DetectorConfig(
            short_side=SIDE,
            long_side=SIDE,
            anchor_sizes=(16, 32),
            rpn_candidates=80,
            rpn_proposals=30,
            test_rpn_candidates=60,
            test_rpn_proposals=20,
            rpn_samples=32,
            roi_samples=16,
            roi_size=7,
        ),
        schedule=ScheduleConfig(
            steps=600, decay_step=480, batch_size=2, base_learning_rate=0.04, warmup_steps=10
        ),
        cache=CacheConfig(cache_body_features="auto"),
    )
