"""Repeats the quickstart with other seeds: docs/results/quickstart.json, a row for each.

  python -m tools.quickstart.seeds --folder=runs/quickstart_seeds

A row has the figures of `quickstart.json`, with `ordered` and `separated`, and the seconds that it
took. Rows that are there are not made again.
"""

from __future__ import annotations

import dataclasses
import os
import time

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_json
from tools.quickstart.run import QuickstartConfig, Runs, measure
from tools.study.experiment import load_rows


@dataclasses.dataclass(frozen=True)
class SeedsConfig:
    """The repetitions."""

    folder: str = flag("", "Output folder of the runs.")
    seeds: tuple[int, ...] = flag((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), "Random seeds, a row each.")
    output: str = flag("docs/results/quickstart.json", "JSON file of the rows.")


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
    print(
        f"{config.output}: of {len(rows)} seeds, {sum(row['ordered'] for row in rows)} have the "
        f"order, {sum(row['separated'] for row in rows)} with gaps between the intervals"
    )


if __name__ == "__main__":
    cli.run(main, SeedsConfig)
