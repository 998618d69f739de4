"""Repeats the quickstart with other seeds: docs/results/quickstart.json, and docs/quickstart.md.

  python -m tools.quickstart.seeds --folder=runs/quickstart_seeds

A row for each seed has the figures of `quickstart.json`, with `ordered` and `separated`, and the
seconds that it took. Seeds that have a row are skipped. The page gets the table of all rows.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any

import numpy as np

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_json
from tools.docs import marked
from tools.quickstart import evaluation
from tools.quickstart.run import TITLES, QuickstartConfig, Runs, measure
from tools.study.experiment import load_rows


@dataclasses.dataclass(frozen=True)
class SeedsConfig:
    """The repetitions."""

    folder: str = flag("", "Output folder of the runs.")
    seeds: tuple[int, ...] = flag((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), "Random seeds, a row each.")
    output: str = flag("docs/results/quickstart.json", "JSON file of the rows.")
    page: str = flag("docs/quickstart.md", "Page that the table of the rows is written to.")


def main(config: SeedsConfig) -> None:
    if not config.folder:
        raise UserError("--folder is required: the output folder of the runs")
    rows = load_rows(config.output)
    for seed in config.seeds:
        if any(row["seed"] == seed for row in rows):
            continue
        workdir = os.path.join(config.folder, f"seed_{seed}")
        began, used = time.monotonic(), time.process_time()
        found = measure(Runs.of(QuickstartConfig(workdir, seed))).found
        times = {
            "seconds": round(time.monotonic() - began, 1),
            "cpu_seconds": round(time.process_time() - used, 1),
        }
        rows = sorted([*rows, {**found, **times}], key=lambda row: row["seed"])
        write_json(config.output, rows)
    text = table(rows)
    marked.replace(config.page, "tools/quickstart/seeds.py", text)
    print(text, end="")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: each encoder's top-1 over the seeds, and in how many of them the order holds."""
    lines = ["| encoder | mean | lowest | highest |", "|---|---|---|---|"]
    for name, title in TITLES.items():
        values = [row[name]["value"] for row in rows]
        lines.append(f"| {title} | {np.mean(values):.1f} | {min(values):.1f} | {max(values):.1f} |")
    ordered, separated = (sum(row[key] for row in rows) for key in ("ordered", "separated"))
    order = " < ".join(evaluation.ORDER)
    lines += [
        "",
        f"{order} in {ordered} of {len(rows)} seeds; in {separated} no intervals overlap.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, SeedsConfig)
