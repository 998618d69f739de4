"""Writing TensorBoard files, and tracing steps for its profiler."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_api

from mgta_tf.errors import encodable

# Groups of tags as TensorBoard shows them, in alphabetical order: it opens on the losses.
GROUPS = {
    "1_loss": ("loss", "reconstruction_loss", "reconstruction_mse", "triplet_loss"),
    "2_clusters": (
        *("nmi_truth", "nmi_chance", "nmi_previous", "nmi_nets", "purity"),
        *("largest", "median", "smallest", "empty_clusters", "inertia"),
    ),
    "3_embedding": (
        "hardest_positive",
        "hardest_negative",
        "pair_distance",
        "embedding_norm",
        "triplet_active",
    ),
    "4_evaluation": (
        *("probe_map", "probe_top1", "probe_knn"),
        *("accuracy", "validation_accuracy"),
    ),
}
GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}


def tag_of(metric: str) -> str:
    """The tag of a training metric, in its group: '1_loss/triplet_loss'."""
    return f"{GROUP_OF.get(metric, '5_training')}/{metric}"


class TensorBoardWriter:
    """Writes to three TensorBoard runs: `net1` and `net2`, which share their axes, and `run`.

    A run appears when something is written to it: two views alone have no `net1`.
    """

    def __init__(self, directory: str):
        self._constant: dict[tuple[str, str], list[tuple[int, float]]] = {}
        self._directory, self._writers = directory, dict[str, Any]()

    def _at(self, writer: str, step: int) -> Any:
        """A context in which summaries go to a writer."""
        if writer not in self._writers:
            path = os.path.join(self._directory, writer)
            self._writers[writer] = tf.summary.create_file_writer(path)
        return self._writers[writer].as_default(step=step)

    def scalars(self, writer: str, step: int, values: dict[str, float]) -> None:
        with self._at(writer, step):
            for name, value in values.items():
                tf.summary.scalar(name, value)

    def metrics(self, writer: str, step: int, values: dict[str, float]) -> None:
        """Writes metrics under their tags, except metrics that have been constant so far.

        When a metric changes for the first time, its constant first and last points are written.
        """
        for name, value in values.items():
            for at, point in self._due(writer, name, step, value):
                self.scalars(writer, at, {tag_of(name): point})

    def recall(self, writer: str, step: int, values: dict[str, float]) -> None:
        """Notes metrics that `metrics` has had before the run was interrupted, in their order."""
        for name, value in values.items():
            self._due(writer, name, step, value)

    def _due(self, writer: str, name: str, step: int, value: float) -> list[tuple[int, float]]:
        """The points of a metric that are to be written now, of which this is the newest."""
        unwritten = self._constant.setdefault((writer, name), [(step, value)])
        if unwritten and value == unwritten[0][1]:
            unwritten[1:] = [(step, value)] if step > unwritten[0][0] else []
            return []
        due = [*unwritten, (step, value)]
        unwritten.clear()
        return due

    def images(self, writer: str, step: int, name: str, images: np.ndarray) -> None:
        """Writes all images, uint8 [N, H, W, 3]."""
        with self._at(writer, step):
            tf.summary.image(name, images, max_outputs=len(images))

    def histogram(self, writer: str, step: int, name: str, values: np.ndarray) -> None:
        with self._at(writer, step):
            tf.summary.histogram(name, values)

    def hparams(self, values: dict[str, Any]) -> None:
        """Writes the values of flags for the HParams tab, which compares the scalars of `run`."""
        with self._at("run", 0):
            shown = {n: encodable(v) if isinstance(v, str) else v for n, v in values.items()}
            hparams_api.hparams(shown)

    def text(self, name: str, markdown: str) -> None:
        with self._at("run", 0):
            tf.summary.text(name, encodable(markdown))

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()


def profiled(steps: Iterator[Any], count: int, directory: str) -> Iterator[Any]:
    """Yields the steps, and traces `count` of them, from the third, for TensorBoard's profiler.

    The first two steps build graphs and fill caches.
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
