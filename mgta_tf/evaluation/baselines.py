"""Baselines of the probe: chance, thumbnails, and an untrained encoder."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from PIL import Image

from mgta_tf.data import pipeline
from mgta_tf.evaluation.features import Encode
from mgta_tf.evaluation.labelled import Labelled
from mgta_tf.models.artifact import Facts
from mgta_tf.models.encoder import build_encoder

THUMBNAIL = 4  # pixels per side
SEED = 1


def chance(train: Labelled, test: Labelled) -> dict[str, float | None]:
    """The expected `map` of random scores, and the `top1` of always predicting the largest class.

    The AP of a random order is about the fraction of positives. Images with target 0 and classes
    without a positive do not count.
    """
    positives = (test.targets == 1).sum(0)
    shares = positives / np.maximum((test.targets != 0).sum(0), 1)
    known = shares[positives > 0]
    top1 = None
    if train.labels is not None and test.labels is not None:
        top1 = 100 * float(np.mean(test.labels == np.bincount(train.labels).argmax()))
    return {"map": 100 * float(known.mean()) if len(known) else None, "top1": top1}


def thumbnails(images: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, 3] → float32 [n, 48]: the images at 4×4 pixels, -1 … 1 over √48."""
    side = (THUMBNAIL, THUMBNAIL)
    small = [np.asarray(Image.fromarray(i).resize(side, Image.Resampling.BOX)) for i in images]
    values = np.stack(small).reshape(len(small), -1).astype(np.float32)
    return (values / 127.5 - 1) / np.sqrt(np.float32(values.shape[1]))


def untrained(facts: Facts, endpoint: str) -> Encode:
    """An encoder of the same shape with random weights, in the form of `features.load_encode`."""
    tf.keras.utils.set_random_seed(SEED)
    encoder = build_encoder(facts.model)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def encode(images):
        normalized = pipeline.normalize(images, facts.normalization)
        return {endpoint: encoder(normalized, training=False)[endpoint]}

    return encode
