"""Training and encoding from files: epochs against bare steps, encoding against PyTorch."""

from __future__ import annotations

import functools
import statistics
import tempfile
from typing import Any

import numpy as np

from mgta_tf.data import sampler
from mgta_tf.data.pipeline import Feed
from tools.bench import rows
from tools.bench.config import BenchConfig
from tools.bench.nets import (
    FULL,
    SMALL,
    bare_step,
    encode_all,
    make_learner,
    open_folder,
    write_images,
)
from tools.bench.timing import by_turns, measured, timed
from tools.bench.torch_peer import torch_worker, without_torch


def epoch(config: BenchConfig) -> list[dict]:
    """P×K epochs; images are decoded on the fly (full size) or kept in memory (small model)."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        write_images(folder, config.images, 84)
        for name, shape, cache_mb in (
            ("full size, 64 px, read as needed", FULL, 0),
            ("small model, 32 px, in memory", SMALL, 4096),
        ):
            count = config.images if shape is SMALL else max(128, config.images // 4)
            found.append(epoch_of(config, name, shape, open_folder(folder, 84, cache_mb), count))
    return found


def epoch_of(config: BenchConfig, name: str, shape: dict[str, Any], store, count: int) -> dict:
    strategy, net = make_learner(**shape)
    labels = (np.arange(len(store)) // 8).astype(np.int32)
    feed, images = Feed(store, shape["batch"], strategy), np.arange(count, dtype=np.int32)
    batch = sampler.BatchConfig()
    steps = sampler.steps_of(count, 1, batch.size)

    def whole() -> None:
        plan = sampler.pk_plan(images, labels[:count], batch, 1, [1])
        for _, metrics in net.fit(feed.batches(plan, labels, [1]), 0.5, lambda step: 1e-3):
            last = metrics
        float(last["loss"])

    once = bare_step(net, store.size, shape["batch"])
    whole()
    seconds = by_turns(
        config.repeats,
        ours=lambda: timed(whole) / steps,
        bare=lambda: timed(lambda: [once() for _ in range(steps)]) / steps,
    )
    mine, bare = (statistics.median(seconds[key]) for key in ("ours", "bare"))
    row = rows.row(f"epoch, {name}", mine, bare, "s a step", mine / bare, 1.05, below=True)
    return measured(row, seconds)


def encode(config: BenchConfig) -> list[dict]:
    """Encodes a folder of JPEG files with the full-size net at 64 px."""
    if without_torch(config, "encode"):
        return []
    found = []
    with tempfile.TemporaryDirectory() as folder:
        write_images(folder, config.images, 64)
        store = open_folder(folder, 64, 0)
        strategy, net = make_learner(**FULL)
        feed, images = Feed(store, 64, strategy), np.arange(len(store), dtype=np.int32)
        for endpoint in ("embedding", "res4"):
            arguments = {**FULL, "folder": folder, "endpoint": endpoint}
            peer = torch_worker(config, "encode", **arguments)
            whole = functools.partial(encode_all, net, feed, images, endpoint)
            whole()
            ours = functools.partial(timed, whole)
            seconds = by_turns(config.repeats, ours=ours, peer=peer.seconds)
            peer.close()
            mine, other = (len(images) / statistics.median(seconds[k]) for k in ("ours", "peer"))
            name = f"encode a folder to {endpoint}, 64 px"
            row = rows.row(name, mine, other, "images/s", mine / other, 1.4)
            found.append(measured(row, seconds, peer.versions))
    return found
