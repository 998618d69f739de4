"""The study's evaluation of encoders in memory, which are not exported."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf import probe
from mgta_tf.evaluation import features, labelled
from mgta_tf.training.summary import versions

SMALL: dict[str, Any] = dict(image_size=32, width=0.25, blocks=[2, 2, 2, 2])
MILD: dict[str, Any] = dict(crop_min_area=0.4, color_jitter=0.2, grayscale=0.0)
MEDIUM: dict[str, Any] = dict(crop_min_area=0.3, color_jitter=0.3, grayscale=0.1)
PROBE: dict[str, Any] = dict(dataset="folder", image_size=32, svm_costs="0.01,0.1,1")
SCREEN_PROBE: dict[str, Any] = {**PROBE, "svm_costs": "0.1"}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The probe's flags and its labelled images, train and test."""

    asked: probe.ProbeConfig
    sets: list[labelled.Labelled]

    def images(self) -> list[np.ndarray]:
        """uint8 [N, S, S, 3], train and test."""
        return [part.load(np.arange(len(part.targets))) for part in self.sets]

    def evaluate(self, maps: list[np.ndarray]) -> dict[str, Any]:
        """The probe's figures for maps of res4 [N, h, w, c], train and test."""
        values = [features.normalize(features.pool(m, self.asked.endpoint)) for m in maps]
        return probe.evaluate(
            self.asked, probe.parse_costs(self.asked.svm_costs), self.sets, values
        )


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """What a row keeps of the probe's figures, with the date and the versions."""
    return {
        "map": found["map"],
        "top1": found["top1"],
        "knn20": found["knn"][20],
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
    }


def open_evaluation(data_dir: str, flags: dict[str, Any]) -> Evaluation:
    asked = probe.ProbeConfig(data_dir=data_dir, **flags)
    return Evaluation(asked, labelled.folder_sets(asked))


def encode(encoder: tf.keras.Model, images: np.ndarray) -> np.ndarray:
    """res4 of uint8 images."""
    batches = features.in_batches(len(images), 500)
    found = [encoder(images[chosen] / np.float32(255), training=False) for chosen in batches]
    return np.concatenate([endpoints["res4"].numpy() for endpoints in found])
