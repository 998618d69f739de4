"""A training step, against PyTorch's and against a matrix product."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import tensorflow as tf

from tools.bench import rows
from tools.bench.config import BenchConfig
from tools.bench.model_table import gigaflops
from tools.bench.nets import FULL, SMALL, bare_step, make_learner
from tools.bench.timing import by_turns, measured, timed
from tools.bench.torch_peer import Torch, without_torch

PRODUCT = 4000  # side of the matrices whose product measures the machine


def step(config: BenchConfig) -> list[dict]:
    found = []
    for name, net, inner in (("full size, 64 px", FULL, 1), ("small model, 32 px", SMALL, 10)):
        found += step_of(config, name, net, inner)
    return found


def step_of(config: BenchConfig, name: str, shape: dict[str, Any], inner: int) -> list[dict]:
    """Rows of one net: against PyTorch; and at 64 px the share of the matrix product."""
    _, net = make_learner(**shape)
    once = bare_step(net, **shape)
    in_16_bits = bare_step(make_learner(**shape, precision="bfloat16")[1], **shape)
    x = tf.constant(np.random.default_rng(0).random((PRODUCT, PRODUCT), np.float32))
    jobs = {
        "ours": lambda: timed(lambda: [once() for _ in range(inner)]) / inner,
        "product": lambda: timed(lambda: tf.matmul(x, x)[0, 0].numpy()),
        "bfloat16": lambda: timed(lambda: [in_16_bits() for _ in range(inner)]) / inner,
    }
    jobs["product"]()
    peer = None
    if not without_torch(config, f"step, {name}"):
        peer = Torch(config.torch_python, "step", **shape)
        jobs["peer"] = lambda: sum(peer.seconds() for _ in range(inner)) / inner
    seconds = by_turns(config.repeats, **jobs)
    if peer:
        peer.close()
    batch, median = shape["batch"], {n: statistics.median(s) for n, s in seconds.items()}
    rate, ratio = batch / median["ours"], median["ours"] / median["bfloat16"]
    name_of_16 = f"step in bfloat16 against float32, {name}"
    row = rows.row(name_of_16, batch / median["bfloat16"], rate, "images/s", ratio, 1.0)
    found = [(row, "bfloat16")]
    if peer:
        ratio, theirs = median["peer"] / median["ours"], batch / median["peer"]
        row = rows.row(f"step, {name}", rate, theirs, "images/s", ratio, 1.5)
        found.append((row, "peer"))
    work = 3 * gigaflops(net.model, shape["size"]) * rate
    product = 2 * PRODUCT**3 / 1e9 / median["product"]
    if shape is FULL:
        name_of_share = f"share of the product, {name}"
        row = rows.row(name_of_share, work, product, "GFLOP/s", work / product, 0.75)
        found.append((row, "product"))
    versions = peer.versions if peer else None
    return [
        measured(row, {key: seconds[key] for key in ("ours", other)}, versions)
        for row, other in found
    ]
