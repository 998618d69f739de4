"""The losses of §3.3: pure functions that return `(loss, metrics)`."""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from mgta_tf.config import flag
from mgta_tf.errors import UserError

TEMPERATURE = 0.1  # τ of the soft minimum, in units of embedding distance


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Losses (§3.3)."""

    reconstruction_reduction: str = flag(
        "mean",
        "Reduction over the pixels of an image: mean (§4.2), or sum (eq. 7), which is H·W·3 "
        "times larger and needs a λ₁ larger by the same factor.",
        choices=("mean", "sum"),
        advanced=True,
    )
    margin: float = flag(
        0.3, "Margin α of eq. 6, in units of embedding distance.", minimum=0.0, advanced=True
    )
    soft_margin: bool = flag(
        False, "Softplus ln(1 + e^x) in place of the hinge [α + x]₊ of eq. 6.", advanced=True
    )
    triplet_reduction: str = flag(
        "mean",
        "Reduction over the anchors: mean, or sum (eq. 6).",
        choices=("mean", "sum"),
        advanced=True,
    )
    normalize_embedding: bool = flag(
        True,
        "L2 normalization of embeddings before distances are measured; eq. 6 has none.",
        advanced=True,
    )
    triplet_positive: str = flag(
        "nearest",
        "Positive of an anchor within its cluster: the nearest image, the farthest (hardest, "
        "eq. 6), or a random one.",
        choices=("nearest", "hardest", "random"),
        advanced=True,
    )
    triplet_negative: str = flag(
        "hardest",
        "Negative of an anchor from other clusters: the nearest image (hardest, eq. 6); the "
        "soft minimum over all of them (with --soft_margin, the N-pair loss of Sohn, 2016); or "
        "a random one.",
        choices=("hardest", "soft", "random"),
        advanced=True,
    )
    triplet_impl: str = flag(
        "native",
        "Implementation of eq. 6: this package's, or that of tensorflow-addons, which also counts "
        "anchors without a positive and does not support images without a cluster.",
        choices=("native", "tfa"),
        advanced=True,
    )
    triplet_scope: str = flag(
        "replica",
        "Images among which positives and negatives are searched, with several devices: those of "
        "the anchor's replica, which holds whole clusters; or the global batch, whose embeddings "
        "are gathered.",
        choices=("replica", "global"),
        advanced=True,
    )
    reconstruction_weight: float = flag(
        1.0,
        "Weight of the reconstruction loss in eq. 8 after stage 1; 0 is an ablation.",
        minimum=0.0,
        advanced=True,
    )

    def __post_init__(self):
        mined = (self.triplet_positive, self.triplet_negative)
        if self.triplet_impl == "tfa" and mined != ("hardest", "hardest"):
            raise UserError(
                "--triplet_impl=tfa supports only --triplet_positive=hardest and "
                "--triplet_negative=hardest"
            )


def reconstruction_loss(images, reconstructions, reduction: str = "sum"):
    """L_re, eq. 7: squared error over the pixels and channels of an image, mean over the batch.

    Args:
      images: [N, H, W, 3], normalized.
      reconstructions: [N, H, W, 3].
      reduction: 'sum' (eq. 7) or 'mean' over H, W and channels.

    Returns:
      (loss [], {'reconstruction_mse': mean squared error, independent of the reduction}).
    """
    errors = tf.square(tf.cast(reconstructions, tf.float32) - tf.cast(images, tf.float32))
    mse = tf.reduce_mean(errors)
    values_per_image = tf.cast(tf.size(errors) / tf.shape(errors)[0], tf.float32)
    loss = mse * values_per_image if reduction == "sum" else mse
    return loss, {"reconstruction_mse": mse}


def batch_hard_triplet_loss(
    embeddings,
    labels,
    *,
    margin: float = 0.3,
    soft_margin: bool = False,
    reduction: str = "mean",
    normalize: bool = False,
    positive: str = "hardest",
    negative: str = "hardest",
    draws=None,
):
    """L_htri, eq. 6: the triplet of each anchor, its farthest positive and its nearest negative.

    Pairs are selected by squared distances from a float64 Gram matrix, so no [N, N, D] tensor is
    held. The distances of the selected pairs are then computed from differences in float32: equal
    embeddings have distance 0 exactly, with gradient 0 instead of NaN.

    An anchor counts only if the batch holds a positive (another image of its cluster) and a
    negative. Images with a label below 0 (no cluster) are neither anchor, positive nor negative.

    Args:
      embeddings: [N, D] of any float type, N = P*K.
      labels: [N] integers, the clusters.
      margin: α, in units of distance.
      soft_margin: softplus(d_ap - d_an) in place of [α + d_ap - d_an]₊.
      reduction: 'mean' over the anchors that count, or 'sum' (eq. 6).
      normalize: scale every embedding to length 1 first.
      positive: 'hardest' (farthest), 'nearest' or 'random'.
      negative: 'hardest' (nearest), 'random', or 'soft' (soft minimum over all negatives).
      draws: float32 [N] in [0, 1), the random numbers of 'random'.

    Returns:
      (loss [], metrics): the loss is 0 when no anchor counts. Metrics, each a scalar:
      `triplet_active` (fraction of anchors with a loss above 0), `hardest_positive` and
      `hardest_negative` (mean distances of the selected pairs), `pair_distance` (mean distance of
      all pairs of the batch), `embedding_norm` (mean, before normalization).
    """
    embeddings = tf.cast(embeddings, tf.float32)
    norm = tf.reduce_mean(tf.norm(tf.stop_gradient(embeddings), axis=1))
    if normalize:
        embeddings = tf.math.l2_normalize(embeddings, axis=1)

    squared = _squared_distances(embeddings)  # [N, N]
    counts, d_ap, d_an = _mined(embeddings, labels, squared, positive, negative, draws)
    difference = d_ap - d_an
    losses = tf.nn.softplus(difference) if soft_margin else tf.nn.relu(difference + margin)
    loss = _mean_where(losses, counts)
    if reduction == "sum":
        loss *= tf.reduce_sum(tf.cast(counts, tf.float32))

    pairs = tf.cast(tf.size(squared) - tf.size(labels), tf.float32)
    metrics = {
        "triplet_active": _mean_where(tf.cast(losses > 0, tf.float32), counts),
        "hardest_positive": _mean_where(d_ap, counts),
        "hardest_negative": _mean_where(d_an, counts),
        "pair_distance": tf.reduce_sum(tf.cast(tf.sqrt(squared), tf.float32)) / pairs,
        "embedding_norm": norm,
    }
    return loss, {name: tf.stop_gradient(value) for name, value in metrics.items()}


def _mined(embeddings, labels, squared, positive: str, negative: str, draws):
    """(counts, d_ap, d_an), [N] each: whether the anchor counts, and its two distances."""
    is_positive, is_negative = _pairs(labels)

    def distance_to(candidates, which: str):
        chosen = _choose(candidates, squared, which, draws)
        return _distance(embeddings, tf.gather(embeddings, chosen))

    positive_distance = distance_to(is_positive, {"hardest": "farthest"}.get(positive, positive))
    if negative == "soft":
        negative_distance = _soft_minimum(squared, is_negative)
    else:
        negative_distance = distance_to(is_negative, {"hardest": "nearest"}.get(negative, negative))
    counts = tf.reduce_any(is_positive, axis=1) & tf.reduce_any(is_negative, axis=1)
    return counts, positive_distance, negative_distance


def hardest_distances(embeddings, labels):
    """The two distances of eq. 6 for every anchor that counts, float64 [n]: (d_ap, d_an).

    embeddings: [N, D]. labels: [N], -1 for images without a cluster.
    """
    squared = _squared_distances(tf.convert_to_tensor(embeddings))
    is_positive, is_negative = _pairs(tf.convert_to_tensor(labels))
    counts = tf.reduce_any(is_positive, axis=1) & tf.reduce_any(is_negative, axis=1)
    infinity = tf.constant(float("inf"), squared.dtype)
    farthest = tf.reduce_max(tf.where(is_positive, squared, -infinity), axis=1)
    nearest = tf.reduce_min(tf.where(is_negative, squared, infinity), axis=1)
    return tuple(tf.sqrt(tf.boolean_mask(found, counts)).numpy() for found in (farthest, nearest))


def _pairs(labels):
    """(is_positive, is_negative) of every pair of a batch, bool [N, N] each."""
    clustered = labels >= 0
    pair = clustered[:, None] & clustered[None, :]
    same = labels[:, None] == labels[None, :]
    return pair & same & ~tf.eye(tf.size(labels), dtype=tf.bool), pair & ~same


def _choose(candidates, squared, which: str, draws):
    """The index of one candidate per row, [N, N] → [N].

    which: 'nearest', 'farthest' or 'random'. The random choice ranks candidates by a hash of the
    two images' draws; it is stateless, so a repeated step makes the same choice.
    """
    if which == "random":
        squared = tf.cast(draws[:, None] * 7919.0 + draws[None, :] * 6101.0, squared.dtype) % 1.0
    infinity = tf.constant(float("inf"), squared.dtype)
    if which == "nearest":
        return tf.argmin(tf.where(candidates, squared, infinity), axis=1)
    return tf.argmax(tf.where(candidates, squared, -infinity), axis=1)


def _soft_minimum(squared, candidates):
    """-τ ln Σ exp(-d / τ) over the candidates of each row, [N, N] → [N]; huge if it has none."""
    closeness = tf.where(candidates, -_root(squared) / TEMPERATURE, -1e9)
    return tf.cast(-TEMPERATURE * tf.reduce_logsumexp(closeness, axis=1), tf.float32)


def _squared_distances(embeddings):
    """|a - b|² of all pairs, [N, D] → float64 [N, N], 0 on the diagonal."""
    x = tf.cast(embeddings, tf.float64)
    x -= tf.reduce_mean(x, axis=0)  # same distances, less cancellation in |a|² + |b|² - 2ab
    gram = tf.matmul(x, x, transpose_b=True)
    lengths = tf.linalg.diag_part(gram)
    squared = tf.maximum(lengths[:, None] + lengths[None, :] - 2 * gram, 0)
    return tf.linalg.set_diag(squared, tf.zeros_like(lengths))


def _distance(a, b):
    """Eq. 3 for each row: [N, D], [N, D] → [N]. The gradient at distance 0 is 0."""
    return _root(tf.reduce_sum(tf.square(a - b), axis=1))


def _root(squared):
    """Square root with gradient 0 at 0."""
    apart, one = squared > 0, tf.ones_like(squared)
    return tf.where(apart, tf.sqrt(tf.where(apart, squared, one)), 0 * one)


def _mean_where(values, mask):
    """Mean of the values where the mask is true; 0 where it is true nowhere."""
    return tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(mask, values, 0.0)), tf.reduce_sum(tf.cast(mask, tf.float32))
    )


def triplet_loss(embeddings, labels, config: LossConfig, draws=None):
    """L_htri (eq. 6) with the settings of the flags. The metrics do not depend on --triplet_impl.

    draws: [N] in [0, 1), for random triplets.
    """
    loss, metrics = batch_hard_triplet_loss(
        embeddings,
        labels,
        margin=config.margin,
        soft_margin=config.soft_margin,
        reduction=config.triplet_reduction,
        normalize=config.normalize_embedding,
        positive=config.triplet_positive,
        negative=config.triplet_negative,
        draws=draws,
    )
    if config.triplet_impl == "tfa":
        from mgta_tf.training.addons import triplet_hard_loss

        embeddings = tf.cast(embeddings, tf.float32)
        if config.normalize_embedding:
            embeddings = tf.math.l2_normalize(embeddings, axis=1)
        loss = triplet_hard_loss(labels, embeddings, config.margin, config.soft_margin)
        if config.triplet_reduction == "sum":
            loss *= tf.cast(tf.size(labels), tf.float32)
    return loss, metrics


def total_loss(targets, outputs, labels, lambda1, config: LossConfig, draws=None):
    """L_all = L_re + λ₁ L_htri, eq. 8.

    Args:
      targets: [N, H, W, 3], the normalized images to reconstruct.
      outputs: Outputs of the auto-encoder for the augmented images; without a 'reconstruction'
        L_re is 0 and has no metrics.
      labels: [N] clusters, -1 for images without one; if all are -1, L_htri is 0.
      lambda1: λ₁, a scalar.
      config: Settings of the losses.
      draws: [N] in [0, 1), for random triplets.

    Returns:
      (L_all [], metrics of both losses, with `reconstruction_loss` and `triplet_loss`).
    """
    reconstruction, reconstruction_metrics = tf.zeros([]), {}
    if "reconstruction" in outputs:
        reconstruction, reconstruction_metrics = reconstruction_loss(
            targets, outputs["reconstruction"], config.reconstruction_reduction
        )
        reconstruction_metrics["reconstruction_loss"] = reconstruction
    embeddings = outputs["embedding"]
    if config.triplet_scope == "global":
        embeddings, labels, draws = map(_gather_from_devices, (embeddings, labels, draws))
    triplet, triplet_metrics = triplet_loss(embeddings, labels, config, draws)
    weight = tf.where(lambda1 > 0, config.reconstruction_weight, 1.0)  # stage 1 has λ₁ = 0
    loss = weight * reconstruction + lambda1 * triplet
    losses = {"loss": loss, "triplet_loss": triplet}
    return loss, {**losses, **reconstruction_metrics, **triplet_metrics}


def _gather_from_devices(values):
    """[n, …] of each device → [N, …] of all, in order, with gradients back to each device."""
    replica = tf.distribute.get_replica_context()
    if values is None or replica.num_replicas_in_sync == 1:
        return values
    return replica.all_gather(tf.identity(values), axis=0)  # identity: inputs lie on no device


def looks_collapsed(metrics: dict[str, float], config: LossConfig) -> bool:
    """Whether the embedding has collapsed: loss stuck at the margin, all distances near 0.

    If all embeddings are equal, d_ap = d_an, so eq. 6 is α (ln 2 with a soft margin) and has no
    gradient that would separate them. `metrics`: those of `total_loss`, averaged over some steps.
    """
    scale = 1.0 if config.normalize_embedding else max(metrics["embedding_norm"], 1e-12)
    stuck_at_margin = abs(
        metrics["hardest_positive"] - metrics["hardest_negative"]
    ) < 0.1 * margin_of(config)
    return bool(
        metrics["triplet_active"] > 0.95
        and stuck_at_margin
        and metrics["pair_distance"] < 0.05 * scale
    )


def looks_stuck(metrics: dict[str, float], config: LossConfig) -> bool:
    """Whether the triplet loss is at its margin or above: positives are as far as negatives.

    A collapsed embedding is stuck, but one whose images are apart can be, too: the net then knows
    an image's positive no better than its negatives. A soft minimum over all negatives is below
    every distance, so that loss has no such level. `metrics`: as in `looks_collapsed`.
    """
    nearer = metrics["hardest_negative"] - metrics["hardest_positive"]
    return bool(
        config.triplet_negative != "soft"
        and metrics["triplet_active"] > 0.95
        and nearer < 0.1 * margin_of(config)
    )


def margin_of(config: LossConfig) -> float:
    """Eq. 6 of an anchor whose positive and negative are equally far."""
    return math.log(2) if config.soft_margin else config.margin
