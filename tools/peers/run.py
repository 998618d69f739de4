"""Peers: methods that a user might choose instead, in PyTorch, evaluated like the study's rows.

  python tools/peers.py --do=check --torch_python=PY [--data_dir=tiny-imagenet-100]
  python tools/peers.py --do=search --torch_python=PY --data_dir=tiny-imagenet-100 --workdir=W
  python tools/peers.py --do=rows --torch_python=PY --data_dir=tiny-imagenet-100 --workdir=W
  python tools/peers.py --do=page

`check` shows that both frameworks have the same encoder: equal weights give equal endpoints.
`search` tunes each method on a held-out third of the training images; validation images are never
read. `rows` trains each method with the best flags that the search has found, at the cost of the
study's defaults and at half of it. Every run becomes a row of --results as soon as it is
evaluated, and is not run again: rerun the same command to resume. requirements-peers.txt says how
to make PyTorch's environment, whose interpreter is --torch_python.

Cost is counted in image passes per photograph. The encoder forward and backward over one image is
one pass, a forward alone a third; heads and losses are not counted, but `cpu_seconds` has them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from typing import Any

import numpy as np

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_json, write_text
from mgta_tf.training.summary import versions
from tools.peers import bridge
from tools.study import experiment
from tools.study.evaluation import PROBE, SCREEN_PROBE, Evaluation, encode, open_evaluation

COSTS = {"_half": 36, "": 72}  # suffix of a row's method: image passes per photograph
SCREEN = 12  # image passes of a trial, a third of the half
METHODS = ("simclr", "triplets", "vicreg", "byol", "nnclr", "swav", "supervised")
START: dict[str, Any] = dict(batch=32, learning_rate=3e-3, **bridge.MILD)
# Axes of the search, (passes, changes), one after the other; the best value of an axis is kept for
# the next. Crops are chosen again at the full cost: the longer the training, the stronger the best.
# A method whose short trials stay below CLOSE of SimCLR's best is not tried at the full cost.
CLOSE = 0.9
Axis = tuple[int, tuple[dict[str, Any], ...]]
BATCH: Axis = (SCREEN, (dict(batch=32), dict(batch=128)))
CROPS: Axis = (SCREEN, (bridge.MILD, bridge.STRONG))
FULL_CROPS: Axis = (COSTS[""], tuple(bridge.CROPS.values()))
AXES: tuple[Axis, ...] = (CROPS, BATCH, FULL_CROPS)
SIMCLR_AXES: tuple[Axis, ...] = (
    BATCH,
    (SCREEN, (dict(learning_rate=1e-3), dict(learning_rate=3e-3))),
    CROPS,
    (SCREEN, (dict(temperature=0.1), dict(temperature=0.5))),
    FULL_CROPS,
)
DEFAULTS: dict[str, dict[str, Any]] = {"simclr": dict(temperature=0.2)}
KEPT = ("map", "top1", "knn", "passes", "seconds", "cpu_seconds", "train_cpu_seconds", "loss")


@dataclasses.dataclass(frozen=True)
class PeersConfig:
    """The peers."""

    do: str = flag("rows", "Action to perform.", choices=("check", "search", "rows", "page"))
    torch_python: str = flag("", "Python interpreter of the environment that has PyTorch.")
    data_dir: str = flag(
        "", "Images in Tiny ImageNet's layout; the labels are used for evaluation only."
    )
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
    evaluation = open_evaluation(data_dir, SCREEN_PROBE)
    for method in config.methods.split(","):
        while (flags := next_trial(known, method)) is not None:
            folder = os.path.join(config.workdir, "search", f"{len(known):03d}")
            found = run(config.torch_python, evaluation, folder, flags, seed=1)
            known.append({"method": f"peer_{method}", "seed": 1, **found, "flags": flags})
            write_json(config.search, known)
            print(f"{method}: mAP {found['map']:.2f}, {json.dumps(flags)}", flush=True)


def next_trial(known: list[dict[str, Any]], method: str) -> dict[str, Any] | None:
    """The flags of the next trial: one axis after the other, starting from SimCLR's best.

    A pure function of the rows `known`; None when all has been tried, or when the method is too far
    behind for the trials at the full cost.
    """
    simclr = best_trial(known, "simclr", SCREEN) if method != "simclr" else {"flags": {}, "map": 0}
    first = simclr["flags"]
    here = {**START, **{name: first[name] for name in START if name in first}}
    here = {**here, **DEFAULTS.get(method, {})}
    for passes, axis in SIMCLR_AXES if method == "simclr" else AXES:
        if passes > SCREEN and best_trial(known, method, SCREEN)["map"] < CLOSE * simclr["map"]:
            return None
        best: tuple[float, dict[str, Any]] = (-1.0, here)
        for change in ({}, *axis):
            tried = {**here, **change}
            flags = flags_of(method, tried, passes)
            row = next((row for row in known if row["flags"] == flags), None)
            if row is None:
                return flags
            best = max(best, (row["map"], tried), key=lambda pair: pair[0])
        here = best[1]
    return None


def best_trial(known: list[dict[str, Any]], method: str, passes: int) -> dict[str, Any]:
    """A method's best trial among those with the most passes, but at most `passes`.

    Raises:
      UserError: it has none.
    """
    trials = [row for row in known if row["method"] == f"peer_{method}"]
    trials = [row for row in trials if row["flags"]["passes"] <= passes]
    if not trials:
        raise UserError(f"no trial of {method}; run --do=search with --methods={method} first")
    return max(trials, key=lambda row: (row["flags"]["passes"], row["map"]))


def flags_of(method: str, tried: dict[str, Any], passes: int) -> dict[str, Any]:
    """The flags that determine a peer's encoder, without seed and paths."""
    return {"method": method, "passes": passes, **bridge.SMALL, **tried}


def rows(config: PeersConfig) -> None:
    """Trains and evaluates each method with its best flags; a row for each cost and seed."""
    known = experiment.load_rows(config.search)
    evaluation = open_evaluation(config.data_dir, PROBE)
    for seed in map(int, config.seeds.split(",")):
        for passes in map(int, config.passes.split(",")):
            for method in config.methods.split(","):
                flags = {**best_trial(known, method, passes)["flags"], "passes": passes}
                add_row(config, evaluation, row_name(method, passes), flags, seed)


def row_name(method: str, passes: int) -> str:
    for suffix, cost in COSTS.items():
        if cost == passes:
            return f"peer_{method}{suffix}"
    raise UserError(f"--passes={passes}: must be one of {', '.join(map(str, COSTS.values()))}")


def add_row(
    config: PeersConfig, evaluation: Evaluation, name: str, flags: dict[str, Any], seed: int
) -> None:
    """Adds a row, unless it exists, and saves its encoder in the workdir.

    Raises:
      UserError: the existing row has other flags.
    """
    path = os.path.join(config.results, f"{name}.json")
    known = experiment.load_rows(path)
    for row in known:
        if row["seed"] == seed:
            if row["flags"] != flags:
                raise UserError(f"{path}: seed {seed} was run with other flags; move it away")
            return
    folder = os.path.join(config.workdir, f"seed_{seed}", name)
    found = run(config.torch_python, evaluation, folder, flags, seed)
    row = {"method": name, "seed": seed, **found, "flags": flags, "date": time.strftime("%Y-%m-%d")}
    write_json(path, sorted([*known, row], key=lambda row: row["seed"]))
    print(f"{name}, seed {seed}: mAP {found['map']:.2f}", flush=True)


def run(
    python: str, evaluation: Evaluation, folder: str, flags: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Trains in PyTorch on the evaluation's training images, exports to `folder`, evaluates.

    Returns:
      The values of a row: the probe's figures, `passes` (image passes per photograph, as trained),
      `cpu_seconds` and `seconds` of training and evaluation, `train_cpu_seconds`, `loss` (first,
      last) and `versions`.
    """
    encoder, images = bridge.untrained_encoder(seed), evaluation.images()
    labels = np.asarray(evaluation.sets[0].labels, np.int64)
    report = bridge.train(python, folder, encoder, images[0], labels, flags, seed)
    began, cpu = time.monotonic(), time.process_time()
    found = evaluation.evaluate([encode(encoder, part) for part in images])
    found["seconds"] = report["train_seconds"] + time.monotonic() - began
    found["cpu_seconds"] = report["train_cpu_seconds"] + time.process_time() - cpu
    bridge.export(encoder, os.path.join(folder, "saved_model"))
    kept = {key: {**found, **report}[key] for key in KEPT}
    return {**kept, "versions": {**report["versions"], **versions()}}


def check(config: PeersConfig) -> None:
    """Compares both frameworks: endpoints, augmentation, weights both ways, the untrained score.

    Raises:
      UserError: they differ by more than SAME.
    """
    with tempfile.TemporaryDirectory() as folder:
        worst = dict(bridge.differences(config.torch_python, folder))
        for what, difference in worst.items():
            print(f"{what}: largest difference {difference:.1e} of the largest value", flush=True)
        if config.data_dir:
            ours, theirs = untrained_scores(config, folder)
            print(f"untrained encoder, SVM mAP: {ours:.4f} in TensorFlow, {theirs:.4f} in PyTorch")
    if max(worst.values()) > bridge.SAME:
        raise UserError(f"the two encoders differ by more than {bridge.SAME}; see above")
    print(f"both frameworks have the same encoder, to {bridge.SAME}")


def untrained_scores(config: PeersConfig, folder: str) -> tuple[float, float]:
    """SVM mAP of the same untrained encoder with TensorFlow's and with PyTorch's features."""
    encoder, evaluation = bridge.untrained_encoder(1), open_evaluation(config.data_dir, PROBE)
    images = evaluation.images()
    ours = [encode(encoder, part) for part in images]
    theirs = [
        bridge.torch_endpoints(config.torch_python, folder, encoder, part)["res4"]
        for part in images
    ]
    return evaluation.evaluate(ours)["map"], evaluation.evaluate(theirs)["map"]


def write_page(config: PeersConfig) -> None:
    """peers.md beside the rows: all rows, then all trials."""
    names = [row_name(method, cost) for method in METHODS for cost in COSTS.values()]
    found = [
        row
        for name in names
        for row in experiment.load_rows(os.path.join(config.results, f"{name}.json"))
    ]
    write_text(
        os.path.join(config.results, "peers.md"), page(found, experiment.load_rows(config.search))
    )


PAGE = """# Peers

Written by `tools/peers.py`. Methods that a user would pick instead, in PyTorch with lightly's
losses and heads: the same encoder from the same first weights, the same images and augmentation,
AdamW, warm-up and cosine decay, one thread. Features of res4 are evaluated like every row of the
study.

An image pass is the encoder forward and backward over one image; a forward alone is a third. The
defaults of `mgta_tf.train` cost 72 passes per photograph when these were run; the peers get that,
or half of it. CPU s: training and evaluation; in brackets training alone. Other work ran on the
machine's cores at the same time, which makes a CPU second worth less: compare passes.

## Rows

{rows}

## Tuning

On a third of the training photographs, held out, one seed, SVMs with C = 0.1. SimCLR is tuned
first, with {screen} passes per photograph: batch, learning rate, crops and temperature, one axis at
a time; the best of an axis is kept. The crops of the rows with 72 passes are then chosen in trials
of 72 passes, as for the default. The other methods of the tool start from SimCLR's best, and those
whose short trials stay below {close:.0f} % of SimCLR's get none with all passes; a method without a
trial below has not been run. `peer_triplets` is this project's loss in PyTorch. Mild crops: area ≥
0.4, jitter 0.2, no gray. Medium: 0.3, 0.3, a tenth gray. Strong: 0.3, 0.4, a fifth gray (the
screens' have area 0.2).

{trials}

## How to repeat

```
python tools/peers.py --do=check --torch_python=PY --data_dir=tiny-imagenet-100
python tools/peers.py --do=search --torch_python=PY --data_dir=tiny-imagenet-100 --workdir=W
python tools/peers.py --do=rows --torch_python=PY --data_dir=tiny-imagenet-100 --workdir=W
for part in search rows page; do
    python tools/peers.py --do=$part --torch_python=PY --data_dir=cifar-10-1000 --methods=simclr \\
        --passes=72 --workdir=W/cifar10 --results=docs/results/cifar10 \\
        --search=docs/results/cifar10/peer_search.json
done
```

PY is the interpreter of an environment with PyTorch and lightly; `requirements-peers.txt` says how
to make it. `check` compares both frameworks: with the same weights all endpoints, and the augmented
images, agree to {same} of the largest value.
"""


def page(found: list[dict[str, Any]], trials: list[dict[str, Any]]) -> str:
    header = ["method", "batch", "rate", "crops", "temperature", "passes", "CPU s", "seed"]
    header += ["SVM mAP", "top-1", "20-NN"]
    return PAGE.format(
        screen=SCREEN,
        close=100 * CLOSE,
        same=bridge.SAME,
        rows=table(header, found),
        trials=table(header, trials),
    )


def table(header: list[str], found: list[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for row in found:
        flags = row["flags"]
        crops = next(name for name, crop in bridge.CROPS.items() if crop.items() <= flags.items())
        cells = [
            f"`{row['method']}`",
            flags["batch"],
            f"{flags['learning_rate']:g}",
            crops,
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
