"""Rules for flags whose default is 'auto': values chosen for the images and the machine.

The rules are pure functions, applied once before a run starts. The reason of each value is printed,
and the run saves the value.

The cost of training is estimated in floating-point operations (`operations`), and the speed of the
machine is nominal. `--minutes` measures the speed (mgta_tf/training/speed.py).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

from mgta_tf import config as config_lib
from mgta_tf.clustering.choose import parse_candidates
from mgta_tf.clustering.clusterers import SMALLEST_CLUSTER
from mgta_tf.config import format_value
from mgta_tf.errors import quantity
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.runtime.progress import duration
from mgta_tf.training import guidance
from mgta_tf.training.guidance import GuidanceConfig

CORE, GPU = 20e9, 5e12  # operations per second: of the small encoder on a core; a guess for a GPU
PATIENCE = 600.0  # maximum seconds of training with ResNet-50 on a CPU; else the encoder is smaller
VIEWS = 1_000_000  # images that a run trains on, counting repetitions, which determine its epochs
FEWEST_EPOCHS, FEWEST_EPOCHS_GPU, MOST_EPOCHS = 20, 100, 400
ENOUGH = 0.25  # fraction of these epochs that --minutes must allow; else a smaller encoder is used
LARGEST, LARGEST_GPU = 64, 128  # pixels per side; the paper trains at 64
P = 32  # clusters per batch and device
K = 2
IMAGES_OF_CLUSTER, MOST_CLUSTERS = 10, 300
MOST_ROUNDS, EPOCHS_OF_ROUND = 10, 3  # the paper's rounds; with fewer epochs each, fewer rounds
SHARES = {"iae": 10, "mutual": 10, "final": 1}  # of the epochs, as in §4.2: 100, 10 of 10, 10
# With --labels=hard_negatives: six parts, of which the first has no clusters.
HARD_SHARES, HARD_ROUNDS = {"iae": 0, "mutual": 5, "final": 1}, 5
HARD_P, HARD_IMAGES = 2, 32  # clusters per batch and device; images, without views
HARD_CLUSTER = 64  # images of a cluster, in the mean
# Flags of the schedule that a kind of labels does not use.
WITHOUT = {
    "clusters": (),
    "hard_negatives": ("iae_epochs",),
    "none": ("iae_epochs", "rounds", "epochs_per_round"),
}

FULL = ModelConfig()
SMALL = ModelConfig(width=0.25, blocks=(2, 2, 2, 2))
NAMES = {FULL: "ResNet-50", SMALL: "small encoder"}


@dataclasses.dataclass(frozen=True)
class Facts:
    """The input of the rules.

    images: number of images. side: median of their shorter sides, in pixels. cores: number of CPU
    cores. gpus: number on all hosts. devices: number that share a batch. precision: the fast
    `--mixed_precision` of the machine, and the reason.
    """

    images: int
    side: int
    cores: int
    gpus: int = 0
    devices: int = 1
    precision: tuple[str, str] = ("off", "float32")

    @property
    def rate(self) -> float:
        """Nominal operations per second."""
        return self.gpus * GPU if self.gpus else self.cores * CORE

    @property
    def machine(self) -> str:
        count, what = (self.gpus, "GPU") if self.gpus else (self.cores, "core")
        return quantity(count, what)


@dataclasses.dataclass(frozen=True)
class Choice:
    """Values by flag with their reasons; a value with an empty reason is not printed."""

    values: dict[str, Any]
    reason: str = ""

    def __str__(self) -> str:
        flags = " ".join(f"--{name}={format_value(value)}" for name, value in self.values.items())
        return f"  {flags:<30}  {self.reason}"


def of_run(given: dict[str, Any], facts: Facts, seconds: float = 0.0) -> list[Choice]:
    """Values for mgta_tf.train; with `seconds`, without the epochs, which `of_schedule` plans.

    Args:
      given: The leaves of a TrainConfig that are not 'auto'.
      facts: Facts about images and devices.
      seconds: Time for training within `--minutes`; 0 without that flag.
    """
    schedule = of_schedule(given, epochs_by_size(facts), reason_by_size(given, facts))
    planned = config_lib.from_dict(GuidanceConfig, leaves_with(given, schedule))
    halves = 1 if given["decoder"] == "none" else 2
    cost = passes(planned, facts.images) * halves
    precision, why = facts.precision
    found = [*_image_and_encoder(given, facts, cost, seconds), *_batch(given, facts)]
    found.append(Choice({"mixed_precision": precision}, why))
    threads = threads_per_operation(leaves_with(given, found)["width"], facts.cores, facts.gpus)
    why = "operations of a small encoder are too short for two cores" if threads else ""
    found.append(Choice({"threads_per_operation": threads}, why))
    return [*_needed(given, found), *([] if seconds else schedule)]


def of_supervised(
    given: dict[str, Any], facts: Facts, labelled: int, encoder: tuple[ModelConfig, int] | None
) -> list[Choice]:
    """Values for mgta_tf.supervised.

    Args:
      given: The leaves of a SupervisedConfig that are not 'auto'.
      facts: Facts about images and devices.
      labelled: Number of images whose labels are used.
      encoder: Shape and image size of the encoder given by --init, if any.
    """
    if encoder:
        model, size = encoder
        values = {"image_size": size, "width": model.width, "blocks": model.blocks}
        found = [Choice(_unless(given, values), "those of --init")]
    else:
        found = _image_and_encoder(given, facts, given["epochs"] * labelled, 0.0)
    batch = max(1, min(64, labelled // 4))
    found.append(Choice({"batch_size": batch}, f"64, and at most a quarter of {labelled:,} images"))
    return _needed(given, found)


def leaves_with(given: dict[str, Any], choices: list[Choice]) -> dict[str, Any]:
    """The given leaves and the chosen ones together."""
    return functools.reduce(lambda leaves, choice: {**choice.values, **leaves}, choices, given)


def _needed(given: dict[str, Any], choices: list[Choice]) -> list[Choice]:
    """The choices for flags that are not given."""
    return [choice for choice in choices if choice.values.keys() - given.keys()]


def _unless(given: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in given}


# -------------------------------------------------------------------------- Image size and encoder


def _image_and_encoder(
    given: dict[str, Any], facts: Facts, passes: float, seconds: float
) -> list[Choice]:
    """The image size, and the largest encoder that can be trained in the available time.

    seconds: for training, from --minutes; 0 means ResNet-50 on GPUs, or on a CPU if it is fast
    enough.
    """
    size = given.get("image_size") or image_size(facts)
    why = f"the largest multiple of 32 within {facts.side} px, up to {_cap(facts)} px on "
    size_choice = Choice({"image_size": size}, why + ("a GPU" if facts.gpus else "a CPU"))
    if "width" in given or "blocks" in given:
        whole = {"width": FULL.width, "blocks": FULL.blocks}
        return [size_choice, Choice(_unless(given, whole), "as in ResNet-50")]

    def needed(model: ModelConfig, size: int) -> float:
        return passes * operations(model, size) / facts.rate

    limit = seconds / ENOUGH if seconds else math.inf if facts.gpus else PATIENCE
    model = FULL if needed(FULL, size) <= limit else SMALL
    about = f"about {duration(needed(model, size))} on {facts.machine}"
    if model is SMALL:
        about += f"; ResNet-50 would take about {duration(needed(FULL, size))}"
        if seconds and "image_size" not in given and needed(SMALL, size) > limit:
            size_choice = Choice({"image_size": 32}, f"--minutes is too short for {size} px")
            about = f"--minutes is too short for {NAMES[FULL]}"
    encoder = Choice({"width": model.width, "blocks": model.blocks}, f"{NAMES[model]}: {about}")
    return [size_choice, encoder]


def threads_per_operation(width: float, cores: int, gpus: int) -> int:
    """CPU threads that share an operation: 1 for a small encoder on two cores, else 0, the default.

    An operation of the small encoder takes as long on two cores as on one, but the backward pass
    has two independent operations for each layer, which run side by side (docs/performance.md).
    More cores were not measured.
    """
    return int(width <= SMALL.width and cores == 2 and not gpus)


def image_size(facts: Facts) -> int:
    """The largest multiple of 32 within the images' shorter side, from 32 up to the cap."""
    return max(32, min(_cap(facts), facts.side // 32 * 32))


def _cap(facts: Facts) -> int:
    return LARGEST_GPU if facts.gpus else LARGEST


def operations(model: ModelConfig, size: int) -> float:
    """Floating-point operations per image of a training step: three times the forward pass.

    Counts the convolutions of the encoder except the projections of its shortcuts: a block of width
    w has 1·4 + 9 + 4 = 17 w² products per pixel. A decoder doubles the cost.
    """
    products = 49 * 3 * model.channels(64) * (size / 2) ** 2
    for stage, blocks in enumerate(model.blocks, 2):
        width = model.channels(64 * 2 ** (stage - 2))
        products += blocks * 17 * width**2 * (size / 2**stage) ** 2
    return 3 * 2 * products


# ------------------------------------------------------------------------------- Clusters and batch


def _batch(given: dict[str, Any], facts: Facts) -> list[Choice]:
    """The number of clusters, P and K."""
    images_per_cluster = given.get("images_per_cluster") or k_of_views(given)
    views = Choice({"images_per_cluster": images_per_cluster}, "K: images of each cluster")
    if given["labels"] == "none":
        views = Choice(views.values, "K: views of each image")
        return [_clusters_per_batch(given, facts, facts.images // 2, "half of the images"), views]
    if given["labels"] == "hard_negatives":
        return _batch_of_hard_negatives(given, facts)
    half = facts.images // 2
    clusters = max(2, min(MOST_CLUSTERS, half // IMAGES_OF_CLUSTER))
    clusters = max(clusters, given.get("clusters_per_batch", 0))
    why = f"one for {IMAGES_OF_CLUSTER} of the {half:,} images of a half, up to {MOST_CLUSTERS}"
    of_clusters = Choice({"num_clusters": clusters}, why)
    known: int | str = given.get("num_clusters", clusters)
    if given["clusterer"] == "hdbscan":
        most, why = half // SMALLEST_CLUSTER, f"clusters have {SMALLEST_CLUSTER} images or more"
    else:
        most = parse_candidates(given["k_candidates"])[0] if isinstance(known, str) else known
        why = f"{most} clusters"
        if given["views_per_image"] == 1:  # a cluster of a single image has no positive
            most, why = most // 2, f"half of {most} clusters"
    most = min(most, half // images_per_cluster)
    return [of_clusters, _clusters_per_batch(given, facts, most, why), views]


def _batch_of_hard_negatives(given: dict[str, Any], facts: Facts) -> list[Choice]:
    """Number of clusters, P and K with --labels=hard_negatives: a batch is of few clusters."""
    views = given["views_per_image"]
    in_batch = given.get("clusters_per_batch", HARD_P * facts.devices)
    each = min(HARD_IMAGES * facts.devices // in_batch, facts.images // (in_batch * views))
    K = given.get("images_per_cluster", max(2, each) * views)
    if given["global_batch"]:  # P is the batch / K
        in_batch = given["global_batch"] // K
    clusters = max(2 * in_batch, min(MOST_CLUSTERS, facts.images // HARD_CLUSTER))
    why = f"one for {HARD_CLUSTER} of {facts.images:,} images, 2·P to {MOST_CLUSTERS}"
    few = {} if given["global_batch"] else {"clusters_per_batch": in_batch}
    return [
        Choice({"num_clusters": clusters}, why),
        Choice(few, "P: few clusters per step, whose images are hard to tell apart"),
        Choice({"images_per_cluster": K}, f"K: {views} views of {K // views} images of a cluster"),
    ]


def k_of_views(given: dict[str, Any]) -> int:
    """K, which does not depend on the images: the number of views of an image, at least two."""
    return max(K, given["views_per_image"])


def _clusters_per_batch(given: dict[str, Any], facts: Facts, most: int, why: str) -> Choice:
    """P: the same for every device, at least two each, and at most `most` in total."""
    if given["global_batch"]:
        return Choice({})  # P is the batch / K
    each = max(2, min(P, most // facts.devices))
    devices = f" on each of {facts.devices} devices" if facts.devices > 1 else ""
    what = "images" if given["labels"] == "none" else "clusters"
    limit = "" if each == P else f", but no more than {why}"
    reason = f"P: {P} different {what} per step{devices}{limit}"
    return Choice({"clusters_per_batch": each * facts.devices}, reason)


# --------------------------------------------------------------------------------------- Epochs


def epochs_by_size(facts: Facts) -> int:
    """Epochs after which a run has trained on VIEWS images, within limits."""
    fewest = FEWEST_EPOCHS_GPU if facts.gpus else FEWEST_EPOCHS
    return round(max(fewest, min(MOST_EPOCHS, VIEWS / facts.images)))


def of_schedule(given: dict[str, Any], epochs: int, reason: str) -> list[Choice]:
    """Splits `epochs` passes over all images among the stages in the paper's ratio (§4.2).

    With hard negatives by HARD_SHARES. A disabled stage gets none: stage 2 without labels; stage 1
    without clusters, without a decoder, or with --iae_checkpoint. Given flags keep their values.
    """
    labels = given["labels"]
    shares, most = (
        (SHARES, MOST_ROUNDS) if labels != "hard_negatives" else (HARD_SHARES, HARD_ROUNDS)
    )
    on = {
        "iae": labels == "clusters" and given["decoder"] != "none" and not given["iae_checkpoint"],
        "mutual": labels != "none" and given.get("rounds") != 0,
        "final": True,
    }
    total = sum(share for stage, share in shares.items() if on[stage])
    part = {stage: epochs * share / total * on[stage] for stage, share in shares.items()}
    rounds = min(most, max(1, round(part["mutual"] / EPOCHS_OF_ROUND)))
    rounds = given.get("rounds", rounds if on["mutual"] else 0)
    values = {
        "iae_epochs": max(1, round(part["iae"])) if on["iae"] else 0,
        "rounds": rounds,
        "epochs_per_round": max(1, round(part["mutual"] / max(1, rounds))),
        "final_epochs": max(1, round(part["final"])),
    }
    chosen = _unless(given, values)
    silent = {name: value for name, value in chosen.items() if name in WITHOUT[labels]}
    printed = {name: v for name, v in chosen.items() if name not in silent}
    return [Choice(silent), *([Choice(printed, reason)] if printed else [])]


def reason_by_size(given: dict[str, Any], facts: Facts) -> str:
    """The reason of `epochs_by_size`.

    Epochs count every view, so an epoch of two views alone takes half of the images.
    """
    epochs, views = epochs_by_size(facts), given.get("images_per_cluster") or k_of_views(given)
    if given["labels"] == "none":
        shown = f"each image {epochs / views:g} times, in {views} views"
    else:
        shown = f"{epochs} epochs of all stages together"
    fewest = FEWEST_EPOCHS_GPU if facts.gpus else FEWEST_EPOCHS
    limits = {MOST_EPOCHS: f"at most {MOST_EPOCHS} epochs", fewest: f"at least {fewest} epochs"}
    return f"{shown}: {limits.get(epochs, f'{VIEWS:,} views in all')}"


def epochs_within(seconds_of: Callable[[int], float], seconds: float) -> int:
    """The largest number of epochs, at least 1, that fits the time.

    seconds_of: epochs → seconds, not decreasing.
    """
    most = 1
    while seconds_of(2 * most) <= seconds and most < 2**20:
        most *= 2
    fewest, most = most, 2 * most
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fewest, most = (middle, most) if seconds_of(middle) <= seconds else (fewest, middle)
    return fewest


def passes(config: GuidanceConfig, images: int) -> float:
    """Number of images that all turns train on; labelling an image counts as a third."""
    total = 0.0
    for turn in guidance.turns(config):
        count = guidance.count_images(turn, images)
        total += count * turn.epochs if turn.process == "TMP" else count / 3
    return total
