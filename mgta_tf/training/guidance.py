"""Mutual guidance (§3.4, §4.2): which net labels, which trains, on which half, with which λ₁.

The paper describes the method twice, and the texts differ:

* §4.2: the images are split once into D1 and D2. N1 labels D2 and N2 trains on it; then N2, just
  trained, labels D1 and N1 trains on it. `--schedule=sequential --split_policy=fixed`.
* §3.4: every iteration makes a new split into A and B, and both halves are labelled before either
  net trains. `--schedule=parallel --split_policy=every_round`.

A third schedule is ours, `--labels=hard_negatives`: one net trains on all images. It first matches
views alone; then it labels the images in every round, and a batch holds images of few clusters,
which are negatives of each other.

`turns` lists any schedule as one flat sequence. `mgta_tf.train` executes it in order; a resumed
run continues with the turn that was interrupted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from mgta_tf.config import flag
from mgta_tf.errors import UserError

ALL = None  # in place of a half: all images
STAGES = {"iae": 1, "mutual": 2, "final": 3}  # as the paper counts them
SPLIT_SEED = 0x5B117  # makes the split independent of other random numbers with the run's seed


@dataclasses.dataclass(frozen=True)
class GuidanceConfig:
    """Mutual guidance (§3.4, §4.2)."""

    iae_epochs: int = flag(
        0,
        "Stage 1: epochs of the initial auto-encoder (IAE) on all images; the paper uses 100 "
        "(§4.2). Needs a --decoder. auto: 10/21 of all epochs with --labels=clusters; 0 otherwise, "
        "and with --decoder=none or --iae_checkpoint.",
        minimum=0,
        auto="auto",
    )
    rounds: int = flag(
        0,
        "Stage 2: rounds; in each round both nets label and train once (hard_negatives: the one "
        "net labels from the second round on). The paper uses 10 (§4.2). Needs --labels=clusters "
        "or hard_negatives. auto: as many as leave about 3 epochs for each, at most 10 "
        "(hard_negatives: 5).",
        minimum=0,
        auto="auto",
    )
    epochs_per_round: int = flag(
        10,
        "Stage 2: epochs that a net trains on its half of the images (with "
        "--labels=hard_negatives: on all images) per round. auto: "
        "stage 2's share of all epochs, divided by --rounds.",
        minimum=1,
        auto="auto",
    )
    final_epochs: int = flag(
        100,
        "Stage 3: epochs of N2 on all images, with labels by N1; the paper uses 10 (§4.2). Each "
        "view counts as an image: with two views, 100 epochs use each image 50 times. auto: enough "
        "for a million views, but 20 (100 on a GPU) to 400; with --labels=clusters the stages "
        "share them, and this one gets 1/21 (hard_negatives: 1/6).",
        minimum=0,
        auto="auto",
    )
    lambda_start: float = flag(
        100.0,
        "Weight λ₁ of the triplet loss (eq. 8) in the first round; the paper uses 0.1 (§4.2).",
        minimum=0.0,
    )
    lambda_end: float = flag(
        100.0,
        "Weight λ₁ in the last round and in stage 3; the paper uses 1 (§4.2). In between, λ₁ "
        "is interpolated linearly.",
        minimum=0.0,
    )
    schedule: str = flag(
        "sequential",
        "Order within a round: N2 labels after it has trained (§4.2), or both nets label before "
        "either trains (§3.4).",
        choices=("sequential", "parallel"),
        advanced=True,
    )
    split_policy: str = flag(
        "fixed",
        "Split of the images into halves: one for the whole run (§4.2), or a new one every "
        "round (§3.4).",
        choices=("fixed", "every_round"),
        advanced=True,
    )
    guidance: str = flag(
        "mutual",
        "Source of a net's labels: the other net, or (ablation) the net itself.",
        choices=("mutual", "self"),
        advanced=True,
    )
    labels: str = flag(
        "none",
        "Pseudo labels: clusters of a net's features (the paper); none: each image is its own "
        "cluster (K = N), and a single net learns in stage 3 to match the views of an image; or "
        "hard_negatives: a single net does so in stages 2 and 3, and from the second round on a "
        "batch holds images of few clusters of its own features, as negatives of each other. none "
        "is the default because it gives a better encoder than clusters for the same compute, and "
        "because hard_negatives fails where many images are alike (docs/training.md).",
        choices=("none", "clusters", "hard_negatives"),
    )

    def __post_init__(self):
        if self.labels == "none" and self.rounds:
            raise UserError(
                f"--rounds={self.rounds} with --labels=none: in stage 2 the nets learn from each "
                "other's clusters; set --labels=clusters or hard_negatives, or --rounds=0"
            )


@dataclasses.dataclass(frozen=True)
class Turn:
    """One GLP or one TMP.

    process: 'GLP' (the net encodes the images, k-means labels them) or 'TMP' (the net trains).
    stage: 'iae', 'mutual' or 'final'.
    round: 1 … rounds in stage 2; 0 before, rounds + 1 after.
    net: index of the net that labels or trains: 0 is the paper's N1, 1 its N2.
    half: 0 is D1 (B in §3.4), 1 is D2 (A in §3.4), None is all images.
    epochs, lambda1: of a TMP, λ₁ being 0 in stage 1; 0 in a GLP. `losses.total_loss` applies λ₁
      (eq. 8).
    """

    process: str
    stage: str
    round: int
    net: int
    half: int | None
    epochs: int = 0
    lambda1: float = 0.0

    def about(self) -> dict[str, Any]:
        """The columns that identify the turn in the history; nets count from 1, as in the paper."""
        return {
            "process": self.process,
            "stage": self.stage,
            "round": self.round,
            "net": self.net + 1,
            "half": self.half,
        }


def lambda_of_round(config: GuidanceConfig, round_number: int) -> float:
    """λ₁ of a round in 1 … rounds: linear from `lambda_start` to `lambda_end` (§4.2).

    With a single round it is `lambda_end`.
    """
    if config.rounds < 2 or round_number > config.rounds:
        return config.lambda_end
    progress = (round_number - 1) / (config.rounds - 1)
    return config.lambda_start + progress * (config.lambda_end - config.lambda_start)


def turns(config: GuidanceConfig) -> Iterator[Turn]:
    """All turns of a run, in order: stage 1, the rounds of stage 2, stage 3."""
    if config.iae_epochs:
        yield Turn("TMP", "iae", 0, net=0, half=ALL, epochs=config.iae_epochs)
    one_net = config.labels == "hard_negatives"
    for round_number in range(1, config.rounds + 1):
        yield from (_round_of_one_net if one_net else _round)(config, round_number)
    if config.final_epochs:
        last, lambda1 = config.rounds + 1, config.lambda_end
        if config.labels != "none":
            labeller = 0 if config.guidance == "mutual" and not one_net else 1
            yield Turn("GLP", "final", last, net=labeller, half=ALL)
        yield Turn("TMP", "final", last, 1, ALL, epochs=config.final_epochs, lambda1=lambda1)


def _round(config: GuidanceConfig, number: int) -> Iterator[Turn]:
    """The four turns of a round of stage 2: two GLPs and two TMPs."""
    epochs, lambda1 = config.epochs_per_round, lambda_of_round(config, number)
    labelling, training = [], []
    for net in (1, 0):  # N2 trains first, on D2; then N1, on D1
        labeller, half = 1 - net if config.guidance == "mutual" else net, net
        labelling.append(Turn("GLP", "mutual", number, net=labeller, half=half))
        training.append(
            Turn("TMP", "mutual", number, net=net, half=half, epochs=epochs, lambda1=lambda1)
        )
    if config.schedule == "parallel":
        yield from labelling
        yield from training
    else:
        for glp, tmp in zip(labelling, training):
            yield glp
            yield tmp


def _round_of_one_net(config: GuidanceConfig, number: int) -> Iterator[Turn]:
    """A round of N2 alone, on all images: a GLP, except in the first round, and a TMP."""
    if number > 1:
        yield Turn("GLP", "mutual", number, net=1, half=ALL)
    epochs, lambda1 = config.epochs_per_round, lambda_of_round(config, number)
    yield Turn("TMP", "mutual", number, net=1, half=ALL, epochs=epochs, lambda1=lambda1)


def count_nets(config: GuidanceConfig) -> int:
    """Number of nets to build: 2 in a run with GLPs of clusters; else 1, which is N1 and N2."""
    labelled = any(turn.process == "GLP" for turn in turns(config))
    return 2 if labelled and config.labels == "clusters" else 1


def is_of_views(turn: Turn, config: GuidanceConfig) -> bool:
    """Whether a TMP matches views alone: each image is its own cluster, and batches are random."""
    first = config.labels == "hard_negatives" and turn.round == 1
    return turn.stage != "iae" and (config.labels == "none" or first)


def is_probed(turn: Turn, every: int) -> bool:
    """Whether the net of a TMP is evaluated after it: --probe_every_rounds says how often."""
    return bool(every) and (turn.stage != "mutual" or turn.round % every == 0)


def labels_of(
    turn: Turn,
    images: np.ndarray,
    clusters: dict[int | None, np.ndarray],
    config: GuidanceConfig,
) -> np.ndarray | None:
    """The labels by which a TMP draws its batches: int32 [n], or None in stage 1, which has none.

    With views alone every image is its own label. images: int32 [n], the turn's images. clusters:
    the newest pseudo labels of each half, [n].
    """
    if turn.stage == "iae":
        return None
    return images if is_of_views(turn, config) else clusters[turn.half]


def halves(
    num_images: int, round_number: int, config: GuidanceConfig, seed: int
) -> list[np.ndarray]:
    """Image indices of D1 and D2 in a round: two sorted int32 arrays whose sizes differ by ≤ 1.

    With `--split_policy=fixed` they are the same in every round.
    """
    split = 0 if config.split_policy == "fixed" else round_number
    rng = np.random.default_rng([seed, SPLIT_SEED, split])
    order = rng.permutation(num_images).astype(np.int32)
    middle = num_images // 2
    return [np.sort(order[:middle]), np.sort(order[middle:])]


def count_images(turn: Turn, num_images: int) -> int:
    """Number of images of a turn: all images, or one half."""
    if turn.half is ALL:
        return num_images
    return num_images // 2 if turn.half == 0 else num_images - num_images // 2


def images_of(turn: Turn, num_images: int, config: GuidanceConfig, seed: int) -> np.ndarray:
    """Indices of the images that a turn labels or trains on: int32 [n], sorted."""
    if turn.half is ALL:
        return np.arange(num_images, dtype=np.int32)
    return halves(num_images, turn.round, config, seed)[turn.half]
