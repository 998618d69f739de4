"""A training step against PyTorch's, eager and compiled, and against a matrix product."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.runtime.strategy import fast_precision
from mgta_tf.training.defaults import threads_per_operation
from tools.bench import rows
from tools.bench.config import BenchConfig
from tools.bench.model_table import gigaflops
from tools.bench.nets import chosen, make_learner
from tools.bench.thread_jobs import CORES, DEFAULT, ONE_THREAD, thread_worker
from tools.bench.timing import by_turns, measured, seconds_each
from tools.bench.torch_peer import torch_worker, without_torch
from tools.bench.worker import Worker

PRODUCT = 4000  # side of the matrices whose product measures the machine
PRECISIONS = {"float32": "off", "bfloat16": "bfloat16"}  # name: --mixed_precision
DEFAULT_TARGET = {"full": 1.5, "small": 1.3}
EAGER, COMPILED = "PyTorch", "compiled PyTorch"


def step(config: BenchConfig) -> list[dict]:
    found = []
    for key, name, shape, inner in chosen(config):
        shape = {**shape, "decoder": config.decoder}
        name = name if config.decoder == "none" else f"{name}, --decoder={config.decoder}"
        found += step_of(config, key, name, shape, inner)
    return found


def step_of(
    config: BenchConfig, key: str, name: str, shape: dict[str, Any], inner: int
) -> list[dict]:
    """Rows of one net in each precision, with the thread pools that mgta_tf.train would choose.

    inner: steps of one measurement.
    """
    threads = threads_per_operation(shape["width"], CORES, 0)
    way = ONE_THREAD if threads else DEFAULT
    ours = {
        kind: thread_worker(way, key, precision=flag, decoder=config.decoder)
        for kind, flag in PRECISIONS.items()
    }
    jobs = {kind: worker.seconds for kind, worker in ours.items()}
    x = tf.constant(np.random.default_rng(0).random((PRODUCT, PRODUCT), np.float32))
    jobs["product"] = seconds_each(lambda: tf.matmul(x, x)[0, 0].numpy())
    peers = {} if without_torch(config, f"step, {name}") else torch_steps(config, shape)
    missing = {peer: worker.unavailable for peer, worker in peers.items() if worker.unavailable}
    for peer in peers.keys() - missing:
        jobs[peer] = peers[peer].each(inner)
    seconds = by_turns(config.repeats, **jobs)
    for worker in [*ours.values(), *peers.values()]:
        worker.close()
    versions = next((worker.versions for worker in peers.values()), None)
    pairs = compared(default_precision(), DEFAULT_TARGET[key], with_torch=bool(peers))
    found = rows_of(name, pairs, seconds, missing, shape["batch"], versions)
    if key == "full":
        work = 3 * gigaflops(make_learner(**shape)[1].model, shape["size"]) * shape["batch"]
        found.append(row_of_share(name, work, seconds))
    return found


def torch_steps(config: BenchConfig, shape: dict[str, Any]) -> dict[str, Worker]:
    """PyTorch's step, eager and compiled, in each precision."""
    return {
        f"{kind}, {precision}": torch_worker(
            config, "step", **shape, precision=precision, compiled=kind == COMPILED
        )
        for precision in PRECISIONS
        for kind in (EAGER, COMPILED)
    }


def default_precision() -> str:
    """The default of `--mixed_precision` on this machine: a name of PRECISIONS."""
    fast, _ = fast_precision()
    return next(name for name, flag in PRECISIONS.items() if flag == fast)


def compared(default: str, target: float, with_torch: bool) -> list[tuple[str, str, str, float]]:
    """(row, job of ours, job of the peer, target) of the comparisons; the row ends its name."""
    ours = [("bfloat16 against our float32", "bfloat16", "float32", 1.0)]
    if not with_torch:
        return ours
    theirs = [(f"default ({default}) against {EAGER}", default, f"{EAGER}, float32", target)]
    for precision in PRECISIONS:
        for kind in (EAGER, COMPILED):
            what, peer = f"{precision} against {kind}", f"{kind}, {precision}"
            slow = precision == "float32" and kind == EAGER
            theirs.append((what, precision, peer, 1.5 if slow else 1.0))
    return [*theirs, *ours]


def rows_of(
    name: str,
    pairs: list[tuple[str, str, str, float]],
    seconds: dict[str, list[float]],
    missing: dict[str, str],
    batch: int,
    versions: dict[str, str] | None,
) -> list[dict]:
    """Rows in images per second.

    pairs: of `compared`. seconds: of a step, by job. missing: reason why a job could not run.
    """
    rate = {job: batch / statistics.median(spent) for job, spent in seconds.items()}
    found = []
    for what, ours, peer, target in pairs:
        bench = f"step, {name}: {what}"
        if peer in missing:
            row = rows.not_measured(bench, rate[ours], "images/s", target, missing[peer])
            found.append(measured(row, {"ours": seconds[ours]}, versions))
            continue
        ratio = rate[ours] / rate[peer]
        row = rows.row(bench, rate[ours], rate[peer], "images/s", ratio, target)
        spent = {"ours": seconds[ours], "peer": seconds[peer]}
        found.append(measured(row, spent, versions))
    return found


def row_of_share(name: str, work: float, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """The float32 step's floating-point operations per second, against the matrix product's.

    work: 10⁹ floating-point operations of a step.
    """
    ours = work / statistics.median(seconds["float32"])
    product = 2 * PRODUCT**3 / 1e9 / statistics.median(seconds["product"])
    row = rows.row(
        f"fraction of the matrix product's rate, {name}",
        ours,
        product,
        "GFLOP/s",
        ours / product,
        0.75,
    )
    return measured(row, {"ours": seconds["float32"], "peer": seconds["product"]})
