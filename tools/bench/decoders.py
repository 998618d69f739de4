"""A training step with each decoder: whether its time grows as its floating-point operations."""

from __future__ import annotations

import statistics
from typing import Any

from tools.bench import rows
from tools.bench.config import BenchConfig
from tools.bench.model_table import gigaflops
from tools.bench.nets import bare_step, chosen, make_learner
from tools.bench.timing import by_turns, measured, seconds_each

DECODERS = ("mirror", "light", "none")


def decoders(config: BenchConfig) -> list[dict]:
    """Rows in GFLOP/s; the peer is the same net with --decoder=mirror, in float32."""
    found = []
    for _, name, shape, inner in chosen(config):
        nets = {decoder: make_learner(**shape, decoder=decoder)[1] for decoder in DECODERS}
        jobs = {kind: seconds_each(bare_step(net, **shape), inner) for kind, net in nets.items()}
        seconds = by_turns(config.repeats, **jobs)
        work = {kind: 3 * gigaflops(net.model, shape["size"]) for kind, net in nets.items()}
        found += rows_of(name, work, seconds, shape["batch"])
    return found


def rows_of(
    name: str, work: dict[str, float], seconds: dict[str, list[float]], batch: int
) -> list[dict[str, Any]]:
    """A row for each decoder but mirror: whether a step costs what its operations suggest.

    work: 10⁹ operations of a training step on one image, by decoder. seconds: of a step on a batch.
    Each row also has `gflop_per_image` and `ms_per_image` of both.
    """
    each = {kind: statistics.median(spent) / batch for kind, spent in seconds.items()}
    rate = {kind: work[kind] / each[kind] for kind in work}
    found = []
    for kind in (kind for kind in work if kind != "mirror"):
        ratio, both = rate[kind] / rate["mirror"], ("mirror", kind)
        bench = f"step, {name}, --decoder={kind} against mirror"
        row = rows.row(bench, rate[kind], rate["mirror"], "GFLOP/s", ratio, 0.9)
        row["gflop_per_image"] = {which: work[which] for which in both}
        row["ms_per_image"] = {which: 1e3 * each[which] for which in both}
        found.append(measured(row, {"ours": seconds[kind], "peer": seconds["mirror"]}))
    return found
