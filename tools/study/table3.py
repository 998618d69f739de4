"""Prints the paper's Table 3 beside ours: Faster R-CNN C4 on VOC with several frozen encoders.

  python tools/table3.py --runs=random=DIR,iae=DIR,mgta_100=DIR --output=runs/table3

The names random, iae, mgta_100, mgta_300 and supervised are the paper's rows; others are rows of
their own. A DIR is a workdir of mgta_tf.detect; where a row has two, one for each training set,
they are joined by a plus: iae=DIR07+DIR0712. A run that diverged is '-', as in the paper. The
folder gets table3.txt, table3.csv (every class) and table3.png.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from matplotlib import pyplot as plt

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from tools.study import tables

PAPER: dict[str, tuple[float | None, float | None]] = {
    # mAP of Table 3, trained on VOC2007 and on VOC2007+2012; None did not converge
    "random": (None, None),
    "iae": (11.27, 17.01),
    "mgta_100": (15.88, 21.19),
    "mgta_300": (15.07, 19.84),
    "supervised": (33.67, 37.84),
}
FIGURES = ("ap50_voc07", "ap50_area", "coco_ap")
SETS = {"voc07": "VOC07", "voc0712": "VOC07+12", "own": "own boxes"}


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """The table."""

    runs: str = flag("", "Rows as name=workdir, separated by commas.")
    output: str = flag("", "Folder for the table.")


def main(config: TableConfig) -> None:
    named = tables.parse_rows(config.runs, "runs")
    rows = {name: read(paths.split("+")) for name, paths in named.items()}
    check_classes(rows)
    tables.make_folder(config.output)
    write(config.output, rows)
    print(as_text(rows), end="")


def read(workdirs: list[str]) -> dict[str, dict[str, Any]]:
    """The results of a row's runs, by training set.

    Raises:
      UserError: a run has not ended, or two of them have the same training set.
    """
    found: dict[str, dict[str, Any]] = {}
    for workdir in workdirs:
        path = os.path.join(workdir, "detection.json")
        try:
            with open(path, encoding="utf-8") as file:
                result = json.load(file)
        except (OSError, ValueError) as error:
            raise UserError(f"--runs: {path}: {error}; has mgta_tf.detect ended?") from None
        if result["train_set"] in found:
            raise UserError(f"--runs: {path}: a second run on {result['train_set']} in one row")
        found[result["train_set"]] = result
    return found


def check_classes(rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Checks that all figures of a column are of the same classes.

    Raises:
      UserError: they are not.
    """
    for train_set in SETS:
        classes: dict[str, list[str]] = {}
        for name, row in rows.items():
            if row.get(train_set, {}).get("per_class"):
                classes[name] = sorted(row[train_set]["per_class"])
        for name, found in classes.items():
            first, expected = next(iter(classes.items()))
            if found != expected:
                raise UserError(
                    f"--runs: {name} detects {', '.join(found)}, {first} detects "
                    f"{', '.join(expected)}; make a table of each"
                )


def write(folder: str, rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    """table3.txt, table3.csv (one line per run: the figures, the AP of each class), table3.png."""
    results = [(name, s, result) for name, row in rows.items() for s, result in row.items()]
    classes = list(dict.fromkeys(c for _, _, r in results for c in r["per_class"] or ()))
    lines = []
    for name, train_set, result in results:
        per_class = result["per_class"] or {}
        figures = [*(result[f] for f in FIGURES), *(per_class.get(c) for c in classes)]
        lines.append([name, train_set, str(result["diverged"]).lower(), *figures])
    head = ["encoder", "train_set", "diverged", *FIGURES, *classes]
    tables.write(folder, "table3", as_text(rows), head, lines)
    draw(os.path.join(folder, "table3.png"), rows)


def as_text(rows: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The paper's columns, then ours: AP50 by 11 points, by area, and COCO's AP; blank: not run.

    The paper's rows come first, in its order.
    """
    used = [name for name in SETS if any(name in row for row in rows.values())]
    has_paper = used != ["own"]
    head = f"{'encoder':18s}" + (f" {'paper, 07':>10s} {'07+12':>7s}" if has_paper else "")
    lines = [head + "".join(f" {SETS[s] + ', 11 pt':>16s} {'area':>6s} {'COCO':>6s}" for s in used)]
    for name in tables.in_order(rows):
        cells = [tables.number(value, 2) for value in PAPER.get(name, ())] or ["", ""]
        line = f"{tables.title_of(name):18s}"
        line += f" {cells[0]:>10s} {cells[1]:>7s}" if has_paper else ""
        for train_set in used:
            result = rows[name].get(train_set)
            cells = [tables.number(result[key], 2) if result else "" for key in FIGURES]
            line += "".join(f" {cell:>{width}s}" for cell, width in zip(cells, (16, 6, 6)))
        lines.append(line.rstrip())
    for train_set in used:
        results = [row[train_set] for row in rows.values() if train_set in row]
        for train, test in sorted({(r["num_train"], r["num_test"]) for r in results}):
            lines.append(f"{SETS[train_set]} here: {train} images to train, {test} to test")
    lines.append("'-': the training did not converge")
    return "\n".join(lines) + "\n"


def draw(path: str, rows: dict[str, dict[str, dict[str, Any]]]) -> None:
    """A bar for each row: ours, the paper's beside it; a cross where a run diverged."""
    figure, axes = plt.subplots(figsize=(max(5.0, 1.1 * len(rows) + 2), 4.0))
    bars = [(SETS[s], s) for s in SETS if any(s in row for row in rows.values())]
    width = 0.8 / (2 * max(len(bars), 1))
    for place, name in enumerate(rows):
        paper = dict(zip(SETS, PAPER.get(name, ())))
        for number, (_, train_set) in enumerate(bars):
            result = rows[name].get(train_set, {})
            x = place - 0.4 + width * (2 * number + 0.5)
            axes.bar(x, result.get("ap50_voc07") or 0.0, width, color=f"C{number}")
            axes.bar(x + width, paper.get(train_set) or 0.0, width, color=f"C{number}", alpha=0.35)
            if result.get("diverged"):
                axes.plot(x, 0.5, "x", color=f"C{number}")
    for number, (title, train_set) in enumerate(bars):
        axes.bar(0, 0, color=f"C{number}", label=f"{title}, here")
        if train_set != "own":
            axes.bar(0, 0, color=f"C{number}", alpha=0.35, label=f"{title}, paper")
    titles = [tables.title_of(name) for name in rows]
    axes.set_xticks(range(len(rows)), titles, rotation=20, ha="right")
    axes.set_ylabel("AP50 by 11 points, %")
    axes.set_title("Faster R-CNN C4, frozen body (Table 3)")
    tables.save_bars(figure, axes, path)


if __name__ == "__main__":
    cli.run(main, TableConfig)
