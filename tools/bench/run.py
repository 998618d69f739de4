"""Times this package beside its peers, by turns in one run.

  python tools/bench.py all --torch_python=TORCH_VENV/bin/python --json=bench.json
  python tools/bench.py step --torch_python=TORCH_VENV/bin/python

Benchmarks: step (a training step; its share of the machine's matrix product), epoch (P×K epochs
from files against the bare step), encode, sampler, labels (their share of a round), memory, start
(from the shell to the first step), scaling (laws over image size and number of images). Each prints
a line of JSON for every row: medians and spreads of seconds, versions, threads, ratio, target.

The peers: requirements-bench-torch.txt says how to make PyTorch's environment, whose interpreter
--torch_python names, and requirements-bench.txt where tensorflow-similarity comes from. Without a
peer its rows are skipped, with a message. `python -m tools.docs.performance` writes the table of
docs/performance.md.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import multiprocessing
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from tools.bench import rows as benchmarks

NAMES = ("step", "epoch", "encode", "sampler", "labels", "memory", "start", "scaling")
# size, width, blocks, images in a batch
FULL: dict[str, Any] = dict(size=64, width=1.0, blocks=(3, 4, 6, 3), batch=64)
TWIN: dict[str, Any] = dict(size=32, width=0.25, blocks=(2, 2, 2, 2), batch=64)
PRODUCT = 4000  # side of the matrices whose product is the machine's measure
FOLDER = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """The benchmark."""

    json: str = flag("", "JSON to write: a list of bench, ours, peer, unit, ratio, target, pass.")
    torch_python: str = flag("", "Interpreter of an environment that has PyTorch.")
    repeats: int = flag(7, "Times that ours and the peer run, by turns.", minimum=1)
    images: int = flag(1024, "JPEG files of 'epoch' and 'encode'.", minimum=128)
    sampled: int = flag(60_000, "Images of 'sampler' and 'memory'.", minimum=2000)
    round_images: int = flag(10_000, "Largest N of a round in 'scaling'.", minimum=1000)
    plot: str = flag("", "PNG that 'scaling' draws.")


def main(config: BenchConfig) -> None:
    if NAME == "all":
        benchmarks.finish(run_all(), config.json)
        return
    rows = RUNS[NAME](config)
    for row in rows:
        print(json.dumps(row), flush=True)
    benchmarks.finish(rows, config.json)


def run_all() -> list[dict]:
    """Every benchmark in a process of its own: none inherits another's memory."""
    rows = []
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rows.json")
            rest = [word for word in sys.argv[1:] if not word.startswith("--json")]
            command = [sys.executable, f"{FOLDER}.py", name, *rest, f"--json={path}"]
            print(f"== {name}", flush=True)
            if subprocess.run(command, check=False).returncode:
                raise UserError(f"'{name}' failed; its message is above")
            with open(path, encoding="utf-8") as file:
                rows += json.load(file)
    return rows


# ------------------------------------------------------------------------------- By turns, and rows


class Torch:
    """A job of tools/bench/torch_jobs.py, ready to be done once more at each call."""

    def __init__(self, python: str, job: str, **arguments: Any):
        command = [python, str(FOLDER / "torch_jobs.py"), job, json.dumps(arguments)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = json.loads(self._ask(""))

    def _ask(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        if line:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise UserError("PyTorch's process ended; its message is above")
        return answer

    def seconds(self) -> float:
        return float(self._ask("once\n"))

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def timed(once: Callable[[], Any]) -> float:
    began = time.monotonic()
    once()
    return time.monotonic() - began


def by_turns(repeats: int, **jobs: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of every job, each `repeats` times, by turns. A job returns its seconds.

    A turn before them does not count: after another job's graph was built, the first is slow.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            spent = job()
            if turn:
                seconds[name].append(spent)
    return seconds


def spread(values: list[float]) -> float:
    """Half of the range between the quartiles."""
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2


def measured(row: dict, seconds: dict[str, list[float]], peer_versions: Any = None) -> dict:
    """A row with how it was found: medians, spreads, versions, threads."""
    from mgta_tf.training.summary import versions

    return {
        **row,
        "median": {name: statistics.median(values) for name, values in seconds.items()},
        "spread": {name: spread(values) for name, values in seconds.items()},
        "repeats": max((len(values) for values in seconds.values()), default=1),
        "versions": {**versions(), **(peer_versions or {})},
        "threads": os.cpu_count(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def without_torch(config: BenchConfig, what: str) -> bool:
    if not config.torch_python:
        print(f"{what}: no --torch_python, so nothing to compare with", flush=True)
    return not config.torch_python


# --------------------------------------------------------------------------------------------- Step


@functools.cache
def tensorflow():
    """TensorFlow, with the settings that mgta_tf gives it."""
    import tensorflow as tf

    return tf


def make_learner(
    size: int, width: float, blocks: tuple[int, ...], precision: str = "off", **_: Any
):
    from mgta_tf.data.pipeline import AugmentConfig
    from mgta_tf.models.encoder import ModelConfig
    from mgta_tf.runtime.strategy import make_strategy
    from mgta_tf.training.learner import Learner
    from mgta_tf.training.losses import LossConfig
    from mgta_tf.training.optimization import OptimizerConfig

    strategy = make_strategy(1, "clusters_per_batch")
    model, augment = ModelConfig(width=width, blocks=tuple(blocks)), AugmentConfig(image_size=size)
    return strategy, Learner(
        strategy, model, augment, LossConfig(), OptimizerConfig(), seed=1, mixed_precision=precision
    )


def bare_step(net, size: int, batch: int, **_: Any) -> Callable[[], None]:
    """A training step, its augmentation included, on one batch that lies in memory."""
    import itertools

    from mgta_tf.data.pipeline import UNIFORMS

    tf, rng = tensorflow(), np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8))
    labels = tf.constant(np.arange(batch, dtype=np.int32) // 4)
    uniforms = tf.constant(rng.random((batch, UNIFORMS), np.float32))
    steps = net.fit(itertools.repeat((images, labels, uniforms)), 0.5, lambda step: 1e-3)

    def once() -> None:
        float(next(steps)[1]["loss"])

    once()
    once()
    return once


def step(config: BenchConfig) -> list[dict]:
    rows = []
    for name, net, inner in (("full size, 64 px", FULL, 1), ("laptop twin, 32 px", TWIN, 10)):
        rows += step_of(config, name, net, inner)
    return rows


def step_of(config: BenchConfig, name: str, shape: dict[str, Any], inner: int) -> list[dict]:
    """Rows of one net: against PyTorch; and at 64 px the share of the matrix product."""
    from tools.bench.model_table import gigaflops

    tf = tensorflow()
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
    row = benchmarks.row(name_of_16, batch / median["bfloat16"], rate, "images/s", ratio, 1.0)
    rows = [(row, "bfloat16")]
    if peer:
        ratio, theirs = median["peer"] / median["ours"], batch / median["peer"]
        row = benchmarks.row(f"step, {name}", rate, theirs, "images/s", ratio, 1.5)
        rows.append((row, "peer"))
    work = 3 * gigaflops(net.model, shape["size"]) * rate
    product = 2 * PRODUCT**3 / 1e9 / median["product"]
    if shape is FULL:
        name_of_share = f"share of the product, {name}"
        row = benchmarks.row(name_of_share, work, product, "GFLOP/s", work / product, 0.75)
        rows.append((row, "product"))
    versions = peer.versions if peer else None
    return [
        measured(row, {key: seconds[key] for key in ("ours", other)}, versions)
        for row, other in rows
    ]


# -------------------------------------------------------------------------------- Files and batches


def write_images(folder: str, count: int, size: int) -> None:
    """JPEG files of generated images."""
    from PIL import Image

    from mgta_tf.data import shapes

    for number in range(count):
        image = Image.fromarray(shapes.single_object(number, 0)).resize((size, size))
        image.save(os.path.join(folder, f"{number:06d}.jpg"), quality=90)


def open_folder(folder: str, size: int, cache_mb: int):
    from mgta_tf.data.sources import DataConfig, open_source
    from mgta_tf.data.store import load_store

    source = open_source(DataConfig(data_dir=folder))
    return load_store(source, size=size, cache_budget_mb=cache_mb)


def epoch(config: BenchConfig) -> list[dict]:
    """P×K epochs; the full-size net's decodes its files as it goes, the twin's keeps them."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_images(folder, config.images, 84)
        for name, shape, cache_mb in (
            ("full size, 64 px, read as needed", FULL, 0),
            ("laptop twin, 32 px, in memory", TWIN, 4096),
        ):
            count = config.images if shape is TWIN else max(128, config.images // 4)
            rows.append(epoch_of(config, name, shape, open_folder(folder, 84, cache_mb), count))
    return rows


def epoch_of(config: BenchConfig, name: str, shape: dict[str, Any], store, count: int) -> dict:
    from mgta_tf.data import sampler
    from mgta_tf.data.pipeline import Feed

    strategy, net = make_learner(**shape)
    labels = (np.arange(len(store)) // 8).astype(np.int32)
    feed, images = Feed(store, shape["batch"], strategy), np.arange(count, dtype=np.int32)
    batch = sampler.BatchConfig()
    steps = sampler.steps_of(count, 1, batch.size)

    def whole() -> None:
        plan = sampler.pk_plan(images, labels[:count], batch, 1, [1])
        for _, monitors in net.fit(feed.batches(plan, labels, [1]), 0.5, lambda step: 1e-3):
            last = monitors
        float(last["loss"])

    once = bare_step(net, store.size, shape["batch"])
    whole()
    seconds = by_turns(
        config.repeats,
        ours=lambda: timed(whole) / steps,
        bare=lambda: timed(lambda: [once() for _ in range(steps)]) / steps,
    )
    mine, bare = (statistics.median(seconds[key]) for key in ("ours", "bare"))
    row = benchmarks.row(f"epoch, {name}", mine, bare, "s a step", mine / bare, 1.05, below=True)
    return measured(row, seconds)


def encode(config: BenchConfig) -> list[dict]:
    """A folder of JPEG files to features, with the full-size net at 64 px."""
    from mgta_tf.data.pipeline import Feed

    if without_torch(config, "encode"):
        return []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_images(folder, config.images, 64)
        store = open_folder(folder, 64, 0)
        strategy, net = make_learner(**FULL)
        feed, images = Feed(store, 64, strategy), np.arange(len(store), dtype=np.int32)
        for endpoint in ("embedding", "res4"):
            arguments = {**FULL, "folder": folder, "endpoint": endpoint}
            peer = Torch(config.torch_python, "encode", **arguments)
            whole = functools.partial(encode_all, net, feed, images, endpoint)
            whole()
            ours = functools.partial(timed, whole)
            seconds = by_turns(config.repeats, ours=ours, peer=peer.seconds)
            peer.close()
            mine, other = (len(images) / statistics.median(seconds[k]) for k in ("ours", "peer"))
            name = f"encode a folder to {endpoint}, 64 px"
            row = benchmarks.row(name, mine, other, "images/s", mine / other, 1.4)
            rows.append(measured(row, seconds, peer.versions))
    return rows


def encode_all(net, feed, images: np.ndarray, endpoint: str) -> list[np.ndarray]:
    return list(net.encode(feed, images, endpoint))


def sample(config: BenchConfig) -> list[dict]:
    """P×K batches of images in memory, nothing else: 84 px, 300 clusters, P = 32, K = 4."""
    from mgta_tf.data import sampler
    from mgta_tf.data.pipeline import Feed
    from mgta_tf.runtime.strategy import make_strategy

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
    rows, versions = [], {}
    similarity = similarity_sampler(pixels, labels, P, K)
    if similarity:
        jobs["tfsim"] = lambda: timed(lambda: [similarity(b) for b in range(batches)]) / batches
    if not without_torch(config, "sampler"):
        peer = Torch(
            config.torch_python, "sampler",
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
            row = benchmarks.row(f"P×K batches, {name}", mine, other, "1/s", mine / other, target)
            rows.append(measured(row, pair, versions))
    return rows


def random_images(count: int, size: int) -> np.ndarray:
    """uint8 [count, size, size, 3], in memory as an ImageStore has it."""
    from mgta_tf.data.store import aligned

    pixels, rng = aligned((count, size, size, 3)), np.random.default_rng(0)
    for first in range(0, count, 1000):
        part = pixels[first : first + 1000]
        part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)
    return pixels


class InMemory:
    """What a Feed needs of an ImageStore."""

    def __init__(self, pixels: np.ndarray):
        self.size, self.pixels = pixels.shape[1], pixels


def similarity_sampler(pixels, labels, P: int, K: int) -> Callable[[int], Any] | None:
    """tensorflow-similarity's batch number b, or None where it is not installed.

    Its package imports search and plots, which want libraries of their own; its samplers need none.
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
    tf = tensorflow()
    return lambda number: [tf.convert_to_tensor(part) for part in theirs[number]]


# --------------------------------------------------------------------------- Rounds, memory, start


def labels(config: BenchConfig) -> list[dict]:
    """Encode and k-means of N images as a share of a turn at the paper's settings.

    A turn: 30,000 images are labelled with K = 300, then trained on for 10 epochs. Images a second
    of both are measured on a few batches; k-means on all N, of points drawn as in
    bench_clustering.py.
    """
    from mgta_tf.clustering.lloyd import kmeans
    from mgta_tf.data.pipeline import Feed
    from tools.bench.clustering import draw

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
    row = benchmarks.row("labels of a round", label, training, "s", share, 0.1, below=True)
    return [measured(row, seconds)]


def memory(config: BenchConfig) -> list[dict]:
    """Peaks at miniImageNet's size, with images read as needed and in memory: a process each."""
    rows = []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for images, held in (("read as needed", FULL["batch"]), ("in memory", config.sampled)):
            peak = pool.apply(peak_of_run, (held, config.sampled)) / 1024
            name = f"peak memory, miniImageNet, images {images}"
            row = benchmarks.row(name, peak, None, "GiB", peak / 4, 1.0, below=True)
            rows.append(measured(row, {}))
    return rows


def peak_of_run(held: int, count: int) -> float:
    """MiB of a process that holds `held` images of 84 px, trains and encodes with both nets, and
    clusters the features of half of `count` images.
    """
    from mgta_tf.clustering.lloyd import kmeans
    from mgta_tf.data.pipeline import Feed
    from mgta_tf.training.needs import peak_memory_mb

    pixels, images = random_images(held, 84), np.arange(8 * FULL["batch"], dtype=np.int32) % held
    plan, labels = images.reshape(8, -1)[:3], np.zeros(held, np.int32)
    nets = [make_learner(**FULL) for _ in range(2)]
    for strategy, net in nets:
        feed = Feed(InMemory(pixels), FULL["batch"], strategy)
        for _, monitors in net.fit(feed.batches(plan, labels, [1]), 0.5, lambda step: 1e-3):
            float(monitors["loss"])
        encode_all(net, feed, images, "embedding")
    rng, features = np.random.default_rng(0), np.empty((count // 2, 2048), np.float32)
    for part in np.array_split(np.arange(len(features)), 30):
        features[part] = rng.standard_normal((len(part), 2048), np.float32)
    kmeans(features, 300, 0, max_steps=3)
    return peak_memory_mb()


def start(config: BenchConfig) -> list[dict]:
    """Seconds from the shell to the first step of the laptop twin, on a folder of 1,024 files."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        images = os.path.join(folder, "images")
        os.mkdir(images)
        write_images(images, config.images, 64)
        for number in range(min(3, config.repeats)):
            seconds.append(start_once(images, os.path.join(folder, f"run{number}")))
    mine = statistics.median(seconds)
    row = benchmarks.row("start, laptop twin", mine, None, "s", mine / 30, 1.0, below=True)
    return [measured(row, {"ours": seconds})]


def start_once(images: str, workdir: str) -> float:
    command = [
        sys.executable, "-m", "mgta_tf.train", f"--data_dir={images}", f"--workdir={workdir}",
        "--image_size=32", "--width=0.25", "--blocks=2,2,2,2", "--log_every_steps=1",
        "--num_clusters=20",
    ]  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    first = process.stderr.readline()
    seconds = time.monotonic() - began
    process.kill()
    process.wait()
    if "loss" not in first:
        raise UserError(f"start: the run began with {first.strip()!r}")
    return seconds


# --------------------------------------------------------------------------------------------- Laws


def scaling(config: BenchConfig) -> list[dict]:
    """Seconds of a step over pixels, and of a round over N: straight lines, and how far off."""
    sizes, steps = (32, 64, 96, 128), []
    for size in sizes:
        shape: dict[str, Any] = {**FULL, "size": size, "batch": 16}
        once = bare_step(make_learner(**shape)[1], **shape)
        steps.append(min(timed(once) for _ in range(config.repeats)) / 16)
        print(f"{size} px: {steps[-1] * 1e3:.1f} ms an image", flush=True)
    counts = [config.round_images // part for part in (10, 5, 2, 1)]
    rounds = []
    for count in counts:
        rounds.append(seconds_of_round(count))
        print(f"N = {count}: a round takes {rounds[-1]:.1f} s", flush=True)
    laws = {
        "step": fit_line(np.array(sizes) ** 2, steps),
        "round": fit_line(np.array(counts), rounds),
    }
    if config.plot:
        draw_laws(config.plot, (np.array(sizes), steps), (np.array(counts), rounds), laws)
    rows = []
    for name, (fixed, slope, error) in laws.items():
        unit = "pixel of an image" if name == "step" else "image"
        print(f"a {name} takes {fixed:.3g} s + {slope:.3g} s a {unit}; largest error {error:.0%}")
        row = benchmarks.row(
            f"law of a {name}, error", error, None, "share", error, 0.15, below=True
        )
        rows.append({**measured(row, {}), "fixed_seconds": fixed, "seconds_each": slope})
    rows[0].update(x=list(sizes), y=steps)
    rows[1].update(x=counts, y=rounds)
    return rows


def seconds_of_round(count: int) -> float:
    """One round of the laptop twin at 32 px, an epoch on each half, in a run of its own."""
    from mgta_tf import config as config_lib
    from mgta_tf import train
    from mgta_tf.training.config import TrainConfig

    flags = dict(
        data_source="shapes", shapes_count=count, image_size=32, width=0.25, blocks=(2, 2, 2, 2),
        iae_epochs=0, rounds=1, epochs_per_round=1, final_epochs=0, num_clusters=50,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        workdir = os.path.join(folder, "run")
        train.main(config_lib.from_dict(TrainConfig, {**flags, "workdir": workdir}))
        with open(os.path.join(workdir, "summary.json"), encoding="utf-8") as file:
            stages = json.load(file)["stages"]
    return sum(stage["seconds"] + stage["label_seconds"] for stage in stages)


def fit_line(x: np.ndarray, y: list[float]) -> tuple[float, float, float]:
    """y = a + b·x by least squares of relative errors: (a, b, largest relative error)."""
    weights = 1 / np.array(y)
    terms = np.stack([np.ones(len(x)), x], 1) * weights[:, None]
    (fixed, slope), *_ = np.linalg.lstsq(terms, np.ones(len(x)), rcond=None)
    error = float(np.abs((fixed + slope * x) * weights - 1).max())
    return float(fixed), float(slope), error


def draw_laws(path: str, step_points, round_points, laws) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, (x, y), (name, law), scale in zip(
        axes, (step_points, round_points), laws.items(), (1e3, 1)
    ):
        fine = np.linspace(0, x.max(), 100)
        measure = fine**2 if name == "step" else fine
        axis.plot(fine, (law[0] + law[1] * measure) * scale, color="0.6", label="fitted")
        axis.plot(x, np.array(y) * scale, "o", label="measured")
        axis.set_ylim(bottom=0)
        axis.legend()
    axes[0].set(xlabel="pixels per side", ylabel="ms an image", title="training step, full size")
    axes[1].set(xlabel="images", ylabel="seconds", title="a round, laptop twin, 32 px")
    figure.savefig(path, dpi=120)


RUNS = {
    "step": step,
    "epoch": epoch,
    "encode": encode,
    "sampler": sample,
    "labels": labels,
    "memory": memory,
    "start": start,
    "scaling": scaling,
}
NAME = ""


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in (*NAMES, "all", "--help"):
        cli.fail(f"name a benchmark first: {', '.join(NAMES)} or all", status=2)
    if sys.argv[1] != "--help":
        NAME = sys.argv.pop(1)
    cli.run(main, BenchConfig)
