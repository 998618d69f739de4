"""What a run writes for TensorBoard."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_api

from mgta_tf.errors import encodable


class TensorBoardWriter:
    """TensorBoard files: `net1` and `net2` with the same tags, so they share axes, and `run`."""

    def __init__(self, directory: str):
        self._writers = {
            name: tf.summary.create_file_writer(os.path.join(directory, name))
            for name in ("net1", "net2", "run")
        }

    def scalars(self, writer: str, step: int, values: dict[str, float]) -> None:
        with self._writers[writer].as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def images(self, writer: str, step: int, name: str, images: np.ndarray) -> None:
        """Shows uint8 images [N, H, W, 3], all of them."""
        with self._writers[writer].as_default(step=step):
            tf.summary.image(name, images, max_outputs=len(images))

    def histogram(self, writer: str, step: int, name: str, values: np.ndarray) -> None:
        with self._writers[writer].as_default(step=step):
            tf.summary.histogram(name, values)

    def hparams(self, values: dict[str, Any], metrics: list[str]) -> None:
        """What the HParams tab says of the run, and the scalars of `run` it compares runs by."""
        with self._writers["run"].as_default(step=0):
            hparams_api.hparams_config(
                hparams=[hparams_api.HParam(name) for name in values],
                metrics=[hparams_api.Metric(name) for name in metrics],
            )
            shown = {n: encodable(v) if isinstance(v, str) else v for n, v in values.items()}
            hparams_api.hparams(shown)

    def text(self, name: str, markdown: str) -> None:
        with self._writers["run"].as_default(step=0):
            tf.summary.text(name, encodable(markdown))

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()


def profiled(steps: Iterator[Any], count: int, directory: str) -> Iterator[Any]:
    """The steps; `count` of them, from the third, are traced for TensorBoard's profiler.

    The first two build graphs and fill caches. With `count` 0 nothing is traced.
    """
    if not count:
        yield from steps
        return
    yield from itertools.islice(steps, 2)
    with tf.profiler.experimental.Profile(directory):
        for number in range(count):
            with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                step = next(steps, None)
            if step is None:
                return
            yield step
    yield from steps
