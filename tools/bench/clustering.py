"""Compares k-means and the choice of K with scikit-learn and faiss, in time and memory.

  pip install -r requirements-bench.txt
  python tools/bench_clustering.py --json=bench_clustering.json

Points are drawn from 100 wide Gaussians in 2048 dimensions. Ours and faiss run in turns; both stop
when a step lowers the inertia by less than 1e-4 of it. faiss has no such rule, so it gets the
number of steps after which it would have stopped; ours knows the decrease before a step.
scikit-learn runs once.

The part `imagenet` is not among the defaults. It clusters the features of half of ImageNet, kept in
a file of 5.2 GB:

  python tools/bench_clustering.py --parts=imagenet --folder=DISK --json=bench_imagenet.json
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mgta_tf import cli
from mgta_tf.clustering.choose import choose_k
from mgta_tf.clustering.features import collect
from mgta_tf.clustering.lloyd import TOLERANCE, kmeans, kmeans_plus_plus, lloyd_step
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.training.needs import peak_memory_mb
from tools.bench import rows as benchmarks
from tools.bench.timing import measured

PARTS = ("speed", "table", "memory", "law", "imagenet")
IMAGENET_CLUSTERS, STEPS = 1000, 4  # K and the steps of k-means in the part imagenet


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """The benchmark."""

    json: str = flag("", "JSON to write: a list of bench, ours, peer, unit, ratio, target, pass.")
    parts: str = flag(",".join(PARTS[:-1]), f"Parts of the benchmark, of {', '.join(PARTS)}.")
    points: int = flag(30_000, "N: number of points.", minimum=600)
    dimensions: int = flag(2048, "D: dimensions of a point.", minimum=2)
    clusters: int = flag(300, "K: number of clusters.", minimum=2)
    repeats: int = flag(5, "Repetitions of both implementations, alternating.", minimum=1)
    large: int = flag(200_000, "N of the file that exceeds the memory budget.", minimum=1000)
    budget_mb: int = flag(1024, "Memory budget in MiB.", minimum=1)
    imagenet: int = flag(640_000, "N of the part imagenet, with K = 1000.", minimum=4000)
    folder: str = flag("", "Existing folder for files of features; empty is the system's.")


def main(config: BenchConfig) -> None:
    functions = {"speed": speed, "table": table, "memory": memory, "law": law, "imagenet": imagenet}
    parts = config.parts.split(",")
    if set(parts) - set(PARTS):
        raise UserError(f"--parts={config.parts}: must be of {', '.join(PARTS)}")
    rows = []
    for part in parts:
        rows += functions[part](config)
    benchmarks.finish(rows, config.json)


def draw(count: int, dimensions: int, part: int = 0) -> np.ndarray:
    """float32 [N, D] from 100 Gaussians whose centers lie as far apart as the points within.

    part: Number of the points; those of another part are others, from the same Gaussians.
    """
    centers = np.random.default_rng(0).standard_normal((100, dimensions), np.float32)
    rng = np.random.default_rng([1, part])
    x = centers[rng.integers(100, size=count)]
    for first in range(0, count, 4096):
        x[first : first + 4096] += rng.standard_normal(x[first : first + 4096].shape, np.float32)
    return x


# ------------------------------------------------------------------------------------------- Speed


def speed(config: BenchConfig) -> list[dict]:
    try:
        import faiss
    except ImportError:
        raise UserError("faiss is missing: pip install -r requirements-bench.txt") from None
    from sklearn.cluster import KMeans

    x, k = draw(config.points, config.dimensions), config.clusters
    steps = faiss_steps(faiss, x, k)
    ours, peers, our_steps, peer_steps, inertia = [], [], [], [], 0.0
    for seed in range(config.repeats):
        began = time.monotonic()
        found = kmeans(x, k, seed)
        ours.append(time.monotonic() - began)
        began = time.monotonic()
        peer = run_faiss(faiss, x, k, steps, seed)
        peers.append(time.monotonic() - began)
        our_steps.append(time_of_step(x, k, seed))
        peer_steps.append(peer.iteration_stats[-1]["time"] / steps)
        inertia = found.inertia
        print(
            f"ours {ours[-1]:.2f} s, {found.steps} steps, inertia {found.inertia:.6g}; faiss "
            f"{peers[-1]:.2f} s, {steps} steps, inertia {peer.obj[-1]:.6g}",
            flush=True,
        )
    began = time.monotonic()
    sklearn = KMeans(k, n_init=1, random_state=0).fit(x)
    sklearn_seconds = time.monotonic() - began
    print(f"scikit-learn {sklearn_seconds:.1f} s, {sklearn.n_iter_} steps, {sklearn.inertia_:.6g}")
    mine, step = statistics.median(ours), statistics.median(our_steps)
    faiss_all, faiss_step = statistics.median(peers), statistics.median(peer_steps)
    worse = inertia / sklearn.inertia_ - 1
    return [
        benchmarks.row("Lloyd step, faiss", step, faiss_step, "s", faiss_step / step, 1.0),
        benchmarks.row("whole, faiss", mine, faiss_all, "s", faiss_all / mine, 0.5),
        benchmarks.row("whole, sklearn", mine, sklearn_seconds, "s", sklearn_seconds / mine, 8.0),
        benchmarks.row("inertia above sklearn's", worse, None, "share", worse, 0.003, below=True),
    ]


def run_faiss(faiss, x: np.ndarray, k: int, steps: int, seed: int):
    peer = faiss.Kmeans(x.shape[1], k, niter=steps, seed=seed + 1, max_points_per_centroid=10**9)
    peer.train(x)
    return peer


def faiss_steps(faiss, x: np.ndarray, k: int) -> int:
    """Steps after which faiss would have stopped by our rule."""
    inertia = run_faiss(faiss, x, k, 30, seed=0).obj
    small = np.flatnonzero(inertia[1:] >= inertia[:-1] * (1 - TOLERANCE))
    return int(small[0]) + 2 if len(small) else len(inertia)


def time_of_step(x: np.ndarray, k: int, seed: int) -> float:
    """Seconds of one Lloyd step, labels, sums and sizes of all points: the median of 5 after 1."""
    mean, centroids = x[:1000].mean(0), x[np.random.default_rng(seed).choice(len(x), k)]
    seconds = []
    for _ in range(6):
        began = time.monotonic()
        lloyd_step(x, mean, centroids - mean)
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds[1:])


def table(config: BenchConfig) -> list[dict]:
    """CH(k) of 10 candidates from 50 to 500 against one clustering of 500."""
    x = draw(config.points, config.dimensions)
    whole, single = [], []
    for seed in range(config.repeats):
        began = time.monotonic()
        choice = choose_k(x, [round(k) for k in np.linspace(50, 500, 10)], seed=seed)
        whole.append(time.monotonic() - began)
        began = time.monotonic()
        kmeans(x, 500, seed)
        single.append(time.monotonic() - began)
        print(f"CH table {whole[-1]:.1f} s, K = {choice.best_k}; K = 500 {single[-1]:.1f} s")
    ours, one = statistics.median(whole), statistics.median(single)
    return [benchmarks.row("CH table / one at 500", ours, one, "s", ours / one, 4.0, below=True)]


# ------------------------------------------------------------------------------------ Memory, law


def memory(config: BenchConfig) -> list[dict]:
    """Features above the memory budget: written to disk and clustered, in a separate process."""
    base, peak, seconds, kept = in_a_process(clustered_from_disk, config)
    print(
        f"{config.large} × {config.dimensions}, {config.large * config.dimensions * 4 / 2**30:.2f} "
        f"GiB in a file ({kept}), K = {config.clusters}: {seconds:.0f} s, peak {peak:.2f} GiB, of "
        f"which {base:.2f} before it began"
    )
    budget = config.budget_mb / 1024
    grown = peak - base
    return [benchmarks.row("memory above base", grown, budget, "GiB", grown / budget, 1.0, True)]


def in_a_process(job: Callable[[BenchConfig, str], Any], config: BenchConfig) -> Any:
    """The job's result, in a process of its own and with a temporary folder."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=config.folder or None) as folder, context.Pool(1) as pool:
        return pool.apply(job, (config, folder))


def clustered_from_disk(config: BenchConfig, folder: str) -> tuple[float, float, float, str]:
    """GiB before and at the peak, seconds, and how the features were kept."""
    base, features = features_in(folder, config.large, config)
    began = time.monotonic()
    kmeans(features, config.clusters, 0)
    return base, peak_memory_mb() / 1024, time.monotonic() - began, type(features).__name__


def features_in(folder: str, count: int, config: BenchConfig) -> tuple[float, np.ndarray]:
    """GiB of the process before, and random features [count, D] collected within the budget."""
    kmeans(draw(600, config.dimensions), 2, 0)  # TensorFlow is initialized
    base = peak_memory_mb() / 1024
    batches = (
        draw(min(1000, count - first), config.dimensions, first) for first in range(0, count, 1000)
    )
    return base, collect(batches, count, config.budget_mb, os.path.join(folder, "features.npy"))


def imagenet(config: BenchConfig) -> list[dict]:
    """k-means with K = 1000 at ImageNet's size: seconds of a step, and memory above the base.

    The peer of a step is one with as few points as fit the memory, multiplied by the points.
    """
    base, peak, start, steps = in_a_process(kmeans_of_imagenet, config)
    count, few = config.imagenet, min(20_000, config.imagenet)
    points = draw(few, config.dimensions)
    in_memory = time_of_step(points, IMAGENET_CLUSTERS, 0) * count / few
    step, grown, budget = statistics.median(steps), peak - base, config.budget_mb / 1024
    print(
        f"{count} × {config.dimensions}, {count * config.dimensions * 4 / 2**30:.2f} GiB in a "
        f"file, K = {IMAGENET_CLUSTERS}: k-means++ {start:.0f} s, steps "
        f"{', '.join(f'{each:.1f}' for each in steps)} s, peak {peak:.2f} GiB, of which {base:.2f} "
        "before it began"
    )
    name = f"k-means, {count:,} × {config.dimensions} in a file, K = {IMAGENET_CLUSTERS}"
    of_step = benchmarks.row(f"{name}: a step", step, in_memory, "s", step / in_memory, 1.25, True)
    memory = f"{name}: memory above base"
    of_memory = benchmarks.row(memory, grown, budget, "GiB", grown / budget, 1, True)
    return [
        measured(of_step, {"ours": steps}),
        {**measured(of_memory, {}), "peak_gib": peak, "kmeans_plus_plus_seconds": start},
    ]


def kmeans_of_imagenet(config: BenchConfig, folder: str) -> tuple[float, float, float, list[float]]:
    """GiB before and at the peak, seconds of k-means++, and of each step."""
    base, features = features_in(folder, config.imagenet, config)
    began = time.monotonic()
    start = kmeans_plus_plus(features, IMAGENET_CLUSTERS, 0)
    times = [time.monotonic()]
    kmeans(
        features, IMAGENET_CLUSTERS, 0, start=start, max_steps=STEPS, tolerance=0.0,
        with_distances=False, on_step=lambda state: times.append(time.monotonic()),
    )  # fmt: skip
    return base, peak_memory_mb() / 1024, times[0] - began, list(np.diff(times))


def law(config: BenchConfig) -> list[dict]:
    """Seconds of a step and of k-means++ at three values each of N, D and K, with a fitted law."""
    full = (config.points, config.dimensions, config.clusters)
    sizes = [full] + [
        tuple(size // divisor if axis == place else size for axis, size in enumerate(full))
        for place in range(3)
        for divisor in (2, 4)
    ]
    x = draw(*full[:2])
    work, steps, starts = [], [], []
    for n, d, k in sizes:
        part = np.ascontiguousarray(x[:n, :d])
        steps.append(time_of_step(part, k, 0))
        began = time.monotonic()
        kmeans_plus_plus(part, k, 0)
        starts.append(time.monotonic() - began)
        work.append((n, d, k))
        print(f"N {n}, D {d}, K {k}: step {steps[-1]:.3f} s, start {starts[-1]:.2f} s", flush=True)
    n, d, k = np.array(work, np.float64).T
    terms = np.stack([n * d * k, n * d], 1)
    (product, reading), *_ = np.linalg.lstsq(terms, np.array(steps), rcond=None)
    error = float(np.max(np.abs(terms @ [product, reading] / steps - 1)))
    print(
        f"a step takes {product:.3g}·N·D·K + {reading:.3g}·N·D seconds (largest error "
        f"{error:.0%}): {2 / product / 1e9:.0f} GFLOP/s; ImageNet (1.28 M × 2048, K = 1000): "
        f"{product * 1.28e6 * 2048 * 1000 + reading * 1.28e6 * 2048:.0f} s a step"
    )
    return [benchmarks.row("law of a step, error", error, None, "share", error, 0.25, below=True)]


if __name__ == "__main__":
    cli.run(main, BenchConfig)
