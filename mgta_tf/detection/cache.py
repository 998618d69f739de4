"""A cache of the frozen body's features on disk, since they are the same in every epoch.

A folder holds `body.bf16`, the res4 features of every training image and of its mirror image, and
`body.json`, which is written last. Cells in the padding are not stored; `heads.FrozenBody` sets
them to 0.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.detection import records
from mgta_tf.detection.config import STRIDE, CacheConfig, DetectorConfig
from mgta_tf.detection.heads import FrozenBody, count_cells
from mgta_tf.detection.parser import decode_image, scale_image, scaled_size
from mgta_tf.errors import UserError, quantity
from mgta_tf.runtime.files import write_json
from mgta_tf.runtime.progress import counting

VERSION = 1
BYTES = 2  # of a bfloat16


@dataclasses.dataclass(frozen=True, eq=False)
class BodyFeatures:
    """The cached features by image.

    values: uint16 [..], the bits of bfloat16, memory-mapped. place: source_id → (first value, h, w)
    of the image; its mirror image follows.
    """

    values: np.ndarray
    place: dict[int, tuple[int, int, int]]
    channels: int

    def read(self, source_id: int, flip: bool) -> np.ndarray:
        """The features of an image, uint16 [h, w, channels]."""
        first, height, width = self.place[int(source_id)]
        count = height * width * self.channels
        first += count * bool(flip)
        return self.values[first : first + count].reshape(height, width, self.channels)

    def lookup(self, config: DetectorConfig):
        """A function for `Parser`: tensors (source_id, flip) → bfloat16 [side, side, channels]."""
        side = config.padded_side // STRIDE

        def padded(source_id, flip):
            features = self.read(source_id, flip)
            result = np.zeros((side, side, self.channels), np.uint16)
            result[: features.shape[0], : features.shape[1]] = features
            return result

        def look_up(source_id, flip):
            bits = tf.numpy_function(padded, [source_id, flip], tf.uint16)
            bits = tf.ensure_shape(bits, [side, side, self.channels])
            return tf.bitcast(bits, tf.bfloat16)

        return look_up


@dataclasses.dataclass(frozen=True)
class Plan:
    """The planned content of a cache. key: digest of everything that it depends on."""

    key: str
    place: dict[int, tuple[int, int, int]]
    channels: int
    num_values: int

    @property
    def gigabytes(self) -> float:
        return self.num_values * BYTES / 1e9


def plan(files: list[str], body: FrozenBody, config: DetectorConfig) -> Plan:
    """Plans the cache from the sizes of all images."""
    about = f"{VERSION} {config.short_side} {config.long_side} {body.normalization}"
    digest = hashlib.sha256(about.encode())
    for variable in body.variables:
        digest.update(variable.numpy().tobytes())
    place, first = {}, 0
    for example in records.read(files):
        shape = scaled_size(records.size(example), config).numpy()
        height, width = count_cells(*shape)
        place[records.source_id(example)] = (first, height, width)
        digest.update(f"{records.source_id(example)} {shape}".encode())
        first += 2 * height * width * body.channels
        encoded = records.photograph(example)
        digest.update(hashlib.sha256(encoded).digest())
    return Plan(digest.hexdigest(), place, body.channels, first)


def choose(
    config: CacheConfig, default: str, files: list[str], body: FrozenBody, detector: DetectorConfig
) -> str:
    """The folder of cached features, created if necessary; '' if the run has no cache.

    Args:
      config: The flags.
      default: Folder of --cache_body_features=auto.
      files: The training records.
      body: The frozen body.
      detector: Sizes of images.

    Raises:
      UserError: a given folder has no space, or holds features of other images or another encoder.
    """
    if config.cache_body_features == "off":
        return ""
    auto = config.cache_body_features == "auto"
    folder = default if auto else config.cache_body_features
    planned = plan(files, body, detector)
    if _is_made(folder, planned, own=auto):
        return folder
    reason = _no_room(folder, planned, config.cache_budget_gb)
    if reason and not auto:
        raise UserError(f"--cache_body_features: {reason}")
    if reason:
        print(f"{reason}; the body runs in every step")
        return ""
    os.makedirs(folder, exist_ok=True)
    _make(folder, planned, files, body, detector)
    return folder


def _no_room(folder: str, planned: Plan, budget: float) -> str:
    """Why the features do not fit the folder; '' if they fit."""
    text = f"features of the body would take {planned.gigabytes:.1f} GB"
    if planned.gigabytes > budget:
        return f"{text}, over --cache_budget_gb={budget:g}"
    there = os.path.abspath(folder)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    free = shutil.disk_usage(there).free / 1e9
    return f"{text}, and {there} has {free:.1f} GB free" if planned.gigabytes > free else ""


def _is_made(folder: str, planned: Plan, own: bool) -> bool:
    """Whether the folder holds these features. Others in a run's own folder are replaced."""
    path = os.path.join(folder, "body.json")
    if not os.path.exists(path):
        return False
    if _index(folder)["key"] != planned.key:
        if own:
            return False
        raise UserError(
            f"{path}: features of another encoder, other images or another size; remove the folder "
            "or name another with --cache_body_features"
        )
    return True


def _index(folder: str) -> dict[str, Any]:
    path = os.path.join(folder, "body.json")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); remove its folder") from None


def open_features(folder: str) -> BodyFeatures:
    """Opens the features in a folder.

    Raises:
      UserError: the folder is damaged.
    """
    index, path = _index(folder), os.path.join(folder, "body.bf16")
    if not os.path.isfile(path) or os.path.getsize(path) != index["num_values"] * BYTES:
        raise UserError(f"{path}: missing or cut; remove its folder")
    place = {int(source_id): tuple(where) for source_id, where in index["place"].items()}
    return BodyFeatures(np.memmap(path, np.uint16, mode="r"), place, index["channels"])


def _make(folder: str, planned: Plan, files: list[str], body: FrozenBody, config: DetectorConfig):
    """Computes the features of every image and its mirror image."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def both(image):
        parts = [scale_image(side, config) for side in (image, image[:, ::-1])]
        inputs = {name: tf.stack([part[name] for part in parts]) for name in parts[0]}
        (features,) = body(inputs, training=False).values()
        return tf.bitcast(tf.cast(features, tf.bfloat16), tf.uint16)

    path = os.path.join(folder, "body.bf16")
    values = np.memmap(path, np.uint16, mode="w+", shape=(planned.num_values,))
    with counting(len(planned.place), builds=1.0) as progress:
        for example in records.read(files):
            first, height, width = planned.place[records.source_id(example)]
            encoded = records.photograph(example)
            features = both(decode_image(encoded)).numpy()[:, :height, :width]
            values[first : first + features.size] = features.reshape(-1)
            progress.advance(1)
    values.flush()
    index = {"key": planned.key, "channels": planned.channels, "num_values": planned.num_values}
    write_json(os.path.join(folder, "body.json"), {**index, "place": planned.place})
    images = quantity(len(planned.place), "image")
    print(f"{folder}: features of the body for {images}, plain and mirrored")
