"""Nets, images, files and jobs shared by several benchmarks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from mgta_tf.data import shapes
from mgta_tf.data.pipeline import UNIFORMS, AugmentConfig
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import aligned, load_store
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.runtime.strategy import make_strategy
from mgta_tf.training.learner import Learner
from mgta_tf.training.losses import LossConfig
from mgta_tf.training.optimization import OptimizerConfig
from tools.bench.config import BenchConfig

# size, width, blocks, images in a batch
FULL: dict[str, Any] = dict(size=64, width=1.0, blocks=(3, 4, 6, 3), batch=64)
SMALL: dict[str, Any] = dict(size=32, width=0.25, blocks=(2, 2, 2, 2), batch=64)
NETS = {"full": ("full size, 64 px", FULL), "small": ("small model, 32 px", SMALL)}
INNER = {"full": 1, "small": 10}  # steps of one measurement


def chosen(config: BenchConfig) -> list[tuple[str, str, dict[str, Any], int]]:
    """Key, name, shape and steps of one measurement of the nets that --net chooses."""
    keys = [config.net] if config.net else list(NETS)
    return [(key, *NETS[key], INNER[key]) for key in keys]


def make_learner(
    size: int,
    width: float,
    blocks: tuple[int, ...],
    precision: str = "off",
    decoder: str = "mirror",
    strategy: tf.distribute.Strategy | None = None,
    sync_batch_norm: bool = True,
    **_: Any,
):
    """A net with its strategy, by default that of one device. precision: a `--mixed_precision`."""
    strategy = strategy or make_strategy(1, "clusters_per_batch")
    model = ModelConfig(width, tuple(blocks), decoder, sync_batch_norm)
    # Several devices select triplets from the whole batch, like one.
    loss = LossConfig(triplet_scope="global")
    return strategy, Learner(
        strategy,
        model,
        AugmentConfig(image_size=size),
        loss,
        OptimizerConfig(),
        seed=1,
        mixed_precision=precision,
    )


def bare_step(
    net, size: int, batch: int, strategy: tf.distribute.Strategy | None = None, **_: Any
) -> Callable[[], None]:
    """A training step with augmentation, on one batch in memory.

    strategy: Shares the batch between its devices; None is a single device.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    labels = np.arange(batch, dtype=np.int32) // 4
    parts = (images, labels, rng.random((batch, UNIFORMS), np.float32))
    held = [shared(part, strategy) if strategy else tf.constant(part) for part in parts]
    steps = net.fit(itertools.repeat(tuple(held)), 0.5, lambda step: 1e-3)

    def once() -> None:
        float(next(steps)[1]["loss"])

    once()
    once()
    return once


def shared(values: np.ndarray, strategy: tf.distribute.Strategy) -> Any:
    """Equal parts of the rows, one on each device."""
    parts = np.split(values, strategy.num_replicas_in_sync)
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )


def write_images(folder: str, count: int, size: int) -> None:
    """JPEG files of generated images."""

    for number in range(count):
        image = Image.fromarray(shapes.single_object(number, 0)).resize((size, size))
        image.save(os.path.join(folder, f"{number:06d}.jpg"), quality=90)


def open_folder(folder: str, size: int, cache_mb: int):
    source = open_source(DataConfig(data_dir=folder))
    return load_store(source, size=size, cache_budget_mb=cache_mb)


class InMemory:
    """The part of an ImageStore that a Feed needs."""

    def __init__(self, pixels: np.ndarray):
        self.size, self.pixels = pixels.shape[1], pixels


def random_images(count: int, size: int) -> np.ndarray:
    """uint8 [count, size, size, 3], aligned as in an ImageStore."""
    pixels, rng = aligned((count, size, size, 3)), np.random.default_rng(0)
    for first in range(0, count, 1000):
        part = pixels[first : first + 1000]
        part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
    return pixels


def encode_all(net, feed, images: np.ndarray, endpoint: str) -> list[np.ndarray]:
    return list(net.encode(feed, images, endpoint))
