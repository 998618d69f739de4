"""Searches for settings at which MGTA helps; evaluated on a third of the training images.

  python -m tools.study.search --data_dir=tiny-imagenet-100 --workdir=runs/search --trials=24

Optuna's TPE proposes settings; each is trained from one shared IAE for `--rounds` and evaluated by
the SVM on the held-out third. The best `--finalists` are trained again, longer and from another
seed (successive halving with two rungs). Every trial becomes a row of `--output` as soon as it is
evaluated, and is not run again. Rerun the same command to resume with the interrupted trial: a
proposal depends on the rows and the seed alone. The validation images are never read.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_json
from tools.study import experiment
from tools.study.evaluation import PROBE, SMALL

LONGER = 2  # times the rounds of the first rung, for the finalists

PAPER: dict[str, Any] = dict(
    reconstruction_reduction="sum",
    clusters_per_batch=16,
    images_per_cluster=4,
    views_per_image=1,
    num_clusters=100,
    lambda_start=0.1,
    lambda_end=1.0,
    margin=0.3,
    soft_margin=False,
    normalize_embedding=False,
    triplet_positive="hardest",
    triplet_negative="hardest",
    color_jitter=0.2,
    crop_min_area=0.4,
    grayscale=0.0,
    reconstruct="seen",
    hidden_share=0.0,
    cluster_pca_dim=0,
    core_fraction=1.0,
    learning_rate=3e-3,
)
STRONGER: dict[str, Any] = dict(color_jitter=0.4, crop_min_area=0.2, grayscale=0.2)
WEAKER: dict[str, Any] = {name: PAPER[name] for name in STRONGER}
# Two views of an image are each other's nearest positive, even if the label is wrong.
VIEWS: dict[str, Any] = {
    **PAPER,
    **STRONGER,
    "views_per_image": 2,
    "normalize_embedding": True,
    "triplet_positive": "nearest",
    "num_clusters": 300,
    "lambda_start": 300.0,
    "lambda_end": 300.0,
}
# All other images are negatives, not the hardest alone, so the loss is not stuck at the margin.
PAIRS: dict[str, Any] = {**VIEWS, "soft_margin": True, "triplet_negative": "soft"}
# §4.2's mean over pixels and its λ₁: the triplets outweigh the reconstruction by three orders.
MEAN: dict[str, Any] = {
    **PAIRS,
    "reconstruction_reduction": "mean",
    "lambda_start": 0.1,
    "lambda_end": 1.0,
}
# K counts the views: one image of each cluster, so the other view is its only positive.
ALONE: dict[str, Any] = {**MEAN, "clusters_per_batch": 32, "images_per_cluster": 2}
# Eq. 6's hardest negative and margin, its nearest positive still the other view.
HARD: dict[str, Any] = {**ALONE, "triplet_negative": "hardest", "soft_margin": False}
BEST: dict[str, Any] = {**HARD, **WEAKER, "lambda_start": 100.0, "lambda_end": 100.0}
# Clusters count as well: two images of each, with two views, of the half nearest its centroid.
CORE: dict[str, Any] = {
    **BEST,
    "clusters_per_batch": 16,
    "images_per_cluster": 4,
    "core_fraction": 0.5,
    "cluster_pca_dim": 64,
}
# Trials before TPE proposes: the paper's exact settings, and ways to rely less on wrong labels.
FIRST: list[dict[str, Any]] = [
    PAPER,
    PAIRS,
    {**PAIRS, "reconstruct": "clean", "lambda_start": 1000.0, "lambda_end": 1000.0},
    MEAN,
    ALONE,
    {**MEAN, "triplet_positive": "hardest"},
    {**ALONE, "lambda_start": 100.0, "lambda_end": 100.0},
    HARD,
    {**PAPER, "reconstruction_reduction": "mean"},
    {**HARD, "lambda_start": 100.0, "lambda_end": 100.0},
    BEST,
    {**HARD, **WEAKER},
    {**CORE, "triplet_positive": "random"},
    {**CORE, "triplet_positive": "hardest"},
    # Settings that the paper leaves open and BEST has from the first trials, one at a time.
    {**BEST, "margin": 0.1},
    {**BEST, "margin": 1.0},
    {**BEST, "learning_rate": 1e-3},
    {**BEST, "learning_rate": 1e-2},
    {**BEST, "clusters_per_batch": 64},
]

STAGE_1: dict[str, Any] = {**PAPER, "rounds": 0, "final_epochs": 0}
PEERS: dict[str, dict[str, Any]] = {
    "random": {"iae_epochs": 0, "rounds": 0, "final_epochs": 0},
    "iae": STAGE_1,
    "equal": {**PAPER, "lambda_start": 0.0, "lambda_end": 0.0},  # the compute-matched IAE
    # Settings of stage 1 that the paper leaves open: is there an IAE better than random weights?
    "iae_mean": {**STAGE_1, "reconstruction_reduction": "mean"},
    "iae_slow": {**STAGE_1, "learning_rate": 1e-3},
    "iae_hidden": {**STAGE_1, "hidden_share": 0.5, "reconstruct": "clean"},
    "iae_whole": {**STAGE_1, "crop_min_area": 0.8},
}
# Searched flags of `mgta_tf.train`, including the paper's values; `clusters_per_batch` follows,
# because a batch has BATCH images.
BATCH = 64
SPACE: dict[str, BaseDistribution] = dict(
    images_per_cluster=CategoricalDistribution([2, 4]),
    reconstruction_reduction=CategoricalDistribution(["sum", "mean"]),
    views_per_image=CategoricalDistribution([1, 2]),
    num_clusters=CategoricalDistribution([100, 300, 1000]),
    lambda_start=FloatDistribution(0.1, 3000.0, log=True),
    lambda_end=FloatDistribution(1.0, 3000.0, log=True),
    margin=CategoricalDistribution([0.1, 0.3, 1.0]),
    soft_margin=CategoricalDistribution([False, True]),
    normalize_embedding=CategoricalDistribution([False, True]),
    triplet_positive=CategoricalDistribution(["hardest", "nearest", "random"]),
    triplet_negative=CategoricalDistribution(["hardest", "random", "soft"]),
    color_jitter=CategoricalDistribution([0.2, 0.4, 0.6]),
    crop_min_area=CategoricalDistribution([0.2, 0.4]),
    grayscale=CategoricalDistribution([0.0, 0.2]),
    reconstruct=CategoricalDistribution(["seen", "clean"]),
    hidden_share=CategoricalDistribution([0.0, 0.25, 0.5]),
    cluster_pca_dim=CategoricalDistribution([0, 64]),
    core_fraction=CategoricalDistribution([0.5, 1.0]),
    learning_rate=CategoricalDistribution([1e-3, 3e-3, 1e-2]),
)


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The search."""

    data_dir: str = flag("", "Labelled images; the labels are used for evaluation only.")
    workdir: str = flag("", "Folder for trials and results; an existing search in it is resumed.")
    output: str = flag("", "JSON file of all trials; default: search.json in the workdir.")
    trials: int = flag(24, "Number of settings to try.", minimum=1)
    finalists: int = flag(4, "Number of settings to train longer, from another seed.", minimum=0)
    rounds: int = flag(4, "Rounds per trial.", minimum=1)
    epochs_per_round: int = flag(4, "Epochs that a net trains per round.", minimum=1)
    iae_epochs: int = flag(20, "Epochs of the IAE that all trials share.", minimum=1)
    seed: int = flag(1, "Random seed for Optuna's proposals.", minimum=0)


def main(config: SearchConfig) -> None:
    for name in ("data_dir", "workdir"):
        if not getattr(config, name):
            raise UserError(f"--{name} is required")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    output = config.output or os.path.join(config.workdir, "search.json")
    experiment.hold_out(config.data_dir, held_out(config), share=1 / 3)
    rows = experiment.load_rows(output)

    def add(name: str, searched: dict[str, Any], seed: int) -> None:
        row = {"method": name, "seed": seed, "searched": searched}
        row["trained"] = trained_with(config, searched)
        if not known(rows, row, output):
            rows.append({**row, **evaluate(config, row)})
            write_json(output, rows)

    for name, flags in PEERS.items():
        add(name, flags, seed=1)
    while len(trials := trials_of(rows)) < config.trials:
        number = 1 + max((int(row["method"].split("_")[1]) for row in trials), default=-1)
        add(f"trial_{number:03d}", propose(trials, config.seed), seed=1)
    best = sorted(trials, key=lambda row: -row.get("map", 0.0))[: config.finalists]
    for name, flags in [("equal", PEERS["equal"]), *((r["method"], r["searched"]) for r in best)]:
        add(f"final_{name}", {**flags, "rounds": LONGER * config.rounds}, seed=2)


def known(rows: list[dict[str, Any]], asked: dict[str, Any], path: str) -> bool:
    """Whether there is a row of this name.

    Raises:
      UserError: its settings are different.
    """
    found = [row for row in rows if row["method"] == asked["method"]]
    if found and any(found[0][key] != value for key, value in asked.items()):
        raise UserError(f"{path}: {asked['method']} was run with other flags; move the file away")
    return bool(found)


def trials_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["method"].startswith("trial_")]


def propose(trials: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The flags of the next trial: the first of FIRST that is not among `trials`, then TPE's.

    Deterministic in `trials` and `seed`. A collapsed encoder counts as an mAP of 0.
    """
    tried = [trial["searched"] for trial in trials]
    for flags in FIRST:
        if flags not in tried:
            return flags
    sampler = optuna.samplers.TPESampler(seed=seed + len(trials), n_startup_trials=len(FIRST))
    study = optuna.create_study(sampler=sampler, direction="maximize")
    for trial in trials:
        params = {name: trial["searched"][name] for name in SPACE}
        value = trial.get("map", 0.0)
        study.add_trial(optuna.trial.create_trial(params=params, distributions=SPACE, value=value))
    flags = study.ask(SPACE).params
    return {"clusters_per_batch": BATCH // flags["images_per_cluster"], **flags}


def held_out(config: SearchConfig) -> str:
    return os.path.join(config.workdir, "data")


def trained_with(config: SearchConfig, searched: dict[str, Any]) -> dict[str, Any]:
    """The flags that determine an encoder, except the seed: the searched ones, and the common."""
    return (
        dict(
            **SMALL,
            iae_epochs=config.iae_epochs,
            rounds=config.rounds,
            epochs_per_round=config.epochs_per_round,
            final_epochs=config.epochs_per_round,
        )
        | searched
    )


def evaluate(config: SearchConfig, row: dict[str, Any]) -> dict[str, Any]:
    """The SVM's figures for the encoder of a row's settings."""
    name = row["method"]
    train = {
        **experiment.FRAME,
        **row["trained"],
        "seed": row["seed"],
        "data_dir": held_out(config),
    }
    if train["rounds"]:
        iae = {
            **experiment.FRAME,
            **trained_with(config, STAGE_1),
            "seed": 1,
            "data_dir": held_out(config),
        }
        train["iae_checkpoint"] = experiment.train_iae(os.path.join(config.workdir, "iae"), iae)
    stage_1: dict[str, Any] = {"untrained": True} if name == "random" else {"net": "iae"}
    kept, line = experiment.kept(
        lambda: experiment.train_and_evaluate(
            os.path.join(config.workdir, name),
            train=train,
            export={} if train["rounds"] else stage_1,
            probe={**PROBE, "data_dir": held_out(config)},
        ),
        ("map", "top1", "knn", "seconds"),
    )
    print(f"{name}: {line}, {json.dumps(row['searched'])}", flush=True)
    return kept


if __name__ == "__main__":
    cli.run(main, SearchConfig)
