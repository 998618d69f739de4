"""Compares the batched SVMs with scikit-learn's LinearSVC on data of VOC2007's size.

  python tools/bench_probe.py --json=bench_probe.json

Features are random with the spectrum of a trained net (λ_i ∝ 1/i, cut at 1,500 directions, plus
noise), labels have VOC2007's class frequencies. LinearSVC would take more than an hour for all
26 × 20 × 3 + 20 fits, so it fits a sample: `--sampled_classes` classes at every cost, one fold
each, on one core. Its total time is that of the sample, scaled by the number of fits. On a smaller
problem (`--check_scale`) both run completely, and their mAP and costs are compared.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.evaluation import svm
from mgta_tf.runtime.progress import duration
from mgta_tf.training.needs import peak_memory_mb
from tools.bench import rows as benchmarks

IMAGES = (5011, 4952)  # trainval and test of VOC2007
FEATURES = 9216
# Images of trainval that show each class (non-difficult), in the order of voc.CLASSES.
POSITIVES = (
    238, 243, 330, 181, 244, 186, 713, 337, 445, 141, 200, 421, 287, 245, 2008, 245, 96, 229, 261,
    256,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """The benchmark."""

    json: str = flag("", "JSON to write: a list of bench, ours, peer, unit, ratio, target, pass.")
    scale: float = flag(
        1.0, "Fraction of VOC2007's images and features.", minimum=0.001, maximum=1.0
    )
    check_scale: float = flag(
        0.12,
        "Fraction used for the problem on which results are compared.",
        minimum=0.01,
        maximum=1.0,
    )
    sampled_classes: int = flag(1, "Classes that LinearSVC fits.", minimum=1, maximum=20)
    seed: int = flag(0, "Random seed for the features.", minimum=0)


def main(config: BenchConfig) -> None:
    problem = draw(config.scale, config.seed)
    costs = svm.COSTS["goyal"]
    fits = len(POSITIVES) * (len(costs) * svm.FOLDS + 1)
    print(f"{len(problem[0])} × {problem[0].shape[1]} features, {fits} fits", flush=True)

    ours = svm.linear_svm(*problem)
    memory = peak_memory_mb() / 1024
    print(
        f"batched: {duration(ours.seconds)}, peak {memory:.2f} GiB, certified error "
        f"{ours.error:.1e}, {ours.unconverged} unconverged, mAP {ours.map:.2f}",
        flush=True,
    )
    by_cost = time_linear_svc(problem, costs, config.sampled_classes)
    peer = fits * float(np.mean(by_cost))
    print(
        "LinearSVC, one core: "
        + ", ".join(f"C={c:.3g} {s:.1f} s" for c, s in zip(costs, by_cost))
        + f"; all fits: {duration(peer)}"
    )
    gaps = compare(config)
    rows = [
        benchmarks.row("probe: all fits", ours.seconds, peer, "s", peer / ours.seconds, 8.0),
        benchmarks.row(
            "probe: minutes", ours.seconds / 60, None, "min", ours.seconds / 600, 1.0, below=True
        ),
        benchmarks.row("probe: peak memory", memory, None, "GiB", memory / 4, 1.0, below=True),
        benchmarks.row("probe: mAP gap", gaps[0], None, "points", gaps[0] / 0.1, 1.0, below=True),
        benchmarks.row("probe: CV-AP gap", gaps[1], None, "AP", gaps[1] / 0.002, 1.0, below=True),
    ]
    benchmarks.finish(rows, config.json)


def draw(scale: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features float32 and targets {1, -1} of train and test, for `linear_svm`."""
    rng = np.random.default_rng(seed)
    train, test = (round(n * scale) for n in IMAGES)
    dimensions, rank = round(FEATURES * scale), round(1500 * scale) + 20
    hidden = rng.standard_normal((train + test, rank)) * np.arange(1, rank + 1) ** -0.5
    basis = rng.standard_normal((rank, dimensions), np.float32) / np.sqrt(dimensions)
    x = hidden.astype(np.float32) @ basis
    x += 0.02 / np.sqrt(dimensions) * rng.standard_normal(x.shape, np.float32)
    x = np.maximum(x + 0.5 / np.sqrt(dimensions), 0)  # as after a ReLU
    x /= np.linalg.norm(x, axis=1, keepdims=True) + 1e-5
    score = hidden[:, :30] @ rng.standard_normal((30, len(POSITIVES)))
    score += rng.standard_normal(score.shape) * score.std(0)  # a net does not know all
    targets = np.full(score.shape, -1, np.int8)
    for c, positives in enumerate(POSITIVES):
        for part in (slice(0, train), slice(train, None)):
            count = max(3, round(positives * scale))
            targets[part, c][np.argsort(-score[part, c])[:count]] = 1
    return x[:train], targets[:train], x[train:], targets[train:]


def time_linear_svc(problem, costs, classes: int) -> list[float]:
    """Seconds of one fit of LinearSVC at each cost: mean over some classes of medium size."""
    train, targets, _, _ = problem
    train = train.astype(np.float64)
    middling = np.argsort(np.abs((targets > 0).sum(0) - np.median((targets > 0).sum(0))))
    seconds = []
    for cost in costs:
        began = time.monotonic()
        for c in middling[:classes]:
            inside = svm.folds_of(targets[:, c]) != 0
            svm.fit_linear_svc(train[inside], targets[inside, c], cost)
        seconds.append((time.monotonic() - began) / classes)
    return seconds


def compare(config: BenchConfig) -> tuple[float, float]:
    """Runs both solvers on a smaller problem: difference of mAP, largest CV-AP lost by our cost."""
    problem = draw(config.check_scale, config.seed + 1)
    ours, peer = (svm.linear_svm(*problem, impl=impl) for impl in ("batched", "liblinear"))
    costs = list(svm.COSTS["goyal"])
    lost = [
        peer.cv_ap[c].max() - peer.cv_ap[c, costs.index(ours.cost[c])]
        for c in range(len(POSITIVES))
    ]
    print(
        f"{len(problem[0])} × {problem[0].shape[1]}: mAP {ours.map:.3f} and {peer.map:.3f}, "
        f"{np.sum(ours.cost == peer.cost)} of {len(lost)} costs equal, LinearSVC stopped early in "
        f"{peer.unconverged} fits"
    )
    return abs(ours.map - peer.map), float(max(lost))


if __name__ == "__main__":
    cli.run(main, BenchConfig)
