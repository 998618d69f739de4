"""How good the quickstart's encoders are: top-1 of linear SVMs with its spread over test images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from mgta_tf.data import digits
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import load_store
from mgta_tf.evaluation import baselines, features, svm
from mgta_tf.evaluation.labelled import Labelled, aligned
from mgta_tf.models.artifact import Facts, SavedEncoder

ORDER = ("random", "iae", "default", "supervised")  # worst first
METRIC = "top-1 of linear SVMs on frozen embeddings, percent"
ENDPOINT = "embedding"
COSTS = (0.1, 1.0, 10.0)
CONFIDENCE = 0.95
RESAMPLES = 2000
BATCH = 200  # images encoded at once

Interval = Mapping[str, float]  # value, low, high


def sets(size: int) -> list[Labelled]:
    """Digits to fit the probe (the first 1,000) and to test it (the other 797), each drawn once."""
    stores = []
    for number, split in enumerate(digits.SPLITS):
        config = DataConfig(data_source="digits", shapes_count=digits.count(number))
        stores.append(load_store(open_source(config, split), size=size, labelled=True))
    return aligned(stores)


def embeddings(net: tf.keras.Model, facts: Facts, part: Labelled) -> np.ndarray:
    """Frozen features of a set's images as the probe reads them: float32 [N, D]."""
    module = SavedEncoder(net, facts.normalization)  # its functions do not keep it alive
    batches = (part.load(rows) for rows in features.in_batches(len(part.targets), BATCH))
    return features.extract(module.encode, batches, ENDPOINT)[0]


def pixels(part: Labelled) -> np.ndarray:
    """The images themselves as features: float32 [N, H·W·3]."""
    images = part.load(np.arange(len(part.targets)))
    return features.normalize(images.reshape(len(images), -1) / 127.5 - 1)


def thumbnails(part: Labelled) -> np.ndarray:
    """The images at 4×4 pixels as features: float32 [N, 48]."""
    return baselines.thumbnails(part.load(np.arange(len(part.targets))))


def top1(parts: list[Labelled], values: list[np.ndarray]) -> dict[str, float]:
    """Top-1 in percent of SVMs fitted on the first set, on the second, with its interval.

    values: float32 [N, D] of each set.
    """
    train, test = parts
    found = svm.linear_svm(values[0], train.targets, values[1], test.targets, costs=COSTS)
    return interval(found.scores.argmax(1) == test.labels)


def interval(right: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The share of right images in percent, and its percentile interval over the bootstrap.

    right: bool [N]. The number of right images in a resample is binomial, and drawn as such.
    """
    share = float(np.mean(right))
    drawn = np.random.default_rng(seed).binomial(len(right), share, RESAMPLES) / len(right)
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return {"value": 100 * share, "low": 100 * float(low), "high": 100 * float(high)}


def ordered(found: Mapping[str, Interval]) -> bool:
    """Whether each encoder of ORDER is better than the one before it."""
    values = [found[name]["value"] for name in ORDER]
    return all(lower < higher for lower, higher in zip(values, values[1:]))


def separated(found: Mapping[str, Interval]) -> bool:
    """Whether each encoder's whole interval lies above that of the one before it."""
    return all(
        found[worse]["high"] < found[better]["low"] for worse, better in zip(ORDER, ORDER[1:])
    )
