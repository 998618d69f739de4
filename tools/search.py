"""Searches for settings at which MGTA helps; judged on a third of the training images.

  python tools/search.py --data_dir=tiny-imagenet-100 --workdir=runs/search --trials=24

Optuna's TPE proposes settings; each is trained from one shared IAE for `--rounds` and judged by the
SVM on the held-out third. The best `--finalists` are trained again, longer and from another seed
(successive halving with two rungs). The same command goes on where it was. Every trial becomes a
row of `search.json`; the validation images are never read.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import experiment
import optuna
from optuna.storages.journal import JournalFileBackend

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime.monitoring import write_json

TWIN: dict[str, Any] = dict(image_size=32, width=0.25, blocks=(2, 2, 2, 2))
PROBE: dict[str, Any] = dict(dataset="folder", image_size=32, svm_costs="0.01,0.1,1")
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
# Two views of an image are each other's nearest positive: the label need not be right to teach.
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
# All other images of the batch push, not the nearest alone: it does not rest on its margin.
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
# What is tried before TPE proposes: the letter, and ways to lean less on wrong labels.
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
    {**HARD, **WEAKER, "lambda_start": 100.0, "lambda_end": 100.0},
]


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The search."""

    data_dir: str = flag("", "Labelled images; the labels only judge.")
    workdir: str = flag("", "Folder for trials and results; resumes what it holds.")
    output: str = flag("", "JSON of all trials; default search.json in the workdir.")
    trials: int = flag(24, "Settings that are tried.", minimum=1)
    finalists: int = flag(4, "Settings of which a longer run from another seed is made.", minimum=0)
    rounds: int = flag(4, "Rounds of a trial.", minimum=1)
    epochs_per_round: int = flag(4, "Epochs each time that a net trains.", minimum=1)
    iae_epochs: int = flag(20, "Epochs of the IAE that all trials start from.", minimum=1)
    seed: int = flag(1, "Of Optuna's proposals.", minimum=0)


def propose(trial: optuna.Trial) -> dict[str, Any]:
    """The flags of `mgta_tf.train` that are searched, those of the paper among them."""
    pick, between = trial.suggest_categorical, trial.suggest_float
    images_per_cluster = pick("images_per_cluster", [2, 4])
    return dict(
        clusters_per_batch=64 // images_per_cluster,
        images_per_cluster=images_per_cluster,
        reconstruction_reduction=pick("reconstruction_reduction", ["sum", "mean"]),
        views_per_image=pick("views_per_image", [1, 2]),
        num_clusters=pick("num_clusters", [100, 300, 1000]),
        lambda_start=between("lambda_start", 0.1, 3000.0, log=True),
        lambda_end=between("lambda_end", 1.0, 3000.0, log=True),
        margin=pick("margin", [0.3, 1.0]),
        soft_margin=pick("soft_margin", [False, True]),
        normalize_embedding=pick("normalize_embedding", [False, True]),
        triplet_positive=pick("triplet_positive", ["hardest", "nearest", "random"]),
        triplet_negative=pick("triplet_negative", ["hardest", "random", "soft"]),
        color_jitter=pick("color_jitter", [0.2, 0.4, 0.6]),
        crop_min_area=pick("crop_min_area", [0.2, 0.4]),
        grayscale=pick("grayscale", [0.0, 0.2]),
        reconstruct=pick("reconstruct", ["seen", "clean"]),
        hidden_share=pick("hidden_share", [0.0, 0.25, 0.5]),
        cluster_pca_dim=pick("cluster_pca_dim", [0, 64]),
        core_fraction=pick("core_fraction", [0.5, 1.0]),
        learning_rate=pick("learning_rate", [1e-3, 3e-3]),
    )


def main(config: SearchConfig) -> None:
    for name in ("data_dir", "workdir"):
        if not getattr(config, name):
            raise UserError(f"--{name} is missing")
    data = os.path.join(config.workdir, "data")
    experiment.hold_out(config.data_dir, data, share=1 / 3)
    peers: dict[str, dict[str, Any]] = {
        "random": {"iae_epochs": 0, "rounds": 0, "final_epochs": 0},
        "iae": {**PAPER, "rounds": 0, "final_epochs": 0},
        "equal": {**PAPER, "lambda_start": 0.0, "lambda_end": 0.0},  # an IAE of equal cost
    }
    rows = [judge(config, data, name, flags, seed=1) for name, flags in peers.items()]
    study = open_study(config)
    while len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) < config.trials:
        trial = study.ask()
        row = judge(config, data, f"trial_{trial.number:03d}", propose(trial), seed=1)
        trial.set_user_attr("row", row)
        study.tell(trial, row.get("map", 0.0))
        save(config, rows + rows_of(study))
    rows += rows_of(study)
    best = sorted(rows_of(study), key=lambda row: -row.get("map", 0.0))[: config.finalists]
    for row in [rows[2], *best]:
        flags = {**row["searched"], "rounds": LONGER * config.rounds}
        rows.append(judge(config, data, f"final_{row['method']}", flags, seed=2))
        save(config, rows)


def open_study(config: SearchConfig) -> optuna.Study:
    """Optuna's study in the workdir; a trial that was killed is tried again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = JournalFileBackend(os.path.join(config.workdir, "optuna.log"))
    study = optuna.create_study(
        study_name="search",
        storage=optuna.storages.JournalStorage(journal),
        sampler=optuna.samplers.TPESampler(seed=config.seed, n_startup_trials=8),
        direction="maximize",
        load_if_exists=True,
    )
    for flags in FIRST:
        study.enqueue_trial(flags, skip_if_exists=True)
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def rows_of(study: optuna.Study) -> list[dict[str, Any]]:
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    return [trial.user_attrs["row"] for trial in complete]


def save(config: SearchConfig, rows: list[dict[str, Any]]) -> None:
    write_json(config.output or os.path.join(config.workdir, "search.json"), rows)


def judge(
    config: SearchConfig, data: str, name: str, flags: dict[str, Any], seed: int
) -> dict[str, Any]:
    """A row: the settings and what the SVM makes of their encoder."""
    shared: dict[str, Any] = dict(
        **TWIN,
        iae_epochs=config.iae_epochs,
        rounds=config.rounds,
        epochs_per_round=config.epochs_per_round,
        final_epochs=config.epochs_per_round,
        seed=seed,
        data_dir=data,
    )
    exports: dict[str, dict[str, Any]] = {"random": {"untrained": True}, "iae": {"net": "iae"}}
    if name not in ("random", "iae"):
        shared["iae_checkpoint"] = os.path.join(config.workdir, "iae", "run")
    try:
        found = experiment.train_and_judge(
            os.path.join(config.workdir, name),
            train={**shared, **flags},
            export=exports.get(name, {}),
            probe={**PROBE, "data_dir": data},
        )
        kept = {key: found[key] for key in ("map", "top1", "knn", "seconds")}
        said = f"mAP {found['map']:.2f}"
    except experiment.CollapseError as collapse:  # which TPE should learn from
        kept, said = {"collapsed": str(collapse)}, str(collapse)
    print(f"{name}: {said}, {json.dumps(flags)}", flush=True)
    return {"method": name, "seed": seed, **kept, "searched": flags}


if __name__ == "__main__":
    cli.run(main, SearchConfig)
