"""P×K batches of images in memory, against NumPy, tensorflow-similarity and PyTorch."""

from __future__ import annotations

import importlib.util
import statistics
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.data import sampler
from mgta_tf.data.pipeline import Feed
from mgta_tf.runtime.strategy import make_strategy
from tools.bench import rows
from tools.bench.config import BenchConfig
from tools.bench.nets import InMemory, random_images
from tools.bench.timing import by_turns, measured, timed
from tools.bench.torch_peer import torch_worker, without_torch


def sample(config: BenchConfig) -> list[dict]:
    """Only P×K batches of images in memory: 84 px, 300 clusters, P = 32, K = 4."""
    P, K, clusters, size, batches = 32, 4, min(300, config.sampled // 50), 84, 100
    rng = np.random.default_rng(0)
    pixels = random_images(config.sampled, size)
    labels = rng.integers(0, clusters, config.sampled).astype(np.int32)
    feed = Feed(InMemory(pixels), P * K, make_strategy(P, "clusters_per_batch"))
    images = np.arange(config.sampled, dtype=np.int32)
    batch = sampler.BatchConfig(clusters_per_batch=P, images_per_cluster=K)

    def whole() -> None:
        plan = sampler.pk_plan(images, labels, batch, 1, [1])[:batches]
        for _ in feed.batches(plan, labels, [1]):
            pass

    plan = sampler.pk_plan(images, labels, batch, 1, [1])[:batches]
    jobs: dict[str, Callable[[], float]] = {
        "ours": lambda: timed(whole) / batches,
        "gather": lambda: timed(lambda: [pixels[chosen] for chosen in plan]) / batches,
    }
    found, versions = [], {}
    similarity = similarity_sampler(pixels, labels, P, K)
    if similarity:
        jobs["tfsim"] = lambda: timed(lambda: [similarity(b) for b in range(batches)]) / batches
    if not without_torch(config, "sampler"):
        peer = torch_worker(
            config, "sampler",
            images=config.sampled, size=size, clusters=clusters, P=P, K=K, batches=batches,
        )  # fmt: skip
        versions, jobs["torch"] = peer.versions, lambda: peer.seconds() / batches
    whole()
    seconds = by_turns(config.repeats, **jobs)
    mine = 1 / statistics.median(seconds["ours"])
    peers = {"gather": "NumPy's copy alone", "tfsim": "tensorflow-similarity", "torch": "PyTorch"}
    for key, name in peers.items():
        if key in seconds:
            other = 1 / statistics.median(seconds[key])
            pair = {"ours": seconds["ours"], "peer": seconds[key]}
            target = 1.0 if key == "gather" else 2.0
            row = rows.row(f"P×K batches, {name}", mine, other, "1/s", mine / other, target)
            found.append(measured(row, pair, versions))
    return found


def similarity_sampler(pixels, labels, P: int, K: int) -> Callable[[int], Any] | None:
    """tensorflow-similarity's batch number b, or None if it is not installed.

    Only its sampler module is imported, because the package needs further libraries for search and
    plots.
    """
    found = importlib.util.find_spec("tensorflow_similarity")
    if not found or not found.submodule_search_locations:
        print("sampler: no tensorflow-similarity, so nothing to compare with", flush=True)
        return None
    package = types.ModuleType("tensorflow_similarity")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["tensorflow_similarity"] = package
    from tensorflow_similarity.samplers import MultiShotMemorySampler

    theirs = MultiShotMemorySampler(
        pixels, labels, classes_per_batch=P, examples_per_class_per_batch=K, steps_per_epoch=100
    )
    return lambda number: [tf.convert_to_tensor(part) for part in theirs[number]]
