"""Anchors and their targets, computed by hand."""

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.detection.anchors import InsideLabeler, OctaveAnchor

ROOT2 = 2**0.5


def test_anchors_of_two_cells_match_values_computed_by_hand():
    anchors = OctaveAnchor((64, 128), (16, 32))
    first = [  # (ymin, xmin, ymax, xmax) around (8, 8): 1:2 upright, square, 2:1 lying
        (8 - 32 * ROOT2, 8 - 16 * ROOT2, 8 + 32 * ROOT2, 8 + 16 * ROOT2),
        (-24, -24, 40, 40),
        (8 - 16 * ROOT2, 8 - 32 * ROOT2, 8 + 16 * ROOT2, 8 + 32 * ROOT2),
        (8 - 64 * ROOT2, 8 - 32 * ROOT2, 8 + 64 * ROOT2, 8 + 32 * ROOT2),
        (-56, -56, 72, 72),
        (8 - 32 * ROOT2, 8 - 64 * ROOT2, 8 + 32 * ROOT2, 8 + 64 * ROOT2),
    ]
    second = [(top, left + 16, bottom, right + 16) for top, left, bottom, right in first]
    assert anchors.boxes.numpy() == pytest.approx(np.array([*first, *second]), abs=1e-4)
    assert anchors.multilevel_boxes["4"].shape == (1, 2, 24)


def test_sides_of_the_papers_anchors():
    boxes = OctaveAnchor((64, 128, 256, 512), (1008, 1008)).boxes.numpy()
    assert len(boxes) == 63 * 63 * 12
    sides = boxes[:12, 2:] - boxes[:12, :2]
    assert sides[1::3] == pytest.approx(np.array([[s, s] for s in (64, 128, 256, 512)]))
    assert sides.prod(axis=1) == pytest.approx(np.repeat([64, 128, 256, 512], 3) ** 2, rel=1e-5)


def targets(objects, shape=(64.0, 64.0), samples=256):
    """Anchors of 32 px on 64×64 pixels: 4×4 cells of three."""
    labeler = InsideLabeler(samples, OctaveAnchor((32,), (64, 64)), tf.constant(shape))
    scores, boxes = labeler.label(tf.constant(objects, tf.float32, shape=(len(objects), 4)))
    return scores["4"].numpy(), boxes["4"].numpy().reshape(4, 4, 3, 4)


def test_targets_of_an_object():
    # The square anchor of cell (1, 1) is 8 … 40 both ways, centered on 24. The object is as high,
    # and 11.2 … 46.4 across: centered on 28.8 and 35.2 wide. They overlap by 28.8 / 38.4 = 0.75.
    scores, boxes = targets([(8.0, 11.2, 40.0, 46.4)])
    assert scores[1, 1, 1] == 1
    assert boxes[1, 1, 1] == pytest.approx([0, 4.8 / 32, 0, np.log(1.1)], abs=1e-5)
    assert np.abs(boxes[scores != 1]).max() == 0
    # The square of cell (2, 1), 24 … 56 by 8 … 40, shares 16·28.8 of 1689.6 px: background.
    assert scores[2, 1, 1] == 0
    # Only the four middle cells have anchors that lie inside.
    assert (scores[[0, 3]] == -1).all()
    assert (scores[:, [0, 3]] == -1).all()


def test_anchors_across_the_edge_of_a_smaller_image_are_ignored():
    scores, _ = targets([(8.0, 8.0, 40.0, 40.0)], shape=(64.0, 40.0))
    inside = np.argwhere(scores >= 0).tolist()
    assert [1, 1, 1] in inside
    assert all(x == 1 for _, x, _ in inside)  # the square on (24, 40) would end at 56 > 40
    assert scores[1, 1, 1] == 1


def test_without_objects_everything_inside_is_background():
    scores, boxes = targets([])
    assert set(scores.ravel()) == {-1, 0}
    assert np.argwhere(scores == 0).tolist() == [
        [y, x, ratio] for y in (1, 2) for x in (1, 2) for ratio in range(3)
    ]
    assert not boxes.any()


def test_an_object_without_any_anchor_inside_has_no_positive():
    scores, _ = targets([(0.0, 0.0, 4.0, 4.0)])
    assert (scores != 1).all()


def test_the_number_of_sampled_anchors_is_limited():
    scores, _ = targets([(8.0, 8.0, 40.0, 40.0)], samples=2)
    assert np.sum(scores >= 0) == 2
