"""Screens of recipes: which way of using labels, or another net, adds to two views alone?

  python -m tools.study.screens.run --data_dir=tiny-imagenet-100 --workdir=W --name=tiny
  python -m tools.study.screens.run           only writes the page

A screen trains the small model for a third of the study's budget (24 image passes per photograph)
on two thirds of the training photographs and evaluates frozen res4 on the held-out third.
Validation photographs are never read. Recipes come from docs/results/screens/plan.json; a screen
becomes a row of docs/results/screens/NAME.json as soon as it is evaluated, and is not run again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.data import sampler
from mgta_tf.data.pipeline import UNIFORMS
from mgta_tf.errors import UserError
from mgta_tf.evaluation import features as features_lib
from mgta_tf.runtime.files import replacing, write_json, write_text
from mgta_tf.training.optimization import OptimizerConfig, learning_rate
from tools.study import comparisons, experiment
from tools.study.evaluation import SCREEN_PROBE, Evaluation, encode, figures, open_evaluation
from tools.study.screens import labels as labels_lib
from tools.study.screens.recipe import Net, Recipe, Trainer

BASE = "base"  # the recipe without changes, unless an entry of the plan names another `base`
FREE_PASSES = 72.0  # of the net whose clusters are free labels, as in the study


@dataclasses.dataclass(frozen=True)
class ScreensConfig:
    data_dir: str = flag("", "Labelled training images; empty only writes the page.")
    name: str = flag("tiny", "Name of the data set: rows go to RESULTS/NAME.json.")
    workdir: str = flag("", "Folder for the held-out third.")
    results: str = flag("docs/results/screens", "Folder of the plan, the rows and the page.")
    only: str = flag("", "Screens to run, separated by commas; empty runs the plan's.")
    seeds: str = flag("1", "Seeds, separated by commas.")


def main(config: ScreensConfig) -> None:
    plan = load_plan(os.path.join(config.results, "plan.json"))
    if config.data_dir:
        evaluation = read_images(config)
        names = config.only.split(",") if config.only else list(plan)
        for seed in map(int, config.seeds.split(",")):
            for name in names:
                if name not in plan:
                    raise UserError(f"--only={config.only}: the plan has no {name}")
                run_one(config, name, plan[name], seed, evaluation)
                write_page(config, plan)
    write_page(config, plan)


def load_plan(path: str) -> dict[str, dict[str, Any]]:
    """Screens by name: `idea`, `about`, `recipe` (its changes to `Recipe`), `base` if not BASE.

    Raises:
      UserError: the file does not exist, or is not a plan.
    """
    try:
        with open(path, encoding="utf-8") as file:
            plan = json.load(file)
        for entry in plan.values():
            Recipe(**entry["recipe"]), entry["about"], entry["idea"], plan[entry.get("base", BASE)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a plan of screens ({error})") from None
    return plan


def read_images(config: ScreensConfig) -> Evaluation:
    """Two thirds of the images to train on, the held-out third to evaluate on."""
    if not config.workdir:
        raise UserError("--workdir is required: a folder for the held-out third")
    folder = os.path.join(config.workdir, config.name)
    experiment.hold_out(config.data_dir, folder, share=1 / 3)
    return open_evaluation(folder, SCREEN_PROBE)


def run_one(
    config: ScreensConfig, name: str, entry: dict[str, Any], seed: int, evaluation: Evaluation
) -> None:
    """Trains and evaluates a recipe and adds its row, unless the row exists."""
    path = os.path.join(config.results, f"{config.name}.json")
    rows = experiment.load_rows(path)
    if any(row["screen"] == name and row["seed"] == seed for row in rows):
        return
    tf.keras.backend.clear_session()
    recipe, began = Recipe(**entry["recipe"]), time.process_time()
    images, classes = evaluation.images(), evaluation.sets[0].labels
    assert classes is not None
    free = None
    if recipe.labels in ("free", "agree"):
        free = free_features(os.path.join(config.workdir, config.name), images[0], classes, seed)
    net, facts = train(recipe, images[0], classes, seed, free)
    facts["train_cpu_seconds"] = time.process_time() - began
    found = evaluation.evaluate([encode(net.encoder, part) for part in images])
    row = {
        "screen": name,
        "seed": seed,
        **figures(found),
        **facts,
        "recipe": entry["recipe"],
    }
    write_json(path, [*rows, row])
    print(f"{config.name}: {name}, seed {seed}: mAP {row['map']:.2f}", flush=True)


def free_features(folder: str, pixels: np.ndarray, classes: np.ndarray, seed: int) -> np.ndarray:
    """Features [N, D] of another net, which matched two views for 72 passes that are not counted.

    It is trained from another seed, once: its features stay in the screens' folder.
    """
    path = os.path.join(folder, f"free_features_{seed}.npy")
    if not os.path.exists(path):
        net, _ = train(Recipe(passes=FREE_PASSES), pixels, classes, seed + 1000)
        features = features_of(net, pixels)
        with replacing(path) as file:
            np.save(file, features)
    return np.load(path, allow_pickle=False)


def train(
    recipe: Recipe,
    pixels: np.ndarray,
    classes: np.ndarray,
    seed: int,
    free: np.ndarray | None = None,
) -> tuple[Net, dict[str, Any]]:
    """Trains by a recipe until its image passes are spent: (the net, facts for the row).

    Args:
      pixels: uint8 [N, S, S, 3].
      classes: int [N], which only oracle labels and purities read.
      free: [N, D], `free_features`, for the recipes that use them.
    """
    number, cost = len(pixels), recipe.step_cost()
    budget = recipe.passes * number
    num_labels = max(int(classes.max()) + 1, recipe.num_clusters)
    trainer, on_device = Trainer(recipe, num_labels, seed), tf.constant(pixels)
    first, steps, labelled_at = schedule(recipe, number)
    plan = sampler.balanced_draws(number, recipe.images, steps, np.random.default_rng(seed))
    labels = np.full(number, -1, np.int32)
    purities: list[float] = []
    images_of: Callable[[int], np.ndarray] = plan.__getitem__
    rate = OptimizerConfig(learning_rate=recipe.learning_rate)
    for step in range(steps):
        if step in labelled_at:
            features = label_features(trainer.nets[-1], pixels, recipe)
            found = labels_lib.make(recipe, features, classes, seed, free)
            labels = labels_lib.renamed(found, labels) if purities else found
            purities.append(round(labels_lib.pair_purity(labels, classes), 4))
            images_of = batches(recipe, plan, labels, seed)
        chosen = np.repeat(images_of(step), recipe.views).astype(np.int32)
        uniforms = np.random.default_rng([seed, step]).random((len(chosen), UNIFORMS), np.float32)
        trainer.set_learning_rate(learning_rate(rate, step, steps))
        weight = tf.constant(recipe.weight if step >= first else 0.0)
        trainer.step(
            tf.gather(on_device, chosen),
            tf.constant(chosen),
            tf.constant(labels[chosen]),
            tf.constant(uniforms),
            weight,
        )
    spent = steps * cost + len(labelled_at) * recipe.labelling_cost(number)
    assert spent <= budget + cost
    facts = {
        "steps": steps,
        "passes": round(spent / number, 2),
        "pair_purity": purities,
        "labelled": round(float((labels >= 0).mean()), 4),
    }
    return trainer.nets[0], facts


def batches(
    recipe: Recipe, plan: np.ndarray, labels: np.ndarray, seed: int
) -> Callable[[int], np.ndarray]:
    """A function of the step that returns the images of its batch.

    plan: [steps, images], without regard to labels. Many images have no mutual nearest neighbor,
    or no mate on which two nets agree; half of a batch is of the plan then, so that all of them
    are still seen.
    """
    if recipe.use == "classes":
        return plan.__getitem__
    draw = labels_lib.batches_with_mates(labels, recipe.images, recipe.mates, seed)
    if recipe.labels not in ("pairs", "agree"):
        return draw
    half = recipe.images // 2
    return lambda step: np.concatenate([draw(step)[:half], plan[step][:half]])


def schedule(recipe: Recipe, number: int) -> tuple[int, int, set[int]]:
    """(first step with labels, number of steps, steps before which images are labelled).

    The cost of labelling reduces the number of steps, so that every recipe costs its `passes`.
    """
    cost, budget = recipe.step_cost(), recipe.passes * number
    if recipe.labels == "none":
        steps = int(budget // cost)
        return steps, steps, set()
    times = recipe.labellings if recipe.makes_labels else 1
    steps = int((budget - times * recipe.labelling_cost(number)) // cost)
    first = int(recipe.label_from * steps)
    return first, steps, {first + turn * (steps - first) // times for turn in range(times)}


def label_features(net: Net, pixels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Unit features [N, D] for the labels: of the photographs, or the mean over center crops."""
    if recipe.labels in ("oracle", "free"):
        return np.empty(0)
    total, size = features_of(net, pixels), pixels.shape[1]
    for view in range(1, recipe.label_views):
        side = size - 4 * view  # a crop of the middle, and its mirror image
        edge = (size - side) // 2
        crops = pixels[:, edge : edge + side, edge : edge + side]
        crops = tf.image.resize(crops[:, :, ::-1] if view % 2 else crops, (size, size)).numpy()
        total += features_of(net, crops.round().astype(np.uint8))
    return features_lib.normalize(total)


def features_of(net: Net, pixels: np.ndarray) -> np.ndarray:
    """Pooled and normalized res4, as the probe reads it: [N, D]."""
    return features_lib.normalize(features_lib.pool(encode(net.encoder, pixels), "res4"))


def write_page(config: ScreensConfig, plan: dict[str, dict[str, Any]]) -> None:
    rows = {
        name.removesuffix(".json"): experiment.load_rows(os.path.join(config.results, name))
        for name in sorted(os.listdir(config.results), reverse=True)
        if name.endswith(".json") and name != "plan.json"
    }
    write_text(os.path.join(config.results, "README.md"), page(plan, rows))


def page(plan: dict[str, dict[str, Any]], rows: dict[str, list[dict[str, Any]]]) -> str:
    """docs/results/screens/README.md: every screen beside the base, by idea and data set."""
    head = " | ".join(f"{name}: SVM mAP | − base | seeds | right pairs" for name in rows)
    first = {name: _maps(found, BASE).get(1, math.nan) for name, found in rows.items()}
    bases = " and ".join(f"{value:.2f} on {name}" for name, value in first.items())
    lines = [
        "# Screens: what might add to two views alone",
        "",
        "Trained on two thirds of the training photographs with 24 image passes each, a third of "
        "the study's (sections 9 and 10: 72, like the study), including those of labels and "
        "teachers; evaluated on the held-out third with frozen res4 and linear SVMs (C = 0.1). "
        "The base is two views alone with mild crops (the default of `mgta_tf.train` has medium "
        "ones: section 10): batch-hard triplets, one net, no labels. A difference is of runs with "
        f"the same seed; the base with seed 1 has {bases}. The "
        "deviation between two runs of equal recipes is about 0.35 mAP (two views alone in float32 "
        "and bfloat16, five seeds, Tiny ImageNet), so that a difference of one seed below 0.7, or "
        "on CIFAR-10 below about 1.1, is within the noise. Right pairs: the probability that two "
        "images of one label are of one class, at the first and the last labelling; by chance 0.01 "
        "on Tiny ImageNet and 0.10 on CIFAR-10.",
        "",
        "Screens need not transfer: the loss on res4 as well gains here and not in the study; the "
        "fixed C explains only part of it ([limits](../../results.md#limits)).",
        "",
    ]
    ran = {row["screen"] for found in rows.values() for row in found}
    for idea in dict.fromkeys(plan[name]["idea"] for name in plan if name in ran):
        lines += [f"## {idea}", "", f"| screen | {head} |"]
        lines += ["|---" * (1 + 4 * len(rows)) + "|"]
        for name, entry in plan.items():
            if entry["idea"] == idea and name in ran:
                base = entry.get("base", BASE)
                cells = [cell for found in rows.values() for cell in _cells(found, name, base)]
                lines.append(f"| {entry['about']} | {' | '.join(cells)} |")
        lines.append("")
    waiting = [f"`{name}`" for name in plan if name not in ran]
    if waiting:
        lines += [f"In the plan, not run yet: {', '.join(waiting)}.", ""]
    lines += [
        "```",
        "python -m tools.study.screens.run --data_dir=tiny-imagenet-100 --workdir=W --name=tiny",
        "python -m tools.study.screens.run --data_dir=cifar-10-1000 --workdir=W --name=cifar",
        "```",
        "",
    ]
    return "\n".join(lines)


def _cells(rows: list[dict[str, Any]], name: str, base_name: str) -> list[str]:
    """SVM mAP, its difference to the base, the number of seeds, and the share of right pairs."""
    base, found = _maps(rows, base_name), _maps(rows, name)
    if not found:
        return ["-", "-", "0", "-"]
    differences = [value - base[seed] for seed, value in found.items() if seed in base]
    difference = comparisons.difference(differences) if name != base_name else ""
    mean = f"{statistics.mean(found.values()):.2f}"
    return [mean, difference, str(len(found)), _purity(rows, name)]


def _maps(rows: list[dict[str, Any]], name: str) -> dict[int, float]:
    """SVM mAP of a screen by seed."""
    return {row["seed"]: row["map"] for row in rows if row["screen"] == name}


def _purity(rows: list[dict[str, Any]], name: str) -> str:
    found = [row["pair_purity"] for row in rows if row["screen"] == name and row["pair_purity"]]
    if not found or any(math.isnan(value) for value in found[0]):
        return "-"
    first, last = found[0][0], found[0][-1]
    return f"{first:.2f}" if len(found[0]) == 1 else f"{first:.2f} → {last:.2f}"


if __name__ == "__main__":
    cli.run(main, ScreensConfig)
