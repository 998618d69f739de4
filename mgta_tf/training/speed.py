"""A short measurement: how long reading an image and a training step take, on this machine, now."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mgta_tf.clustering.clusterers import cluster
from mgta_tf.data import images, sampler
from mgta_tf.data.images import BadImage
from mgta_tf.data.pipeline import Feed
from mgta_tf.data.sources import DataConfig, Source
from mgta_tf.errors import UserError
from mgta_tf.runtime.eta import Work
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.learner import Learner
from mgta_tf.training.session import make_devices, make_net

READ = 64  # images
STEPS, SECONDS = 30, 3.0  # that are timed, whichever is over first; three steps at least
CLUSTERED, CLUSTERS = 1000, 50  # images of random features, and K


@dataclasses.dataclass(frozen=True)
class Speed:
    """What a run's work costs, in seconds.

    image: to read and decode an image, on all threads together. step: a training step. first_step:
    the first one, which builds the graph. cluster: to group an image into one of K clusters is K
    times this; 0 where nothing is clustered.
    """

    image: float
    step: float
    first_step: float
    cluster: float = 0.0

    def seconds_of(self, work: Iterable[Work], step_weight: float) -> float:
        """How long some work takes, without what has no weight, such as pictures.

        work: as `timeline.work_of` says it. step_weight: the weight of a training step.
        """
        seconds = 0.0
        for piece in work:
            seconds += piece.builds * self.first_step
            if piece.kind == "cluster":
                seconds += piece.units * self.cluster
            elif not math.isnan(piece.weight):
                seconds += piece.units * piece.weight / step_weight * self.step
        return seconds


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a `Feed` reads in the place of an `ImageStore`. pixels: uint8 [n, size, size, 3]."""

    pixels: np.ndarray
    size: int


def measure(config: TrainConfig, source: Source) -> Speed:
    """Reads some images and trains a net on them that is thrown away.

    Raises:
      UserError: none of the images can be read.
    """
    sample, image = _read(config.data, config.augment.image_size, source)
    strategy = make_devices(config)
    net = make_net(config, strategy)
    size, K = config.batch.size, config.batch.images_per_cluster
    numbers = np.arange(size) // K  # each image K times
    plan = np.tile(numbers % len(sample.pixels), (1 + STEPS, 1)).astype(np.int32)
    labels = np.arange(len(sample.pixels), dtype=np.int32)
    batches = Feed(sample, size, strategy).batches(plan, labels, [config.run.seed])
    steps = net.fit(batches, config.guidance.lambda_end, lambda step: 0.0)
    began = time.monotonic()
    _wait(next(steps))
    first_step = time.monotonic() - began
    began, done = time.monotonic(), 0
    for step in itertools.islice(steps, STEPS):
        _wait(step)
        done += 1
        if done >= 3 and time.monotonic() - began > SECONDS:
            break
    step_seconds = (time.monotonic() - began) / done
    return Speed(image, step_seconds, first_step, _seconds_of_cluster(config, net))


def _seconds_of_cluster(config: TrainConfig, net: Learner) -> float:
    """Seconds of k-means for an image and a cluster, on features without clear clusters."""
    if config.guidance.labels == "none":
        return 0.0
    dimensions = net.model.encoder.output[config.cluster.cluster_features].shape[-1]
    rng = np.random.default_rng(config.run.seed)
    features = rng.normal(size=(CLUSTERED, dimensions)).astype(np.float32)
    kmeans = dataclasses.replace(config.cluster, num_clusters=CLUSTERS, clusterer="kmeans")
    cluster(features, kmeans, config.run.seed)  # builds its graphs
    began = time.monotonic()
    cluster(features, kmeans, config.run.seed)
    return (time.monotonic() - began) / (CLUSTERED * CLUSTERS)


def _wait(step) -> None:
    _, metrics = step
    for value in metrics.values():
        value.numpy()


def _read(data: DataConfig, size: int, source: Source) -> tuple[Sample, float]:
    """Some images, evenly from all, and the seconds that one took."""
    size = data.load_size or size
    total = len(source.names)
    numbers = sampler.evenly(total, READ)

    def read(number: int) -> np.ndarray | None:
        with contextlib.suppress(BadImage, OSError):
            content = source.read(int(number))
            return images.load_square(content, size, data.resize_policy, data.max_image_pixels)
        return None

    with ThreadPoolExecutor() as pool:
        began = time.monotonic()
        found = [pixels for pixels in pool.map(read, numbers) if pixels is not None]
        seconds = (time.monotonic() - began) / len(numbers)
    if not found:
        raise UserError(f"{source.format}: none of {len(numbers)} images can be read")
    return Sample(np.stack(found), size), seconds
