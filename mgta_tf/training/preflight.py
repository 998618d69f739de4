"""Checks that the flags fit the images, before anything is built.

Anything known at the start that would end a run later is refused here, with a value that works.
"""

from __future__ import annotations

import os

import numpy as np

from mgta_tf.clustering.choose import parse_candidates
from mgta_tf.clustering.clusterers import SMALLEST_CLUSTER
from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.data.sampler import BatchConfig
from mgta_tf.errors import UserError, quantity
from mgta_tf.runtime import checkpoints
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.training import guidance
from mgta_tf.training.config import SupervisedConfig, TrainConfig

CLUSTER = 20  # images per cluster in suggested values
LEAST_TO_PROBE = 10  # images; half of them to fit, in three folds


def check(config: TrainConfig, num_images: int, labels: np.ndarray | None) -> None:
    """Checks the flags of mgta_tf.train against the number of images and their labels, [N].

    Raises:
      UserError: a flag does not fit; the message suggests a value.
    """
    _check_iaes(config)
    labelled = []
    for turn in guidance.turns(config.guidance):
        images = guidance.count_images(turn, num_images)
        if turn.stage == "iae" and config.run.iae_checkpoint:
            continue
        if turn.process == "GLP":
            labelled.append(images)
        else:
            views_only = turn.stage != "iae" and config.guidance.labels == "none"
            _check_batch(config.batch, images, num_images, views_only)
    if config.guidance.labels == "hard_negatives":
        _check_hard_negatives(config, bool(labelled))
    if labelled:
        _check_clusters(config.cluster, config.batch, min(labelled))
    if config.run.probe_every_rounds:
        _check_probe(labels)


def _check_hard_negatives(config: TrainConfig, labelled: bool) -> None:
    """Some turn must have clusters, and a batch several images of each.

    labelled: whether there is a GLP.
    """
    stages, batch = config.guidance, config.batch
    if (stages.rounds or stages.final_epochs) and not (labelled and stages.rounds):
        raise UserError(
            f"--rounds={stages.rounds} --final_epochs={stages.final_epochs} with "
            "--labels=hard_negatives: the first round has no clusters yet; set --rounds=1 or more "
            "and --final_epochs=1 or more, or --labels=none"
        )
    if batch.images_per_cluster < 2 * batch.views_per_image:
        raise UserError(
            f"--images_per_cluster={batch.images_per_cluster} with --labels=hard_negatives: only "
            "one image of each cluster in a batch, with all its views; set it to "
            f"{2 * batch.views_per_image} or more"
        )


def _check_iaes(config: TrainConfig) -> None:
    """Checks that a new run, which loads --iae_checkpoint, finds what it names."""
    value = config.run.iae_checkpoint
    if not value or checkpoints.exist(Workdir(config.run.workdir).checkpoints):
        return
    folders = value.split(",")
    nets = guidance.count_nets(config.guidance)
    if len(folders) > nets:
        raise UserError(
            f"--iae_checkpoint={value}: {len(folders)} folders, but {quantity(nets, 'net')}; name "
            "one folder, or one for each net"
        )
    for path in (Workdir(folder).iae for folder in folders):
        if not os.path.exists(f"{path}.index"):
            raise UserError(
                f"--iae_checkpoint={value}: no checkpoint {path}; stage 1 of that run must have "
                "finished"
            )


def check_supervised(config: SupervisedConfig, _: int, labels: np.ndarray | None) -> None:
    """Checks the flags of mgta_tf.supervised against the labels, [N].

    Raises:
      UserError: there are no classes, or only one, or fewer images than a batch needs.
    """
    if labels is None:
        raise UserError(
            f"--data_dir={config.data.data_dir}: no class labels found; "
            "use one sub-folder per class"
        )
    known = labels[labels >= 0]
    if len(np.unique(known)) < 2:
        raise UserError(
            f"--data_dir={config.data.data_dir}: a single class, but training with labels needs "
            "two or more; add a sub-folder for each class"
        )
    sizes = np.unique(known, return_counts=True)[1]
    used = int(images_used(sizes, config.run.label_fraction).sum())
    if config.run.batch_size > used:
        raise UserError(
            f"--batch_size={config.run.batch_size} is above the {used} images whose labels are "
            f"used; give --batch_size={max(1, used // 4)}"
        )


def images_used(sizes: np.ndarray, fraction: float) -> np.ndarray:
    """How many images of each class `--label_fraction` uses: ⌈fraction · n⌉, at least one.

    sizes: int [C], images of each class, none of them 0. Returns int [C].
    """
    return np.maximum(1, np.ceil(np.round(fraction * sizes, 9))).astype(np.int64)


def _check_batch(config: BatchConfig, images: int, num_images: int, views_only: bool) -> None:
    """A batch must not hold more images than a turn trains on.

    views_only: whether the K images of a cluster are views of one image.
    """
    P, K = config.clusters_per_batch, 1 if views_only else config.images_per_cluster
    if images >= P * K:
        return
    flag, value = f"--clusters_per_batch={P}", f"--clusters_per_batch={images // K}"
    if config.global_batch:
        flag = f"--global_batch={config.global_batch}"
        value = f"--global_batch={images // K * config.images_per_cluster}"
    half = "" if images == num_images else f", a half of {num_images}"
    advice = f"give {value}" if images // K > 1 else "add images, or lower --images_per_cluster"
    raise UserError(
        f"{flag}: larger than the data: a batch has P×K = {P}×{K} images, and there are {images} "
        f"to train on{half}; {advice}"
    )


def _check_clusters(config: ClusterConfig, batch: BatchConfig, fewest: int) -> None:
    """K clusters must be fewer than the images of a GLP, and enough for batches of P clusters.

    fewest: number of images of the smallest GLP.
    """
    P = batch.clusters_per_batch
    good = max(P, fewest // CLUSTER, 2)
    if config.clusterer == "hdbscan":
        if fewest < P * SMALLEST_CLUSTER:
            raise UserError(
                f"--clusterer=hdbscan: the {fewest} images that are clustered at once cannot form "
                f"P = {P} clusters of {SMALLEST_CLUSTER} images; give "
                f"--clusters_per_batch={max(2, fewest // SMALLEST_CLUSTER)}"
            )
        return
    if isinstance(config.num_clusters, str):
        candidates = parse_candidates(config.k_candidates)
        flag, least, most = "k_candidates", candidates[0], candidates[-1]
        advice = f"give --k_candidates={good},{min(2 * good, fewest - 1)}"
    else:
        flag, least, most = "num_clusters", config.num_clusters, config.num_clusters
        advice = f"give --num_clusters={good}"
    if most >= fewest:
        raise UserError(
            f"--{flag}: {most} clusters must be fewer than the {fewest} images that are clustered "
            f"at once; {advice}"
        )
    if least < P:
        raise UserError(
            f"--{flag}: {least} clusters are fewer than --clusters_per_batch={P}; {advice}, or "
            f"--clusters_per_batch={least}"
        )
    if batch.smallest_cluster > 1 and fewest - most < P:
        raise UserError(
            f"--{flag}: with {most} clusters of {fewest} images, fewer than "
            f"--clusters_per_batch={P} clusters can have two images; {advice}"
        )


def _check_probe(labels: np.ndarray | None) -> None:
    """The online probe fits on one half of the labelled images and tests on the other."""
    if labels is None:
        raise UserError(
            "--probe_every_rounds: no class labels found; use one sub-folder per class, or give "
            "--probe_every_rounds=0"
        )
    sizes = np.bincount(labels[labels >= 0])
    if (sizes > 1).sum() < 2:
        raise UserError(
            "--probe_every_rounds: needs two classes of two or more images; give "
            "--probe_every_rounds=0"
        )
    if sizes.sum() < LEAST_TO_PROBE:
        raise UserError(
            f"--probe_every_rounds: {sizes.sum()} labelled images are fewer than the "
            f"{LEAST_TO_PROBE} that it needs; give --probe_every_rounds=0"
        )
