"""P×K batches (§3.3.1) as plans: arrays of image indices, row by row what a net will see.

A plan is a pure function of its arguments, so row `s` of a turn is determined by (seed, round, net,
labels, s); a resumed run makes the plan again and goes on at its row.

Everything is drawn from decks. A deck of n cards is shuffled, dealt to its end, shuffled again: at
any moment no card has been dealt more than once oftener than another. Images are cards of their
cluster's deck, clusters are cards of the deck from which a batch draws its P clusters.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mgta_tf.config import flag
from mgta_tf.errors import UserError

NO_CLUSTER = -1


@dataclasses.dataclass(frozen=True)
class BatchConfig:
    """Batches (§3.3.1)."""

    clusters_per_batch: int = flag(32, "P: clusters in a batch.", minimum=2)
    images_per_cluster: int = flag(2, "K: images of each cluster in a batch.", minimum=2)
    views_per_image: int = flag(
        2,
        "Times that an image appears in its batch, each augmented by itself; K counts them all. "
        "Above 1 an image is a positive of itself; the paper has 1.",
        minimum=1,
    )
    global_batch: int = flag(
        0,
        "Images in a step over all devices. Given, it sets P: this many / K; else it is P·K.",
        minimum=0,
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
    def smallest_cluster(self) -> int:
        """Images that a cluster needs so that each of them has a positive."""
        return 2 if self.views_per_image == 1 else 1


def steps_of(num_images: int, epochs: int, batch_size: int) -> int:
    """Steps of `epochs` passes over `num_images`, the last batch filled up by the next pass."""
    return max(1, num_images * epochs // batch_size)


def shuffled_plan(images: np.ndarray, batch_size: int, epochs: int, seed: list[int]) -> np.ndarray:
    """Batches without clusters: every image once before any twice, [steps, batch_size] int32.

    Raises:
      UserError: the batch is larger than the data.
    """
    if len(images) < batch_size:
        raise UserError(
            f"a batch of {batch_size} images (--clusters_per_batch × --images_per_cluster) is "
            f"larger than the data ({len(images)} images)"
        )
    rng = np.random.default_rng(seed)
    return images[deal(len(images), batch_size, steps_of(len(images), epochs, batch_size), rng)]


def views_plan(images: np.ndarray, config: BatchConfig, epochs: int, seed: list[int]) -> np.ndarray:
    """Batches where each image is its own cluster: P images, K times each, [steps, P*K] int32.

    Raises:
      UserError: there are fewer than P images.
    """
    P, K = config.clusters_per_batch, config.images_per_cluster
    if len(images) < P:
        raise UserError(f"--clusters_per_batch={P}: larger than the data ({len(images)} images)")
    steps = steps_of(len(images), epochs, P * K)
    chosen = deal(len(images), P, steps, np.random.default_rng(seed))
    return np.repeat(images[chosen], K, axis=1)


def pk_plan(
    images: np.ndarray, labels: np.ndarray, config: BatchConfig, epochs: int, seed: list[int]
) -> np.ndarray:
    """Batches of P clusters × K images, cluster by cluster, [steps, P*K] int32.

    Images in no cluster, or alone in theirs (unless they have a second view), can have no positive.
    They get batches of their own,
    in which only the reconstruction teaches, in proportion to their number.

    Args:
      images: [n] indices of the images.
      labels: [n] their clusters; -1 is none.
      config: P, K and the views of an image.
      epochs: passes; `epochs` × n images are drawn, up to a batch.
      seed: words of the seed.

    Raises:
      UserError: fewer than P clusters have two images or more, or the batch exceeds the data.
    """
    P, K, views = config.clusters_per_batch, config.images_per_cluster, config.views_per_image
    members, loners = _members(images, labels, config.smallest_cluster)
    if len(members) < P:
        raise UserError(
            f"only {len(members)} clusters have {config.smallest_cluster} images or more, fewer "
            f"than --clusters_per_batch={P}; lower it, or choose another --num_clusters"
        )
    if len(images) < P * K:
        raise UserError(f"a batch of P×K = {P * K} images is larger than the {len(images)} images")
    rng = np.random.default_rng(seed)
    steps = steps_of(len(images), epochs, P * K)
    lone_steps = min(steps - 1, round(epochs * len(loners) / (P * K)))

    clusters = deal(len(members), P, steps - lone_steps, rng)  # [steps, P]

    batches = np.empty((steps - lone_steps, P, K), np.int32)
    order = np.argsort(clusters, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(clusters.ravel(), minlength=len(members)))
    for cluster, slots in enumerate(np.split(order, ends[:-1])):
        hands = deal(len(members[cluster]), K // views, len(slots), rng)
        batches.reshape(-1, K)[slots] = members[cluster][np.repeat(hands, views, axis=1)]

    plan = np.empty((steps, P * K), np.int32)
    is_lone = np.zeros(steps, bool)
    if lone_steps:
        is_lone[rng.choice(steps, lone_steps, replace=False)] = True
        plan[is_lone] = loners[deal(len(loners), P * K, lone_steps, rng)]
    plan[~is_lone] = batches.reshape(-1, P * K)
    return plan


def labels_for_triplets(labels: np.ndarray, smallest: int = 2) -> np.ndarray:
    """The labels, clusters of fewer than `smallest` images turned into "no cluster", int32."""
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    enough = (labels >= 0) & (sizes[labels] >= smallest)
    return np.where(enough, labels, NO_CLUSTER).astype(np.int32)


def _members(
    images: np.ndarray, labels: np.ndarray, smallest: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """The images of every cluster of `smallest` or more, and those of no such cluster."""
    labels = labels_for_triplets(labels, smallest)
    order = np.argsort(labels, kind="stable")
    loners = int(np.sum(labels == NO_CLUSTER))
    clustered = order[loners:]
    starts = np.flatnonzero(np.diff(labels[clustered])) + 1
    members = [images[part] for part in np.split(clustered, starts)] if len(clustered) else []
    return members, images[order[:loners]]


def deal(cards: int, hand: int, hands: int, rng: np.random.Generator) -> np.ndarray:
    """`hands` hands dealt from one deck, [hands, hand] integers below `cards`.

    A hand has as many distinct cards as it can, min(cards, hand), also where the deck ends within
    it: then what the hand does not hold yet lies on top of the new deck. At any moment the counts
    of two cards differ by one at most.
    """
    total = hands * hand
    dealt = np.empty(total, np.int64)
    for start in range(0, total, cards):
        deck = rng.permutation(cards)
        held = start % hand
        if held:
            in_hand = np.isin(deck, dealt[start - held : start])
            first = np.flatnonzero(~in_hand)[: hand - held]
            deck = np.concatenate([deck[first], np.delete(deck, first)])
        dealt[start : start + cards] = deck[: total - start]
    return dealt.reshape(hands, hand)
