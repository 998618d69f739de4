"""Peers: what a user would pick instead, trained in PyTorch and evaluated like the study's rows.

  python tools/peers.py --do=check --torch_python=PY [--data_dir=tiny-imagenet-100]
  python tools/peers.py --do=search --torch_python=PY --data_dir=tiny-imagenet-100 --workdir=W
  python tools/peers.py --do=rows --torch_python=PY --data_dir=tiny-imagenet-100 --workdir=W
  python tools/peers.py --do=page

`check` shows that both frameworks have one encoder: the same weights give the same endpoints.
`search` tunes each method on a held-out third of the training images; validation images are never
read. `rows` trains each method with the best flags that the search has found, at the cost of the
study's defaults and at half of it. Every run becomes a row of --results as soon as it is
evaluated, and is not run again: rerun the same command to resume. requirements-peers.txt says how
to make PyTorch's environment, whose interpreter is --torch_python.

Cost is counted in image passes a photograph. The encoder forward and backward over one image is
one pass, a forward alone a third; heads and losses are not counted, but `cpu_seconds` has them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import experiment
import numpy as np
import tensorflow as tf

from mgta_tf import cli, probe
from mgta_tf.config import flag
from mgta_tf.data import pipeline
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import load_store
from mgta_tf.errors import UserError
from mgta_tf.evaluation import features
from mgta_tf.models import artifact
from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ENDPOINTS, ModelConfig, build_encoder
from mgta_tf.run import versions
from mgta_tf.runtime.monitoring import write_atomically, write_json

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers_torch.py")

SMALL: dict[str, Any] = dict(image_size=32, width=0.25, blocks=[2, 2, 2, 2])
PROBE: dict[str, Any] = dict(dataset="folder", image_size=32, svm_costs="0.01,0.1,1")
SCREEN_PROBE: dict[str, Any] = {**PROBE, "svm_costs": "0.1"}
MILD: dict[str, Any] = dict(crop_min_area=0.4, color_jitter=0.2, grayscale=0.0)
STRONG: dict[str, Any] = dict(crop_min_area=0.3, color_jitter=0.4, grayscale=0.2)
COSTS = {"_half": 36, "": 72}  # suffix of a row's method: image passes a photograph
SCREEN = 12  # image passes of a trial, a third of the half
METHODS = ("simclr", "triplets", "vicreg", "byol", "nnclr", "swav", "supervised")
START: dict[str, Any] = dict(batch=32, learning_rate=3e-3, **MILD)
# What is tried, one axis after the other; the best so far keeps its place on the others.
BATCH, CROPS = (dict(batch=32), dict(batch=128)), (MILD, STRONG)
AXES: tuple[tuple[dict[str, Any], ...], ...] = (CROPS, BATCH)
SIMCLR_AXES: tuple[tuple[dict[str, Any], ...], ...] = (
    BATCH,
    (dict(learning_rate=1e-3), dict(learning_rate=3e-3)),
    CROPS,
    (dict(temperature=0.1), dict(temperature=0.5)),
)
DEFAULTS: dict[str, dict[str, Any]] = {"simclr": dict(temperature=0.2)}
SAME = 1e-4  # largest difference of two endpoints, as a share of the largest value

PARAMETERS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
KEPT = ("map", "top1", "knn", "passes", "seconds", "cpu_seconds", "train_cpu_seconds", "loss")


@dataclasses.dataclass(frozen=True)
class PeersConfig:
    """The peers."""

    do: str = flag("rows", "What is done.", choices=("check", "search", "rows", "page"))
    torch_python: str = flag("", "Python interpreter of the environment that has PyTorch.")
    data_dir: str = flag("", "Tiny ImageNet's layout; the labels only evaluate.")
    workdir: str = flag("", "Folder for the runs.")
    results: str = flag("docs/results", "Folder of the rows and of the page.")
    search: str = flag("docs/results/peer_search.json", "JSON of all trials.")
    methods: str = flag(",".join(METHODS), "Methods, separated by commas.")
    passes: str = flag("36,72", "Costs of the rows, separated by commas.")
    seeds: str = flag("1", "Seeds of the rows, separated by commas.")


def main(config: PeersConfig) -> None:
    needed = {"check": ("torch_python",), "page": ()}
    for name in needed.get(config.do, ("torch_python", "data_dir", "workdir")):
        if not getattr(config, name):
            raise UserError(f"--{name} is required for --do={config.do}")
    unknown = set(config.methods.split(",")) - set(METHODS)
    if unknown:
        raise UserError(f"--methods={config.methods}: unknown {', '.join(sorted(unknown))}")
    {"check": check, "search": search, "rows": rows, "page": write_page}[config.do](config)


def search(config: PeersConfig) -> None:
    """Tunes each method by screens on the held-out third, SimCLR first."""
    data_dir = os.path.join(config.workdir, "held_out")
    experiment.hold_out(config.data_dir, data_dir, share=1 / 3)
    known = experiment.load_rows(config.search)
    for method in config.methods.split(","):
        while (tried := next_trial(known, method)) is not None:
            flags = flags_of(method, tried, SCREEN)
            folder = os.path.join(config.workdir, "search", f"{len(known):03d}")
            found = run(config, data_dir, folder, flags, 1, SCREEN_PROBE)
            known.append({"method": f"peer_{method}", "seed": 1, **found, "flags": flags})
            write_json(config.search, known)
            print(f"{method}: mAP {found['map']:.2f}, {json.dumps(tried)}", flush=True)


def next_trial(known: list[dict[str, Any]], method: str) -> dict[str, Any] | None:
    """The flags to try next: one axis after the other, from what is best for SimCLR.

    A pure function of the rows `known`; None when all has been tried.
    """
    first = {} if method == "simclr" else best_flags(known, "simclr")
    first = {**START, **{name: first[name] for name in START if name in first}}
    best: tuple[float, dict[str, Any]] = (-1.0, {**first, **DEFAULTS.get(method, {})})
    for axis in ((), *(SIMCLR_AXES if method == "simclr" else AXES)):
        here = best[1]
        for change in ({}, *axis):
            tried = {**here, **change}
            flags = flags_of(method, tried, SCREEN)
            row = next((row for row in known if row["flags"] == flags), None)
            if row is None:
                return tried
            best = max(best, (row["map"], tried), key=lambda pair: pair[0])
    return None


def best_flags(known: list[dict[str, Any]], method: str) -> dict[str, Any]:
    """The flags of the best trial of a method.

    Raises:
      UserError: it has none.
    """
    trials = [row for row in known if row["method"] == f"peer_{method}"]
    if not trials:
        raise UserError(f"no trial of {method}; run --do=search with --methods={method} first")
    return max(trials, key=lambda row: row["map"])["flags"]


def flags_of(method: str, tried: dict[str, Any], passes: int) -> dict[str, Any]:
    """What decides a peer's encoder; neither seed nor paths."""
    return {"method": method, "passes": passes, **SMALL, **tried}


def rows(config: PeersConfig) -> None:
    """Trains and evaluates each method with its best flags; a row for each cost and seed."""
    known = experiment.load_rows(config.search)
    for seed in map(int, config.seeds.split(",")):
        for passes in map(int, config.passes.split(",")):
            for method in config.methods.split(","):
                flags = {**best_flags(known, method), "passes": passes}
                add_row(config, row_name(method, passes), flags, seed)


def row_name(method: str, passes: int) -> str:
    for suffix, cost in COSTS.items():
        if cost == passes:
            return f"peer_{method}{suffix}"
    raise UserError(f"--passes={passes}: must be one of {', '.join(map(str, COSTS.values()))}")


def add_row(config: PeersConfig, name: str, flags: dict[str, Any], seed: int) -> None:
    """Makes a row unless it is there.

    Raises:
      UserError: the row that is there was made with other flags.
    """
    path = os.path.join(config.results, f"{name}.json")
    known = experiment.load_rows(path)
    for row in known:
        if row["seed"] == seed:
            if row["flags"] != flags:
                raise UserError(f"{path}: seed {seed} was run with other flags; move it away")
            return
    folder = os.path.join(config.workdir, f"seed_{seed}", name)
    found = run(config, config.data_dir, folder, flags, seed, PROBE)
    row = {"method": name, "seed": seed, **found, "flags": flags, "date": time.strftime("%Y-%m-%d")}
    os.makedirs(config.results, exist_ok=True)
    write_json(path, sorted([*known, row], key=lambda row: row["seed"]))
    print(f"{name}, seed {seed}: mAP {found['map']:.2f}", flush=True)


def run(
    config: PeersConfig,
    data_dir: str,
    folder: str,
    flags: dict[str, Any],
    seed: int,
    evaluation: dict[str, Any],
) -> dict[str, Any]:
    """Trains in PyTorch, exports to `folder`/saved_model, evaluates by the probe's flags.

    Returns:
      What a row keeps: the probe's findings, `passes` (image passes a photograph, as trained),
      `cpu_seconds` of training and evaluation, `train_cpu_seconds`, `seconds`, `loss` (first, last)
      and `versions`.
    """
    began, cpu = time.monotonic(), time.process_time()
    os.makedirs(folder, exist_ok=True)
    keras_encoder = untrained_encoder(seed)
    images, initial = (os.path.join(folder, name) for name in ("images.npz", "initial.npz"))
    store = load_store(
        open_source(DataConfig(data_dir=data_dir), "train"), size=SMALL["image_size"]
    )
    if store.labels is None:
        raise UserError(
            f"--data_dir={data_dir}: no class labels found; use one sub-folder per class"
        )
    labels = store.labels.astype(np.int64)
    np.savez(images, pixels=store.batch(np.arange(len(store))), labels=labels)
    np.savez(initial, **to_torch(keras_encoder))
    weights = os.path.join(folder, "weights.npz")
    job = dict(images=images, initial=initial, weights=weights, flags=flags, seed=seed)
    report = trained(folder, job) or in_torch(config.torch_python, "train", job, folder)
    os.remove(images)
    with np.load(weights) as arrays:
        from_torch(keras_encoder, dict(arrays))
    saved_model, output = (os.path.join(folder, name) for name in ("saved_model", "probe.json"))
    export(keras_encoder, saved_model)
    probe.main(
        probe.ProbeConfig(data_dir=data_dir, saved_model=saved_model, output=output, **evaluation)
    )
    with open(output, encoding="utf-8") as file:
        found = json.load(file)
    found["seconds"] = time.monotonic() - began
    found["cpu_seconds"] = report["train_cpu_seconds"] + time.process_time() - cpu
    kept = {key: {**found, **report}[key] for key in KEPT}
    return {**kept, "versions": {**versions(), **report["versions"]}}


def trained(folder: str, job: dict[str, Any]) -> dict[str, Any] | None:
    """The report of a training with this job that an interrupted run has left, else None."""
    try:
        with open(os.path.join(folder, "train.json"), encoding="utf-8") as file:
            known = json.load(file)
        with open(known.pop("report"), encoding="utf-8") as file:
            return json.load(file) if known == job else None
    except FileNotFoundError:
        return None


def in_torch(python: str, what: str, job: dict[str, Any], folder: str) -> dict[str, Any]:
    """Runs a job of tools/peers_torch.py; what it reports.

    Raises:
      UserError: it failed; the message is its last line.
    """
    path, report, log = (os.path.join(folder, f"{what}.{end}") for end in ("json", "out", "log"))
    if os.path.exists(report):
        os.remove(report)  # of another job
    write_json(path, {**job, "report": report})
    with open(log, "a", encoding="utf-8") as file:
        try:
            done = subprocess.run([python, SCRIPT, what, path], stdout=file, stderr=file)
        except OSError as error:
            raise UserError(f"--torch_python={python}: {error.strerror}") from None
    if done.returncode:
        with open(log, encoding="utf-8") as file:
            last = file.read().strip().splitlines()[-1:]
        raise UserError(f"{log}: tools/peers_torch.py failed: {' '.join(last)}")
    with open(report, encoding="utf-8") as file:
        return json.load(file)


def untrained_encoder(seed: int) -> tf.keras.Model:
    tf.keras.utils.set_random_seed(seed)
    return build_encoder(ModelConfig(width=SMALL["width"], blocks=tuple(SMALL["blocks"])))


def torch_name(variable: str) -> str:
    """`res2_block1_1_conv/kernel:0` → `res2_block1_1.conv.weight`, as PyTorch's encoder has it."""
    layer, parameter = variable.split(":")[0].split("/")
    block, kind = layer.rsplit("_", 1)
    return f"{block}.{kind}.{PARAMETERS[parameter]}"


def to_torch(encoder: tf.keras.Model) -> dict[str, np.ndarray]:
    """Weights by PyTorch's names; kernels [h, w, in, out] become [out, in, h, w]."""
    arrays = {torch_name(v.name): v.numpy() for v in encoder.weights}
    return {n: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a for n, a in arrays.items()}


def from_torch(encoder: tf.keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """The inverse of `to_torch`, into `encoder`."""
    for variable in encoder.weights:
        array = arrays[torch_name(variable.name)]
        variable.assign(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)


def export(encoder: tf.keras.Model, directory: str) -> None:
    """Writes a SavedModel as mgta_tf.export does; its decoder is untrained."""
    model = ModelConfig(width=SMALL["width"], blocks=tuple(SMALL["blocks"]))
    autoencoder = build_autoencoder(model)
    autoencoder.encoder.set_weights(encoder.get_weights())
    facts = artifact.Facts(model, "unit", SMALL["image_size"], "peer")
    artifact.save(autoencoder, facts, directory)


def check(config: PeersConfig) -> None:
    """Compares both frameworks: endpoints, augmentation, weights both ways, the untrained score.

    Raises:
      UserError: they differ by more than SAME.
    """
    with tempfile.TemporaryDirectory() as folder:
        worst = dict(differences(config.torch_python, folder))
        for what, difference in worst.items():
            print(f"{what}: largest difference {difference:.1e} of the largest value", flush=True)
        if config.data_dir:
            ours, theirs = untrained_scores(config, folder)
            print(f"untrained encoder, SVM mAP: {ours:.4f} in TensorFlow, {theirs:.4f} in PyTorch")
    if max(worst.values()) > SAME:
        raise UserError(f"the two encoders differ by more than {SAME}; see above")
    print(f"both frameworks have one encoder, to {SAME}")


def differences(python: str, folder: str) -> Iterator[tuple[str, float]]:
    """What is compared and the largest difference, as a share of the largest value."""
    encoder, rng = untrained_encoder(1), np.random.default_rng(0)
    for variable in encoder.weights:  # batch norm of a trained encoder
        if variable.name.endswith(("gamma:0", "moving_variance:0")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name.endswith(("beta:0", "moving_mean:0")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    for size in (32, 64, 47):  # the last is odd at every stage
        pixels = rng.integers(0, 256, (8, size, size, 3), np.uint8)
        uniforms = rng.random((8, pipeline.UNIFORMS), np.float32)
        found = torch_endpoints(python, folder, encoder, pixels, uniforms)
        expected = {n: v.numpy() for n, v in encoder(pixels / np.float32(255)).items()}
        for name in ENDPOINTS:
            yield f"{name} of {size} px", difference(found[name], expected[name])
        augmentation = pipeline.AugmentConfig(image_size=32, **STRONG)
        if size == 32:
            expected_images = pipeline.augment(pixels, uniforms, augmentation)[0].numpy() / 255
            yield "augmented images", difference(found["augmented"], expected_images)
    images, weights = os.path.join(folder, "train.npz"), os.path.join(folder, "weights.npz")
    initial = os.path.join(folder, "initial.npz")
    np.savez(images, pixels=rng.integers(0, 256, (64, 32, 32, 3), np.uint8), labels=np.arange(64))
    np.savez(initial, **to_torch(encoder))
    job = dict(images=images, initial=initial, weights=weights, seed=1)
    in_torch(python, "train", {**job, "flags": flags_of("triplets", START, passes=8)}, folder)
    with np.load(weights) as arrays:
        from_torch(encoder, dict(arrays))
    pixels = rng.integers(0, 256, (8, 32, 32, 3), np.uint8)
    found = torch_endpoints(python, folder, encoder, pixels, uniforms)
    expected = encoder(pixels / np.float32(255))["res4"].numpy()
    yield "res4 after training in PyTorch", difference(found["res4"], expected)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def torch_endpoints(
    python: str, folder: str, encoder: tf.keras.Model, pixels: np.ndarray, uniforms: np.ndarray
) -> dict[str, np.ndarray]:
    """All endpoints of uint8 images [N, H, W, 3] by PyTorch with an encoder's weights."""
    names = ("images.npz", "initial.npz", "endpoints.npz")
    images, weights, output = (os.path.join(folder, name) for name in names)
    np.savez(images, pixels=pixels, draws=uniforms[:, :9])
    np.savez(weights, **to_torch(encoder))
    job = dict(images=images, weights=weights, output=output, flags={**SMALL, **STRONG})
    in_torch(python, "endpoints", job, folder)
    with np.load(output) as arrays:
        return dict(arrays)


def untrained_scores(config: PeersConfig, folder: str) -> tuple[float, float]:
    """SVM mAP of one untrained encoder by TensorFlow's features and by PyTorch's."""
    encoder = untrained_encoder(1)
    asked = probe.ProbeConfig(data_dir=config.data_dir, output=folder, **PROBE)
    sets = probe.folder_sets(asked)
    values: list[list[np.ndarray]] = [[], []]
    for part in sets:
        pixels = part.load(np.arange(len(part.targets)))
        draws = np.zeros((len(pixels), pipeline.UNIFORMS), np.float32)
        ours = encoder.predict(pixels / np.float32(255), batch_size=256, verbose=0)
        theirs = torch_endpoints(config.torch_python, folder, encoder, pixels, draws)
        for known, found in zip(values, (ours, theirs)):
            known.append(features.normalize(features.pool(found["res4"], "res4")))
    costs = probe.parse_costs(asked.svm_costs)
    ours_found, theirs_found = (probe.judge(asked, costs, sets, v)["map"] for v in values)
    return ours_found, theirs_found


def write_page(config: PeersConfig) -> None:
    """peers.md beside the rows: all rows, then all trials."""
    names = [row_name(method, cost) for method in METHODS for cost in COSTS.values()]
    found = [
        row
        for name in names
        for row in experiment.load_rows(os.path.join(config.results, f"{name}.json"))
    ]
    write_atomically(
        os.path.join(config.results, "peers.md"), page(found, experiment.load_rows(config.search))
    )


PAGE = """# Peers

Written by `tools/peers.py`. Methods that a user would pick instead, in PyTorch with lightly's
losses and heads: the same encoder from the same first weights, the same images and augmentation,
AdamW, warm-up and cosine decay, one thread. Features of res4 are evaluated like every row of the
study.

An image pass is the encoder forward and backward over one image; a forward alone is a third. The
defaults of `mgta_tf.train` cost 72 passes a photograph when these were run, so the peers get 72
and 36. CPU s: training and evaluation; in brackets training alone. Other work ran on the machine's
cores at the same time, which makes a CPU second worth less: compare passes.

## Rows

{rows}

## Tuning

On a third of the training photographs, held out, {screen} passes a photograph, one seed, SVMs with
C = 0.1. SimCLR is tuned first: batch, learning rate, crops and temperature, one axis at a time; the
best of an axis is kept. The other methods start from SimCLR's best and have the crops and the
batch. Mild crops: area ≥ 0.4, jitter 0.2, no grey. Strong: 0.3, 0.4, a fifth grey.

{trials}
"""


def page(found: list[dict[str, Any]], trials: list[dict[str, Any]]) -> str:
    header = ["method", "batch", "rate", "crops", "temperature", "passes", "CPU s", "seed"]
    header += ["SVM mAP", "top-1", "20-NN"]
    return PAGE.format(
        screen=SCREEN,
        rows=table(header, found),
        trials=table(header, trials),
    )


def table(header: list[str], found: list[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in found:
        flags = row["flags"]
        mild = flags["crop_min_area"] == MILD["crop_min_area"]
        cells = [
            f"`{row['method']}`",
            flags["batch"],
            f"{flags['learning_rate']:g}",
            "mild" if mild else "strong",
            flags.get("temperature", ""),
            f"{row['passes']:.0f}",
            f"{row['cpu_seconds']:.0f} ({row['train_cpu_seconds']:.0f})",
            row["seed"],
            *(f"{value:.2f}" for value in (row["map"], row["top1"], row["knn"]["20"])),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main, PeersConfig)
