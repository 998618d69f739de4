"""Prints the paper's Table 2 beside ours: linear SVMs on the res4 features of several encoders.

  python tools/table2.py --models=random=DIR,iae=DIR,mgta_100=DIR --voc_root=VOCdevkit \\
      --output=runs/table2
  python tools/table2.py --models=random=DIR,iae=DIR --dataset=folder --data_dir=PHOTOS \\
      --output=runs/table2

The names random, iae, mgta_100, mgta_300 and supervised are the paper's rows; others are rows of
their own. Each encoder is evaluated by mgta_tf.probe with the flags given here, unless a JSON of it
is in the output folder already. The folder gets one JSON a row, table2.txt, table2.csv (every
class) and table2.png.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from matplotlib import pyplot as plt

from mgta_tf import cli, probe
from mgta_tf.config import flag, group
from mgta_tf.evaluation import features
from mgta_tf.probe import ProbeConfig
from tools.study import tables

# mAP on VOC07 in the paper's Table 2
PAPER = {"random": 8.0, "iae": 23.8, "mgta_100": 29.7, "mgta_300": 31.3, "supervised": 52.8}


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """The table; --output is a folder here, and --saved_model is not used."""

    models: str = flag("", "Rows as name=SavedModel, separated by commas.")
    probe: ProbeConfig = group(ProbeConfig)


def main(config: TableConfig) -> None:
    models = tables.parse_rows(config.models, "models")
    tables.make_folder(config.probe.output)
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
    print(as_text(results), end="")


def _is_of(path: str, saved_model: str) -> bool:
    """Whether a JSON exists and is of this encoder, which may have been exported again."""
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8") as file:
        known = json.load(file).get("encoder")
    return known is None or known == features.model_digest(saved_model)


def write(folder: str, results: dict[str, dict[str, Any]]) -> None:
    """table2.txt, table2.csv (encoder, mAP, AP of each class) and table2.png."""
    classes = list(next(iter(results.values()))["per_class"])
    rows = [
        [name, result["map"], *(result["per_class"][c] for c in classes)]
        for name, result in results.items()
    ]
    tables.write(folder, "table2", as_text(results), ["encoder", "map", *classes], rows)
    draw(os.path.join(folder, "table2.png"), results)


def as_text(results: dict[str, dict[str, Any]]) -> str:
    """A line for each row: the paper's mAP on VOC07, our mAP, and accuracies if there are any.

    The paper's rows come first, in its order.
    """
    first = next(iter(results.values()))
    accuracies = first["top1"] is not None
    head = f"{'encoder':18s} {'paper, VOC07':>13s} {'here, mAP':>10s}"
    lines = [head + (f" {'top-1':>7s} {'20-NN':>7s}" if accuracies else "")]
    for name in tables.in_order(results):
        result, paper = results[name], tables.number(PAPER.get(name), 1)
        line = f"{tables.title_of(name):18s} {paper:>13s} {tables.number(result['map'], 1):>10s}"
        if accuracies:
            for value in (result["top1"], result["knn"].get("20")):
                line += f" {tables.number(value, 1):>7s}"
        lines.append(line)
    lines.append(
        f"here: {first['num_train']} images to fit, {first['num_test']} to test, "
        f"{first['endpoint']}, pool: {first['pool']}, AP: {first['ap']}"
    )
    undefined = [c for c, ap in first["per_class"].items() if ap is None]
    if undefined:
        lines.append(f"classes without positives, not in the mean: {', '.join(undefined)}")
    return "\n".join(lines) + "\n"


def draw(path: str, results: dict[str, dict[str, Any]]) -> None:
    """Bars of the mAP, and of the AP of each class that has one, if these are 30 or fewer."""
    known = [r["per_class"] for r in results.values()]
    classes = [name for name in known[0] if any(ap[name] is not None for ap in known)]
    labels = ["mAP", *(classes if len(classes) <= 30 else [])]
    figure, axes = plt.subplots(figsize=(max(5.0, 0.75 * len(labels) + 2), 4.2))
    width = 0.8 / len(results)
    for number, (name, result) in enumerate(results.items()):
        values = [result["map"], *(result["per_class"][c] for c in labels[1:])]
        places = [x - 0.4 + width * (number + 0.5) for x in range(len(labels))]
        heights = [0.0 if v is None else v for v in values]
        axes.bar(places, heights, width, label=tables.title_of(name))
    axes.set_xticks(range(len(labels)), labels, rotation=60 if len(labels) > 1 else 0, ha="right")
    axes.set_ylabel("average precision, %")
    axes.set_title("Linear SVMs on frozen features (Table 2)")
    tables.save_bars(figure, axes, path)


if __name__ == "__main__":
    cli.run(main, TableConfig)
