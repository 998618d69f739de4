"""The losses against explicit sums."""

import numpy as np
import pytest

from mgta_tf.detection import losses


def smooth(d, beta):
    d = abs(d)
    return 0.5 * d * d / beta if d < beta else d - 0.5 * beta


def test_smooth_l1_is_square_near_zero_and_straight_beyond():
    found = losses.smooth_l1(np.array([0.0, 0.05, -0.05, 1 / 9, 2.0]), 1 / 9).numpy()
    assert found == pytest.approx([0, 0.01125, 0.01125, 1 / 18, 2 - 1 / 18])


def test_rpn_losses_count_every_sampled_anchor_once():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 3, 2, 4)).astype(np.float32)
    boxes = rng.normal(size=(2, 3, 2, 16)).astype(np.float32)
    score_targets = rng.integers(-1, 2, scores.shape).astype(np.int32)
    box_targets = rng.normal(size=boxes.shape).astype(np.float32)
    score_sum = box_sum = count = 0.0
    for place in np.ndindex(scores.shape):
        target = score_targets[place]
        if target < 0:
            continue
        count += 1
        p = 1 / (1 + np.exp(-scores[place]))
        score_sum -= np.log(p if target else 1 - p)
        if target:
            for k in range(4):
                where = (*place[:3], 4 * place[3] + k)
                box_sum += smooth(boxes[where] - box_targets[where], 1 / 9)
    found = losses.rpn_losses(scores, boxes, score_targets, box_targets)
    assert [float(v) for v in found] == pytest.approx([score_sum / count, box_sum / count], 1e-5)


def test_roi_losses_use_the_box_of_the_target_class():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 5, 3)).astype(np.float32)
    boxes = rng.normal(size=(2, 5, 12)).astype(np.float32)
    classes = rng.integers(0, 3, (2, 5))
    targets = rng.normal(size=(2, 5, 4)).astype(np.float32)
    class_sum = box_sum = 0.0
    for b, n in np.ndindex(2, 5):
        c = classes[b, n]
        class_sum -= np.log(np.exp(logits[b, n, c]) / np.exp(logits[b, n]).sum())
        if c:
            own = boxes[b, n, 4 * c : 4 * c + 4]
            box_sum += sum(smooth(d, 1) for d in own - targets[b, n])
    found = losses.roi_losses(logits, boxes, classes, targets)
    assert [float(v) for v in found] == pytest.approx([class_sum / 10, box_sum / 10], 1e-5)


def test_without_a_sampled_anchor_the_rpn_has_no_loss():
    zeros, none = np.zeros((1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1), -1)
    boxes = np.ones((1, 1, 1, 4), np.float32)
    found = losses.rpn_losses(zeros, boxes, none, 2 * boxes)
    assert [float(v) for v in found] == [0, 0]
