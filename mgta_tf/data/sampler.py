"""P×K batches (§3.3.1). A plan is an array of image indices, one row per batch of a turn.

A plan is a pure function of its arguments, so a resumed run computes the same plan and continues at
its next row.

All draws are balanced. Items are drawn in a random order until each has been drawn once, then in a
new random order, and so on; the counts of two items never differ by more than one. A batch draws
its P clusters this way, and K images of each of them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mgta_tf.config import flag
from mgta_tf.errors import UserError, quantity

NO_CLUSTER = -1
ROWS = 1024  # of a plan, at once


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """Batches (§3.3.1)."""

    clusters_per_batch: int = flag(
        32,
        "P: clusters per batch. auto: 32 for each device (--labels=hard_negatives: 2), fewer where "
        "there are few images.",
        minimum=2,
        auto="auto",
    )
    images_per_cluster: int = flag(
        2,
        "K: images of each cluster per batch. auto: --views_per_image, 2 at least "
        "(--labels=hard_negatives: those of 16 images).",
        minimum=2,
        auto="auto",
    )
    views_per_image: int = flag(
        2,
        "Augmented views of each image in a batch; K counts all views. The views of an image are "
        "positives of each other. The paper uses 1.",
        minimum=1,
    )
    global_batch: int = flag(
        0,
        "Images per step over all devices; sets P to this number / K. 0: the batch is P·K.",
        minimum=0,
        advanced=True,
    )

    def __post_init__(self):
        if self.global_batch % self.images_per_cluster:
            raise UserError(
                f"--global_batch={self.global_batch}: must be a multiple of "
                f"--images_per_cluster={self.images_per_cluster}"
            )
        if self.global_batch:
            clusters = self.global_batch // self.images_per_cluster
            object.__setattr__(self, "clusters_per_batch", clusters)
        if self.images_per_cluster % self.views_per_image:
            raise UserError(
                f"--images_per_cluster={self.images_per_cluster}: must be a multiple of "
                f"--views_per_image={self.views_per_image}"
            )

    @property
    def size(self) -> int:
        """P·K, also the batch of the stages without clusters."""
        return self.clusters_per_batch * self.images_per_cluster

    @property
    def of_views(self) -> BatchConfig:
        """A batch of the same size in which each image, with all its views, is its own cluster."""
        images, views = self.size // self.views_per_image, self.views_per_image
        return dataclasses.replace(
            self, clusters_per_batch=images, images_per_cluster=views, global_batch=0
        )

    @property
    def smallest_cluster(self) -> int:
        """Number of images that a cluster needs for each of them to have a positive."""
        return 2 if self.views_per_image == 1 else 1


def steps_of(num_images: int, epochs: int, batch_size: int) -> int:
    """Steps of `epochs` passes over `num_images`; a batch may span two passes."""
    return max(1, num_images * epochs // batch_size)


def shuffled_plan(images: np.ndarray, batch_size: int, epochs: int, seed: list[int]) -> np.ndarray:
    """Batches drawn without regard to clusters, in balanced draws: [steps, batch_size] int32.

    Raises:
      UserError: the batch is larger than the data.
    """
    if len(images) < batch_size:
        raise UserError(
            f"a batch of {batch_size} images (--clusters_per_batch × --images_per_cluster) is "
            f"larger than the data ({len(images)} images); lower --clusters_per_batch"
        )
    rng, steps = np.random.default_rng(seed), steps_of(len(images), epochs, batch_size)
    return _drawn(images, balanced_draws(len(images), batch_size, steps, rng))


def views_plan(images: np.ndarray, config: BatchConfig, epochs: int, seed: list[int]) -> np.ndarray:
    """Batches in which each image is its own cluster: P images, K views each, [steps, P*K] int32.

    Raises:
      UserError: there are fewer than P images.
    """
    P, K = config.clusters_per_batch, config.images_per_cluster
    if len(images) < P:
        raise UserError(f"--clusters_per_batch={P}: larger than the data ({len(images)} images)")
    steps = steps_of(len(images), epochs, P * K)
    chosen = balanced_draws(len(images), P, steps, np.random.default_rng(seed))
    return np.repeat(_drawn(images, chosen), K, axis=1)


def _drawn(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """images[draws] in the memory of `draws`, int32 [steps, n], block by block."""
    for first in range(0, len(draws), ROWS):
        draws[first : first + ROWS] = images[draws[first : first + ROWS]]
    return draws


def pk_plan(
    images: np.ndarray,
    labels: np.ndarray,
    config: BatchConfig,
    epochs: int,
    seed: list[int],
    by_size: bool = False,
) -> np.ndarray:
    """Batches of P clusters × K images, cluster by cluster, [steps, P*K] int32.

    Singletons have no positive: images without a cluster and, with one view, images that are alone
    in their cluster. They form batches of their own, in proportion to their number, which are
    trained with the reconstruction loss only.

    Args:
      images: [n] indices of the images.
      labels: [n] their clusters; -1: no cluster.
      config: P, K and the number of views.
      epochs: passes; `epochs` × n images are drawn, rounded down to whole batches.
      seed: seed of the random generator.
      by_size: draw clusters in proportion to their images, which are then used about equally often.

    Raises:
      UserError: fewer than P clusters are large enough, or the batch exceeds the data.
    """
    P, K, views = config.clusters_per_batch, config.images_per_cluster, config.views_per_image
    members, singletons = _members(images, labels, config.smallest_cluster)
    if len(members) < P:
        raise UserError(
            f"only {quantity(len(members), 'cluster')} with {config.smallest_cluster} images or "
            f"more, fewer than --clusters_per_batch={P}; lower it, or choose another --num_clusters"
        )
    if len(images) < P * K:
        raise UserError(
            f"a batch of P×K = {P * K} images is larger than the {len(images)} images to train on; "
            "lower --clusters_per_batch"
        )
    rng = np.random.default_rng(seed)
    steps = steps_of(len(images), epochs, P * K)
    singleton_steps = min(steps - 1, round(epochs * len(singletons) / (P * K)))

    places = [max(1, round(len(own) * views / K)) if by_size else 1 for own in members]
    owners = np.repeat(np.arange(len(members)), places)  # cluster by place
    clusters = owners[balanced_draws(len(owners), P, steps - singleton_steps, rng)]  # [steps, P]

    batches = np.empty((steps - singleton_steps, P, K), np.int32)
    order = np.argsort(clusters, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(clusters.ravel(), minlength=len(members)))
    for cluster, slots in enumerate(np.split(order, ends[:-1])):
        groups = balanced_draws(len(members[cluster]), K // views, len(slots), rng)
        batches.reshape(-1, K)[slots] = members[cluster][np.repeat(groups, views, axis=1)]

    plan = np.empty((steps, P * K), np.int32)
    of_singletons = np.zeros(steps, bool)
    if singleton_steps:
        of_singletons[rng.choice(steps, singleton_steps, replace=False)] = True
        drawn = balanced_draws(len(singletons), P * K, singleton_steps, rng)
        plan[of_singletons] = singletons[drawn]
    plan[~of_singletons] = batches.reshape(-1, P * K)
    return plan


def labels_for_triplets(labels: np.ndarray, smallest: int = 2) -> np.ndarray:
    """The labels, int32, with clusters of fewer than `smallest` images set to NO_CLUSTER."""
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    enough = (labels >= 0) & (sizes[labels] >= smallest)
    return np.where(enough, labels, NO_CLUSTER).astype(np.int32)


def _members(
    images: np.ndarray, labels: np.ndarray, smallest: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """The images of each cluster of at least `smallest` images, and the singletons."""
    labels = labels_for_triplets(labels, smallest)
    order = np.argsort(labels, kind="stable")
    singletons = int(np.sum(labels == NO_CLUSTER))
    clustered = order[singletons:]
    starts = np.flatnonzero(np.diff(labels[clustered])) + 1
    members = [images[part] for part in np.split(clustered, starts)] if len(clustered) else []
    return members, images[order[:singletons]]


def evenly(total: int, count: int) -> np.ndarray:
    """At most `count` of the numbers below `total`, evenly spaced, the first and the last among
    them: int64, ascending."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))


def balanced_draws(items: int, size: int, groups: int, rng: np.random.Generator) -> np.ndarray:
    """Draws `groups` groups of `size` items each: [groups, size] integers below `items`.

    The counts of two items never differ by more than one. A group holds min(items, size) distinct
    items, even if a random order ends within it: the next order then begins with the items that the
    group lacks.
    """
    total = groups * size
    drawn = np.empty(total, np.int32)  # a plan of many epochs takes most of a run's memory
    for start in range(0, total, items):
        order = rng.permutation(items)
        held = start % size
        if held:
            in_group = np.isin(order, drawn[start - held : start])
            first = np.flatnonzero(~in_group)[: size - held]
            order = np.concatenate([order[first], np.delete(order, first)])
        drawn[start : start + items] = order[: total - start]
    return drawn.reshape(groups, size)
