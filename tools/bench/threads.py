"""Speed of a training step for several sizes of thread pools and divisions of the cores."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.errors import UserError
from tools.bench import rows
from tools.bench.config import BenchConfig
from tools.bench.model_table import gigaflops
from tools.bench.nets import chosen, make_learner
from tools.bench.step import PRECISIONS, PRODUCT
from tools.bench.thread_jobs import DEFAULT, NOT_AT_FULL_SIZE, WAYS, thread_worker
from tools.bench.timing import by_turns, measured, seconds_each


def threads(config: BenchConfig) -> list[dict]:
    """Rows in images per second; the peer is the same step with TensorFlow's default."""
    x = tf.constant(np.random.default_rng(0).random((PRODUCT, PRODUCT), np.float32))
    product = seconds_each(lambda: tf.matmul(x, x)[0, 0].numpy())
    found, ways = [], chosen_ways(config.ways)
    for key, name, shape, _ in chosen(config):
        work = 3 * gigaflops(make_learner(**shape)[1].model, shape["size"]) * shape["batch"]
        for precision in [config.precision] if config.precision else PRECISIONS:
            options = {"precision": PRECISIONS[precision]}
            workers = {way: thread_worker(way, key, **options) for way in possible(ways, key)}
            jobs = {way: worker.seconds for way, worker in workers.items()}
            seconds = by_turns(config.repeats, **jobs, product=product)
            for worker in workers.values():
                worker.close()
            found += rows_of(f"{name}, {precision}", work, seconds, shape["batch"])
    return found


def chosen_ways(names: str) -> list[str]:
    """The default, and the ways that `--ways` names.

    Raises:
      UserError: a name is not one of WAYS.
    """
    if not names:
        return list(WAYS)
    unknown = set(names.split(",")) - WAYS.keys()
    if unknown:
        raise UserError(f"--ways: {unknown.pop()!r} is not one of {', '.join(WAYS)}")
    return [DEFAULT, *names.split(",")]


def possible(ways: list[str], net: str) -> list[str]:
    """The ways in which a net of NETS can be run."""
    return [way for way in ways if net != "full" or way not in NOT_AT_FULL_SIZE]


def rows_of(
    name: str, work: float, seconds: dict[str, list[float]], batch: int
) -> list[dict[str, Any]]:
    """A row for each way but the default.

    work: 10⁹ floating-point operations of a step. seconds: of a step by way, and of the product.
    Each row also has the shares of both in the float32 matrix product on all cores.
    """
    median = {way: statistics.median(spent) for way, spent in seconds.items()}
    product = 2 * PRODUCT**3 / 1e9 / median["product"]
    found = []
    for way in (way for way in seconds if way not in (DEFAULT, "product")):
        ours, peer = batch / median[way], batch / median[DEFAULT]
        row = rows.row(f"threads, {name}: {way}", ours, peer, "images/s", ours / peer, 1.0)
        row["share"] = {which: work / median[which] / product for which in (DEFAULT, way)}
        found.append(measured(row, {"ours": seconds[way], "peer": seconds[DEFAULT]}))
    return found
