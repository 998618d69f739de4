"""The four losses, normalized as in Detectron.

Model Garden divides the score loss of the RPN by the number of RoIs and the box losses by the
number of positive coordinates. The paper's learning rate belongs to Detectron's normalization.
"""

from __future__ import annotations

import tensorflow as tf

RPN_BETA = 1 / 9  # β: where smooth L1 changes from quadratic to linear
ROI_BETA = 1.0


def smooth_l1(difference, beta: float):
    """0.5 d² / β where |d| < β, else |d| - β / 2; elementwise."""
    size = tf.abs(difference)
    return tf.where(size < beta, 0.5 * size**2 / beta, size - 0.5 * beta)


def rpn_losses(scores, boxes, score_targets, box_targets):
    """Losses of the RPN, both divided by the number of anchors sampled.

    Args:
      scores: [B, h, w, A] logits.
      boxes: [B, h, w, 4·A].
      score_targets: [B, h, w, A]: 1, 0, or -1 where an anchor is not sampled.
      box_targets: [B, h, w, 4·A], 0 where the score's target is not 1.

    Returns:
      (score loss, box loss): scalars.
    """
    sampled = tf.cast(score_targets >= 0, tf.float32)
    count = tf.maximum(tf.reduce_sum(sampled), 1.0)
    labels = tf.cast(score_targets == 1, tf.float32)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels, scores)
    positive = tf.repeat(labels, 4, axis=-1)
    distance = smooth_l1(boxes - box_targets, RPN_BETA)
    return tf.reduce_sum(entropy * sampled) / count, tf.reduce_sum(distance * positive) / count


def roi_losses(class_outputs, box_outputs, class_targets, box_targets):
    """Losses of the RoI head, both divided by the number of RoIs.

    Args:
      class_outputs: [B, N, K] logits, class 0 the background.
      box_outputs: [B, N, 4·K], a box for each class.
      class_targets: int [B, N].
      box_targets: [B, N, 4], the box of the target's class.

    Returns:
      (class loss, box loss): scalars.
    """
    targets = tf.cast(class_targets, tf.int32)
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, class_outputs)
    shape = tf.shape(targets)
    boxes = tf.reshape(box_outputs, [shape[0], shape[1], -1, 4])
    boxes = tf.gather(boxes, targets, batch_dims=2)
    distance = tf.reduce_sum(smooth_l1(boxes - box_targets, ROI_BETA), axis=-1)
    foreground = tf.cast(targets > 0, tf.float32)
    return tf.reduce_mean(entropy), tf.reduce_mean(distance * foreground)
