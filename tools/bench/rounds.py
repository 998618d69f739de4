"""A round: fraction of time for labelling, and peak memory."""

from __future__ import annotations

import functools
import multiprocessing
import statistics

import numpy as np

from mgta_tf.clustering.lloyd import kmeans
from mgta_tf.data.pipeline import Feed
from mgta_tf.training.needs import peak_memory_mb
from tools.bench import rows
from tools.bench.clustering import draw
from tools.bench.config import BenchConfig
from tools.bench.nets import (
    FULL,
    InMemory,
    bare_step,
    encode_all,
    make_learner,
    random_images,
)
from tools.bench.timing import by_turns, measured, timed


def labels(config: BenchConfig) -> list[dict]:
    """Encoding and k-means as a fraction of the training time at the paper's settings.

    30,000 images are labelled with K = 300, then trained on for 10 epochs. Encoding and training
    are measured on a few batches; k-means on all N random points, drawn as in bench_clustering.py.
    """
    total, epochs, batches = 30_000, 10, 4
    strategy, net = make_learner(**FULL)
    store = InMemory(random_images(64 * batches, 64))
    feed, images = Feed(store, 64, strategy), np.arange(64 * batches, dtype=np.int32)
    once = bare_step(net, **FULL)
    encoded = functools.partial(encode_all, net, feed, images, "embedding")
    encoded()
    points = draw(total, 2048)
    seconds = by_turns(
        config.repeats,
        encode=lambda: timed(encoded) / len(images) * total,
        train=lambda: timed(once) / 64 * total * epochs,
    )
    seconds["k-means"] = [timed(functools.partial(kmeans, points, 300, s)) for s in range(3)]
    encoding, training, clustering = (
        statistics.median(seconds[key]) for key in ("encode", "train", "k-means")
    )
    label = encoding + clustering
    share = label / (label + training)
    row = rows.row("labels of a round", label, training, "s", share, 0.1, below=True)
    return [measured(row, seconds)]


def memory(config: BenchConfig) -> list[dict]:
    """Peak memory at miniImageNet's size, with images on disk and in memory, in a process each."""
    found = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for images, held in (("read as needed", FULL["batch"]), ("in memory", config.sampled)):
            peak = pool.apply(peak_of_run, (held, config.sampled)) / 1024
            name = f"peak memory, miniImageNet, images {images}"
            row = rows.row(name, peak, None, "GiB", peak / 4, 1.0, below=True)
            found.append(measured(row, {}))
    return found


def peak_of_run(held: int, count: int) -> float:
    """Peak memory in MiB of a process that trains, encodes and clusters.

    It holds `held` images of 84 px, uses both nets, and clusters the features of count / 2 images.
    """
    pixels, images = random_images(held, 84), np.arange(8 * FULL["batch"], dtype=np.int32) % held
    plan, labels = images.reshape(8, -1)[:3], np.zeros(held, np.int32)
    nets = [make_learner(**FULL) for _ in range(2)]
    for strategy, net in nets:
        feed = Feed(InMemory(pixels), FULL["batch"], strategy)
        for _, metrics in net.fit(feed.batches(plan, labels, [1]), 0.5, lambda step: 1e-3):
            float(metrics["loss"])
        encode_all(net, feed, images, "embedding")
    rng, features = np.random.default_rng(0), np.empty((count // 2, 2048), np.float32)
    for part in np.array_split(np.arange(len(features)), 30):
        features[part] = rng.standard_normal((len(part), 2048), np.float32)
    kmeans(features, 300, 0, max_steps=3)
    return peak_memory_mb()
