"""Accuracy with few labels, fine-tuned from several starts.

  python -m tools.study.few_labels --do=search --data_dir=tiny-imagenet-100 --workdir=W \\
      --starts=scratch,two_views_alone=SAVED_MODEL --results=docs/results/few_labels/tiny.json
  python -m tools.study.few_labels --data_dir=tiny-imagenet-100 --workdir=W \\
      --starts=scratch,two_views_alone=SAVED_MODEL --results=docs/results/few_labels/tiny.json

Every start is fine-tuned by `mgta_tf.supervised` with 1 %, 10 % and 100 % of the labels, and its
accuracy on the validation images becomes a row of --results. `search` chooses learning rate and
frozen epochs of a start with 10 % of the labels on a held-out third of the training images; the
validation images are not used for it. An existing row is not run again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from typing import Any

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_json
from mgta_tf.training.summary import versions
from tools.study import experiment
from tools.study.comparisons import spread
from tools.study.evaluation import MILD, SMALL

EPOCHS = {0.01: 300, 0.1: 100, 1.0: 30}  # by the share of the labels
SEARCH_SHARE = 0.1
SCRATCH = "scratch"
# Settings to try. frozen: fraction of the epochs with a frozen encoder; scratch has none to freeze.
TRIALS: tuple[dict[str, float], ...] = (
    {"learning_rate": 1e-3, "frozen": 0.0},
    {"learning_rate": 3e-3, "frozen": 0.0},
    {"learning_rate": 1e-3, "frozen": 0.3},
    {"learning_rate": 3e-4, "frozen": 0.3},
    {"learning_rate": 3e-3, "frozen": 1.0},
)


@dataclasses.dataclass(frozen=True)
class FewLabelsConfig:
    do: str = flag("rows", "Action to perform.", choices=("rows", "search"))
    data_dir: str = flag("", "Labelled images with a validation split, in Tiny ImageNet's layout.")
    starts: str = flag(
        SCRATCH, "Starts, separated by commas: `scratch`, or NAME=SAVED_MODEL of an encoder."
    )
    workdir: str = flag("", "Folder for the runs.")
    results: str = flag("", "JSON file of the rows, and of the trials of the search.")
    seeds: str = flag("1", "Seeds of the rows, separated by commas.")


def main(config: FewLabelsConfig) -> None:
    for name in ("data_dir", "workdir", "results"):
        if not getattr(config, name):
            raise UserError(f"--{name} is required")
    for start, saved_model in parse_starts(config.starts).items():
        if config.do == "search":
            search(config, start, saved_model)
        else:
            for seed in map(int, config.seeds.split(",")):
                settings = best_trial(experiment.load_rows(config.results), start)
                for share in EPOCHS:
                    run_one(config, start, saved_model, settings, share, seed, "rows")


def parse_starts(text: str) -> dict[str, str]:
    """'scratch,a=DIR' → {'scratch': '', 'a': 'DIR'}.

    Raises:
      UserError: it is something else.
    """
    pairs = [part.partition("=") for part in text.split(",") if part]
    starts = {name: path for name, _, path in pairs}
    if not starts or len(starts) != len(pairs):
        raise UserError(f"--starts={text}: must be scratch,NAME=SAVED_MODEL, all names different")
    for name, path in starts.items():
        if (name == SCRATCH) == bool(path):
            raise UserError(f"--starts={text}: {name} must be NAME=SAVED_MODEL; scratch has none")
    return starts


def search(config: FewLabelsConfig, start: str, saved_model: str) -> None:
    """Runs the trials of a start on the held-out third."""
    held_out = os.path.join(config.workdir, "held_out")
    experiment.hold_out(config.data_dir, held_out, share=1 / 3)
    searched = dataclasses.replace(config, data_dir=held_out)
    for settings in TRIALS:
        if start != SCRATCH or not settings["frozen"]:
            run_one(searched, start, saved_model, settings, SEARCH_SHARE, 1, "search")


def best_trial(rows: list[dict[str, Any]], start: str) -> dict[str, float]:
    """The best settings of a start in the search.

    Raises:
      UserError: it has not been searched.
    """
    trials = [row for row in rows if row["part"] == "search" and row["start"] == start]
    if not trials:
        raise UserError(f"no trial of {start}; run --do=search with --starts={start} first")
    return max(trials, key=lambda row: row["accuracy"])["settings"]


def run_one(
    config: FewLabelsConfig,
    start: str,
    saved_model: str,
    settings: dict[str, float],
    share: float,
    seed: int,
    part: str,
) -> None:
    """Fine-tunes a start and adds its row, unless the row exists."""
    rows = experiment.load_rows(config.results)
    key = {"part": part, "start": start, "settings": settings, "share": share, "seed": seed}
    if any(all(row[name] == value for name, value in key.items()) for row in rows):
        return
    flags = {
        **SMALL,
        **MILD,
        "batch_size": 64,
        "epochs": EPOCHS[share],
        "label_fraction": share,
        "learning_rate": settings["learning_rate"],
        "frozen_epochs": round(settings["frozen"] * EPOCHS[share]),
    }
    trial = f"{settings['learning_rate']}_{settings['frozen']}"
    folder = os.path.join(config.workdir, part, start, f"{trial}_{share}_{seed}")
    os.makedirs(folder, exist_ok=True)
    run, before = os.path.join(folder, "run"), experiment.cpu_seconds()
    train = {**flags, "seed": seed, "data_dir": config.data_dir, "workdir": run}
    if saved_model:
        train["init"] = saved_model
    experiment.command("mgta_tf.supervised", train, os.path.join(folder, "log.txt"))
    with open(os.path.join(run, "summary.json"), encoding="utf-8") as file:
        accuracy = json.load(file)["stages"][0]["validation_accuracy"]
    row = {
        **key,
        "accuracy": 100 * accuracy,
        "cpu_seconds": experiment.cpu_seconds() - before,
        "flags": flags,
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
    }
    os.makedirs(os.path.dirname(config.results) or ".", exist_ok=True)
    write_json(config.results, [*rows, row])
    print(f"{part}: {start}, {share:.0%} of the labels, seed {seed}: {100 * accuracy:.2f}")


def table(rows: list[dict[str, Any]], titles: dict[str, str]) -> list[str]:
    """Validation accuracy by start and share of the labels, as lines of Markdown."""
    rows = [row for row in rows if row["part"] == "rows"]
    lines = [
        "| start | 1 % of the labels | 10 % | 100 % | seeds |",
        "|---|---|---|---|---|",
    ]
    for start in dict.fromkeys(row["start"] for row in rows):
        cells, seeds = [titles.get(start, start)], set()
        for share in EPOCHS:
            found = [r for r in rows if r["start"] == start and r["share"] == share]
            seeds |= {row["seed"] for row in found}
            values = [row["accuracy"] for row in found]
            cells.append(spread(values))
        lines.append(f"| {' | '.join([*cells, str(len(seeds))])} |")
    return lines


if __name__ == "__main__":
    cli.run(main, FewLabelsConfig)
