"""Runs the study: every method and ablation of a plan, seed by seed; writes docs/results.md.

  python tools/study.py --plan=docs/study.json --data_dir=tiny-imagenet-100 \\
      --voc_root=VOCdevkit --workdir=runs/study
  python tools/study.py --plan=docs/study.json --readme=README.md     only rewrites the pages

Every run becomes a row of docs/results/METHOD.json as soon as it is evaluated, and is not run
again; rerun the same command to resume. All runs of a table and seed start from the same IAE.
With --more_dir=DIR, methods that the plan marks `more` are run, too: they pre-train on the
photographs of that folder, and are evaluated on --data_dir as all others are.
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
from mgta_tf.runtime.files import write_json, write_text
from mgta_tf.runtime.workdir import load_config
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.losses import LossConfig, looks_collapsed
from mgta_tf.training.summary import versions
from tools.docs import marked
from tools.study import comparisons, experiment
from tools.study import report as study_report
from tools.study.comparisons import methods_of

KEPT = (
    "map",
    "top1",
    "knn",
    "seconds",
    "cpu_seconds",
    "passes",
    "turns",
    "stuck_at_margin",
    "voc_map",
)
GUIDED = ("mgta", "oracle")  # methods with rounds, on the plan's schedule
TRAINERS = {"supervised": "mgta_tf.supervised", "oracle": "tools.study.oracle_labels"}
OF_A_TURN = (
    *("stage", "round", "net", "half", "num_clusters", "purity", "ari_truth"),
    *("triplet_loss", "triplet_active", "embedding_norm"),
    *("hardest_positive", "hardest_negative", "pair_distance"),
)


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """The study."""

    plan: str = flag("", "JSON file with methods, flags and seeds.")
    data_dir: str = flag(
        "", "Images in Tiny ImageNet's layout; empty only writes the page from committed rows."
    )
    more_dir: str = flag(
        "",
        "More photographs in the same layout, for methods that pre-train on them; empty skips "
        "those methods.",
    )
    voc_root: str = flag("", "Path of a VOCdevkit to evaluate on as well; empty skips it.")
    workdir: str = flag("", "Folder for the runs.")
    results: str = flag("docs/results", "Folder of the rows; results.md is written to its parent.")
    dataset: str = flag(
        "",
        "Name of another data set of the plan, if --data_dir is that; rows go to RESULTS/NAME.",
    )
    readme: str = flag("", "Page whose marked part receives the first table.")
    only: str = flag("", "Methods to run, separated by commas; empty runs all.")
    seeds: str = flag("", "Seeds to run, separated by commas; empty uses the plan's.")


def main(config: StudyConfig) -> None:
    plan = load_plan(config.plan)
    methods = methods_of(plan)
    chosen = config.only.split(",") if config.only else runnable(config, methods)
    unknown = set(chosen) - set(methods)
    if unknown:
        raise UserError(f"--only={config.only}: {config.plan} has no {', '.join(sorted(unknown))}")
    if config.dataset and config.dataset not in plan["other_data"]:
        raise UserError(
            f"--dataset={config.dataset}: {config.plan} knows {', '.join(plan['other_data'])}"
        )
    seeds = [int(s) for s in config.seeds.split(",")] if config.seeds else plan["seeds"]
    if config.data_dir:
        if not config.workdir:
            raise UserError("--workdir is required: a folder for the runs")
        for name in set(chosen) - set(runnable(config, methods)):
            raise UserError(f"{name} pre-trains on more photographs: name their folder, --more_dir")
        for seed in seeds:
            for name in chosen:
                if run_one(config, plan, name, methods[name], seed):
                    write_page(config, plan)
    write_page(config, plan)


def runnable(config: StudyConfig, methods: dict[str, Any]) -> list[str]:
    """The methods for which the photographs are there."""
    return [name for name in methods if config.more_dir or not methods[name].get("more")]


def photographs(config: StudyConfig, method: dict[str, Any]) -> str:
    """The folder on which a method pre-trains."""
    return config.more_dir if method.get("more") else config.data_dir


def load_plan(path: str) -> dict[str, Any]:
    """Reads a plan.

    Raises:
      UserError: it does not exist, or is not a plan.
    """
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.load(file)
        methods = methods_of(plan)
        asked = {name for _, *names in plan["questions"] + plan["claims"] for name in names}
        asked |= {plan["baseline"], *plan["main"], *plan["picture"], *plan["readme"]}
        asked |= {name for finding in plan["findings"] for name in finding["rows"]}
        asked -= set(plan["peers"])
        asked |= {method.get("iae", "own") for method in methods.values()} - {"own", "two"}
        for name in asked - set(methods):
            raise KeyError(name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--plan={path}: not a plan ({error})") from None
    return plan


def run_one(
    config: StudyConfig, plan: dict[str, Any], name: str, method: dict[str, Any], seed: int
) -> bool:
    """Runs and evaluates a method with one seed, unless its row exists; returns whether it ran.

    Raises:
      UserError: the existing row has other flags.
    """
    path = os.path.join(config.results, config.dataset, f"{name}.json")
    rows = experiment.load_rows(path)
    flags = flags_of(plan, method)
    for row in rows:
        if row["seed"] == seed:
            if row["flags"] != flags:
                raise UserError(f"{path}: seed {seed} was run with other flags; move it away")
            return False
    kept, line = experiment.kept(
        lambda: train_and_evaluate(config, plan, name, method, flags, seed), KEPT
    )
    row = {
        "method": name,
        "seed": seed,
        **kept,
        "flags": flags,
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions(),
    }
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_json(path, sorted([*rows, row], key=lambda r: r["seed"]))
    print(f"{name}, seed {seed}: {line}", flush=True)
    return True


def flags_of(plan: dict[str, Any], method: dict[str, Any]) -> dict[str, Any]:
    """The flags that determine a method's encoder, without seed and paths."""
    rounds = {**plan["iae"], **plan["train"]}
    stages = {
        "random": {"iae_epochs": 0, "rounds": 0, "final_epochs": 0},
        "iae": {**plan["iae"], "rounds": 0, "final_epochs": 0},
        "mgta": rounds,
        "oracle": rounds,
        "supervised": {},
        "train": {},  # the defaults of mgta_tf.train
    }
    return {**plan["small_model"], **stages[method["kind"]], **method["flags"]}


def train_and_evaluate(
    config: StudyConfig,
    plan: dict[str, Any],
    name: str,
    method: dict[str, Any],
    flags: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Trains and evaluates a method.

    Returns:
      The probe's figures; `voc_map`, its mAP on VOC (None without --voc_root); `turns`, with labels
      or views only; `stuck_at_margin`, whether the triplet loss ended there; `passes`.
    """
    folder, kind = os.path.join(config.workdir, f"seed_{seed}", name), method["kind"]
    frame = {"supervised": {}, "train": experiment.PRECISION}.get(kind, experiment.FRAME)
    train = {**frame, **flags, "seed": seed, "data_dir": photographs(config, method)}
    if kind in GUIDED:
        train["iae_checkpoint"] = iae_checkpoint(config, plan, method.get("iae", "iae"), seed)
    exports: dict[str, dict[str, Any]] = {"random": {"untrained": True}, "iae": {"net": "iae"}}
    found = experiment.train_and_evaluate(
        folder,
        train=train,
        export=exports.get(kind, {}),
        probe={**plan["evaluate"], "data_dir": config.data_dir},
        trainer=TRAINERS.get(kind, "mgta_tf.train"),
    )
    trained = kind in (*GUIDED, "train")
    found["turns"] = turns_of(os.path.join(folder, "run")) if trained else []
    stuck = trained and stuck_at_margin(found["turns"][-1], flags)
    found["stuck_at_margin"] = stuck
    found["passes"] = None if kind == "supervised" else passes_of(os.path.join(folder, "run"))
    if not config.voc_root:
        return {**found, "voc_map": None}
    output = os.path.join(folder, "voc.json")
    if not os.path.exists(output):
        experiment.command(
            "mgta_tf.probe",
            {
                **plan["evaluate_voc"],
                "voc_root": config.voc_root,
                "saved_model": os.path.join(folder, "saved_model"),
                "output": output,
                "baselines": False,
            },
            os.path.join(folder, "log.txt"),
        )
    with open(output, encoding="utf-8") as file:
        return {**found, "voc_map": json.load(file)["map"]}


def turns_of(run: str) -> list[dict[str, Any]]:
    """The values of each turn of a run after stage 1 that a row keeps."""
    turns = _summary(run)["stages"]
    return [{key: turn.get(key) for key in OF_A_TURN} for turn in turns if turn["stage"] != "iae"]


def passes_of(run: str) -> float:
    """The cost of a run's own turns, in image passes for each of its images.

    A pass is the encoder forward and backward over one image; an auto-encoder's step is 2, and an
    encoder forward alone, which a GLP is, a third.
    """
    config = load_config(os.path.join(run, "flags.flagfile"), TrainConfig)
    of_step = (1 if config.model.decoder == "none" else 2) * config.batch.size
    summary = _summary(run)
    trained = sum(of_step * turn["steps"] for turn in summary["stages"])
    labelled = sum(turn["images"] for turn in summary["labellings"]) / 3
    return round((trained + labelled) / summary["num_images"], 2)


def _summary(run: str) -> dict[str, Any]:
    with open(os.path.join(run, "summary.json"), encoding="utf-8") as file:
        return json.load(file)


def stuck_at_margin(turn: dict[str, Any], flags: dict[str, Any]) -> bool:
    """Whether the embedding of a turn collapsed, with the triplet loss at the margin."""
    if not flags.get("lambda_end", 1.0):
        return False
    names = [field.name for field in dataclasses.fields(LossConfig) if field.name in flags]
    return looks_collapsed(turn, LossConfig(**{name: flags[name] for name in names}))


def iae_checkpoint(config: StudyConfig, plan: dict[str, Any], which: str, seed: int) -> str:
    """The --iae_checkpoint of a method.

    Args:
      which: the method whose stage 1 with the same seed it starts from; `two` for two of them, the
        `iae` with this and with the next seed; `own` for none, which returns ''.
    """
    if which == "own":
        return ""
    seeds, folders = plan["seeds"], []
    after = dict(zip(seeds, [*seeds[1:], seeds[0]]))
    name, used = ("iae", (seed, after.get(seed, seeds[0]))) if which == "two" else (which, (seed,))
    method = methods_of(plan)[name]
    flags, images = flags_of(plan, method), photographs(config, method)
    for number in used:
        folder = os.path.join(config.workdir, f"seed_{number}", name)
        train = {**experiment.FRAME, **flags, "seed": number, "data_dir": images}
        folders.append(experiment.train_iae(folder, train))
    return ",".join(folders)


def write_page(config: StudyConfig, plan: dict[str, Any]) -> None:
    """The pages and the picture, from the plan and the rows alone."""
    rows = load_rows(config.results, plan)
    others = {
        name: load_rows(os.path.join(config.results, name), plan) for name in plan["other_data"]
    }
    few = {
        name: experiment.load_rows(os.path.join(config.results, "few_labels", f"{name}.json"))
        for name in plan["few_labels"]["titles"]
    }
    search = experiment.load_rows(os.path.join(config.results, "search.json"))
    above = os.path.dirname(config.results)
    write_text(os.path.join(above, "results.md"), study_report.page(plan, rows, others, few))
    write_text(os.path.join(config.results, "all_methods.md"), study_report.all_methods(plan, rows))
    write_text(os.path.join(config.results, "search.md"), study_report.search_page(plan, search))
    if config.readme:
        marked.replace(config.readme, "tools/study.py", study_report.summary(plan, rows))
    if any(rows.values()):
        study_report.draw(plan, rows, os.path.join(config.results, "table.png"))


def load_rows(folder: str, plan: dict[str, Any]) -> comparisons.Rows:
    """The rows in a folder of every method and peer of the plan, by name."""
    return {
        name: experiment.load_rows(os.path.join(folder, f"{name}.json"))
        for name in (*methods_of(plan), *plan["peers"])
    }


if __name__ == "__main__":
    cli.run(main, StudyConfig)
