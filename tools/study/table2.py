"""Prints the paper's Table 2 beside ours: linear SVMs on the res4 features of several encoders.

  python tools/table2.py --models=random=DIR,iae=DIR,mgta_100=DIR --voc_root=VOCdevkit \\
      --output=runs/table2
  python tools/table2.py --models=random=DIR,iae=DIR --dataset=folder --data_dir=PHOTOS \\
      --output=runs/table2

The names random, iae, mgta_100, mgta_300 and supervised are the paper's rows; others are rows of
their own. Each encoder is judged by mgta_tf.probe with the flags given here, unless a JSON of it
is in the output folder already. The folder gets one JSON a row, table2.txt, table2.csv (every
class) and table2.png.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from mgta_tf import cli, probe
from mgta_tf.config import flag, group
from mgta_tf.errors import UserError
from mgta_tf.evaluation import features
from mgta_tf.probe import ProbeConfig
from mgta_tf.runtime.files import write_text

PAPER = {  # name: (row of Table 2, mAP on VOC07)
    "random": ("Random", 8.0),
    "iae": ("IAE (baseline)", 23.8),
    "mgta_100": ("MGTA (k=100)", 29.7),
    "mgta_300": ("MGTA (k=300)", 31.3),
    "supervised": ("Supervised", 52.8),
}


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """The table; --output is a folder here, and --saved_model is not used."""

    models: str = flag("", "Rows as name=SavedModel, separated by commas.")
    probe: ProbeConfig = group(ProbeConfig)


def main(config: TableConfig) -> None:
    models = parse_models(config.models)
    if not config.probe.output:
        raise UserError("--output is missing: name a folder for the table")
    os.makedirs(config.probe.output, exist_ok=True)
    results = {}
    for name, saved_model in models.items():
        path = os.path.join(config.probe.output, f"{name}.json")
        if not _is_of(path, saved_model):
            print(f"{name}: {saved_model}", flush=True)
            asked = dataclasses.replace(config.probe, saved_model=saved_model, baselines=False)
            probe.main(dataclasses.replace(asked, output=path))
        with open(path, encoding="utf-8") as file:
            results[name] = json.load(file)
    write(config.probe.output, results)
    with open(os.path.join(config.probe.output, "table2.txt"), encoding="utf-8") as file:
        print(file.read(), end="")


def _is_of(path: str, saved_model: str) -> bool:
    """Whether a JSON is there and of this encoder, which may have been exported anew since."""
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        known = json.load(file).get("encoder")
    return known is None or known == features.model_digest(saved_model)


def parse_models(text: str, flag_name: str = "models") -> dict[str, str]:
    """'a=DIR,b=DIR' → {'a': 'DIR', 'b': 'DIR'}.

    Raises:
      UserError: it is something else, or names a row twice.
    """
    pairs = [part.partition("=") for part in text.split(",") if part]
    names = [name for name, _, path in pairs if name and path]
    if not pairs or len(set(names)) != len(pairs):
        raise UserError(f"--{flag_name}={text}: must be name=DIR,name=DIR, all names different")
    return {name: path for name, _, path in pairs}


def write(folder: str, results: dict[str, dict[str, Any]]) -> None:
    """table2.txt, table2.csv and table2.png of what the probes found."""
    write_text(os.path.join(folder, "table2.txt"), as_text(results))
    write_text(os.path.join(folder, "table2.csv"), as_csv(results))
    draw(os.path.join(folder, "table2.png"), results)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def as_text(results: dict[str, dict[str, Any]]) -> str:
    """A line for each row: the paper's mAP on VOC07, our mAP, and accuracies where there are any.

    Rows stand in the paper's order, ours below them.
    """
    first = next(iter(results.values()))
    accuracies = first["top1"] is not None
    head = f"{'encoder':18s} {'paper, VOC07':>13s} {'here, mAP':>10s}"
    lines = [head + (f" {'top-1':>7s} {'20-NN':>7s}" if accuracies else "")]
    for name in [n for n in PAPER if n in results] + [n for n in results if n not in PAPER]:
        row, result = PAPER.get(name, (name, None)), results[name]
        line = f"{row[0]:18s} {_number(row[1]):>13s} {_number(result['map']):>10s}"
        if accuracies:
            line += f" {_number(result['top1']):>7s} {_number(result['knn'].get('20')):>7s}"
        lines.append(line)
    lines.append(
        f"here: {first['num_train']} images to fit, {first['num_test']} to test, "
        f"{first['endpoint']}, pool: {first['pool']}, AP: {first['ap']}"
    )
    undefined = [c for c, ap in first["per_class"].items() if ap is None]
    if undefined:
        lines.append(f"no AP, and not in the mean, for want of positives: {', '.join(undefined)}")
    return "\n".join(lines) + "\n"


def as_csv(results: dict[str, dict[str, Any]]) -> str:
    """encoder, mAP, and the AP of each class; an undefined AP is an empty field."""
    classes = list(next(iter(results.values()))["per_class"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["encoder", "map", *classes])
    for name, result in results.items():
        values = [result["map"], *(result["per_class"][c] for c in classes)]
        writer.writerow([name, *("" if v is None else f"{v:.3f}" for v in values)])
    return text.getvalue()


def draw(path: str, results: dict[str, dict[str, Any]]) -> None:
    """Bars: the mAP, and the AP of each class that has one where they are 30 or fewer."""
    known = [r["per_class"] for r in results.values()]
    classes = [name for name in known[0] if any(ap[name] is not None for ap in known)]
    labels = ["mAP", *(classes if len(classes) <= 30 else [])]
    figure, axes = plt.subplots(figsize=(max(5.0, 0.75 * len(labels) + 2), 4.2))
    width = 0.8 / len(results)
    for number, (name, result) in enumerate(results.items()):
        values = [result["map"], *(result["per_class"][c] for c in labels[1:])]
        places = [x - 0.4 + width * (number + 0.5) for x in range(len(labels))]
        heights = [0.0 if v is None else v for v in values]
        axes.bar(places, heights, width, label=PAPER.get(name, (name,))[0])
    axes.set_xticks(range(len(labels)), labels, rotation=60 if len(labels) > 1 else 0, ha="right")
    axes.set_ylabel("average precision, %")
    axes.set_title("Linear SVMs on frozen features (Table 2)")
    save_bars(figure, axes, path)


def save_bars(figure: Any, axes: Any, path: str) -> None:
    """Writes a bar chart as PNG, with its grid and its legend, and lets go of it."""
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    cli.run(main, TableConfig)
