"""Encoding in bfloat16 and in float32: the speeds, and whether labels and probes still agree."""

from __future__ import annotations

import functools
import statistics
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score

from mgta_tf.clustering.lloyd import kmeans
from mgta_tf.data import sampler
from mgta_tf.data.pipeline import Feed
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import load_store
from mgta_tf.embed import similarity
from mgta_tf.evaluation import online
from tools.bench import rows
from tools.bench.config import BenchConfig
from tools.bench.nets import SMALL, InMemory, chosen, encode_all, make_learner, random_images
from tools.bench.step import PRECISIONS
from tools.bench.timing import by_turns, measured, seconds_each

BATCHES = {"full": 4, "small": 40}  # encoded in one measurement of the speed
IMAGES, EPOCHS = 2000, 15  # digits that the compared net is trained on
CLUSTERS, NEIGHBORS = 50, 20


def precision(config: BenchConfig) -> list[dict]:
    found = []
    for key, name, shape, _ in chosen(config):
        found.append(speed(config, name, shape, BATCHES[key]))
    return [*found, *agreement(*features_of_digits())]


def speed(config: BenchConfig, name: str, shape: dict[str, Any], batches: int) -> dict[str, Any]:
    """Images per second from memory to embeddings."""
    batch, jobs = shape["batch"], {}
    pixels = random_images(batch * batches, shape["size"])
    images = np.arange(len(pixels))
    for kind, flag in PRECISIONS.items():
        strategy, net = make_learner(**shape, precision=flag)
        feed = Feed(InMemory(pixels), batch, strategy)
        jobs[kind] = seconds_each(functools.partial(encode_all, net, feed, images, "embedding"))
    seconds = by_turns(config.repeats, **jobs)
    ours, peer = (len(pixels) / statistics.median(seconds[k]) for k in ("bfloat16", "float32"))
    bench = f"encode, {name}: bfloat16 against float32"
    row = rows.row(bench, ours, peer, "images/s", ours / peer, 1.0)
    return measured(row, {"ours": seconds["bfloat16"], "peer": seconds["float32"]})


def features_of_digits() -> tuple[dict[str, dict[str, np.ndarray]], np.ndarray]:
    """Features of the small model in each precision, with equal weights, and the classes.

    The net is trained with the classes of generated digits, in float32.

    Returns:
      (endpoint → precision → float32 [N, D], int32 [N]).
    """
    source = open_source(DataConfig(data_source="digits", shapes_count=IMAGES))
    store = load_store(source, size=SMALL["size"], cache_budget_mb=1024)
    classes = np.asarray(source.labels)
    strategy, exact = make_learner(**SMALL)
    _, rounded = make_learner(**SMALL, precision=PRECISIONS["bfloat16"])
    feed, images = Feed(store, SMALL["batch"], strategy), np.arange(IMAGES, dtype=np.int32)
    batch = sampler.BatchConfig(clusters_per_batch=8, images_per_cluster=8)
    plan = sampler.pk_plan(images, classes, batch, EPOCHS, [1])
    for _, metrics in exact.fit(feed.batches(plan, classes, [1]), 100.0, lambda step: 1e-3):
        float(metrics["loss"])
    rounded.copy_weights(exact)
    nets = {"float32": exact, "bfloat16": rounded}
    found = {
        endpoint: {
            name: np.concatenate(encode_all(net, feed, images, endpoint))
            for name, net in nets.items()
        }
        for endpoint in ("embedding", online.ENDPOINT)
    }
    return found, classes


def agreement(
    features: dict[str, dict[str, np.ndarray]], classes: np.ndarray
) -> list[dict[str, Any]]:
    """Rows that say how much bfloat16 changes features, clusters and probes.

    The peer of the clusters is float32 with another seed of k-means.
    """
    exact, rounded = (features["embedding"][name] for name in PRECISIONS)
    error, kept = relative_error(exact, rounded), neighbors_kept(exact, rounded, NEIGHBORS)
    labels = [kmeans(x, CLUSTERS, seed).labels for x, seed in ((exact, 0), (rounded, 0))]
    other = kmeans(exact, CLUSTERS, 1).labels
    same, chance = (adjusted_rand_score(labels[0], each) for each in (labels[1], other))
    scores = [online.evaluate(features[online.ENDPOINT][name], classes) for name in PRECISIONS]
    what = "features in bfloat16"
    found = [
        rows.row(f"{what}: relative error", error, None, "share", error, 0.05, below=True),
        rows.row(f"{what}: nearest {NEIGHBORS} kept", kept, None, "share", kept, 0.9),
        rows.row(f"{what}: clusters", same, chance, "ARI", same / chance, 1.0),
    ]
    for key, unit in (("probe_map", "mAP of SVMs"), ("probe_knn", f"top-1 of {NEIGHBORS}-NN")):
        theirs, ours = (score[key] for score in scores)
        found.append(rows.row(f"{what}: probe", ours, theirs, unit, ours / theirs, 0.995))
    return [measured(row, {}) for row in found]


def relative_error(exact: np.ndarray, rounded: np.ndarray) -> float:
    """Root mean square of the differences, relative to the features' spread about their mean.

    exact, rounded: float32 [N, D].
    """
    spread = np.square(exact - exact.mean(0)).sum()
    return float(np.sqrt(np.square(exact - rounded).sum() / spread))


def neighbors_kept(exact: np.ndarray, rounded: np.ndarray, top: int) -> float:
    """Fraction of each row's `top` nearest others that are the same in both; [N, D] each."""
    found = []
    for features in (exact, rounded):
        units = similarity.directions(features).units
        _, numbers = similarity.nearest(units, units, top + 1)
        found.append([set(near) - {row} for row, near in enumerate(numbers)])
    return float(np.mean([len(a & b) / top for a, b in zip(*found)]))
