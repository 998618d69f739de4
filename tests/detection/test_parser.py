"""From a decoded record to inputs and labels, on images made by hand."""

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.detection import parser
from mgta_tf.detection.config import DetectorConfig
from mgta_tf.detection.parser import Parser

PAPER = DetectorConfig()
SMALL = DetectorConfig(short_side=32, long_side=60, anchor_sizes=(16,), rpn_samples=64)


def record(pixels, boxes=(), classes=(), difficult=()):
    """What `parser.decode` returns; boxes in pixels, (ymin, xmin, ymax, xmax)."""
    size = tf.constant(pixels.shape[:2], tf.float32)
    return {
        "encoded": tf.io.encode_png(pixels),
        "source_id": tf.constant(7, tf.int64),
        "size": size,
        "boxes": tf.constant(boxes, tf.float32, shape=(len(boxes), 4)) / tf.tile(size, [2]),
        "classes": tf.constant(classes, tf.int64, shape=(len(classes),)),
        "difficult": tf.constant(difficult, tf.bool, shape=(len(classes),)),
    }


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((375, 500), (600, 800)),
        ((500, 375), (800, 600)),
        ((333, 500), (600, 901)),  # 900.9
        ((200, 500), (400, 1000)),  # the long side binds
        ((600, 1000), (600, 1000)),
        ((1, 5000), (1, 1000)),
    ],
)
def test_the_short_side_becomes_600_and_the_long_side_1000_at_most(size, scaled):
    assert parser.scaled_size(size, PAPER).numpy().tolist() == list(scaled)
    assert PAPER.padded_side == 1008


def test_inputs_are_scaled_and_padded_to_the_right_and_below():
    pixels = np.zeros((16, 20, 3), np.uint8)
    pixels[:, 10:] = (10, 20, 30)
    inputs, labels = Parser(SMALL).train_example(record(pixels), flip=False)
    assert inputs["shape"].numpy().tolist() == [32, 40]
    image = inputs["image"].numpy()
    assert image.shape == (64, 64, 3)
    assert (image[:32, 22:40] == (10, 20, 30)).all()
    assert not image[32:].any()
    assert not image[:, 40:].any()
    info = [[16, 20], [32, 40], [2, 2], [0, 0]]
    assert labels["image_info"].numpy().tolist() == info


def test_flip_mirrors_image_and_boxes():
    pixels = np.zeros((16, 20, 3), np.uint8)
    pixels[2:10, 3:9] = 200
    data = record(pixels, [(2, 3, 10, 9)], [5], [False])
    for flip in (False, True):
        inputs, labels = Parser(SMALL).train_example(data, tf.constant(flip))
        box = labels["gt_boxes"][0].numpy()
        assert box.tolist() == ([4, 22, 20, 34] if flip else [4, 6, 20, 18])
        top, left, bottom, right = box.astype(int)
        inside = inputs["image"].numpy()[top + 1 : bottom - 1, left + 1 : right - 1]
        assert inside.min() == 200
        assert inputs["image"].numpy().sum() == pytest.approx(16 * 12 * 3 * 200, rel=0.01)


def test_difficult_objects_are_not_trained_on_but_evaluated():
    pixels = np.zeros((32, 32, 3), np.uint8)
    data = record(pixels, [(4, 4, 20, 20), (8, 8, 30, 30)], [3, 9], [True, False])
    _, labels = Parser(SMALL).train_example(data, flip=False)
    assert labels["gt_classes"].numpy().tolist() == [9] + [-1] * 99
    assert labels["gt_boxes"].numpy()[:2].tolist() == [[8, 8, 30, 30], [-1] * 4]
    _, labels = Parser(SMALL).parse_fn(is_training=False)(data)
    truth = labels["groundtruths"]
    assert truth["num_detections"] == 2
    assert truth["classes"].numpy()[:3].tolist() == [3, 9, -1]
    assert truth["is_crowds"].numpy()[:2].tolist() == [1, 0]
    assert truth["boxes"].numpy()[0].tolist() == [4, 4, 20, 20]
    assert truth["areas"].numpy()[0] == 256


def test_targets_follow_the_object():
    # 32×32 pixels and anchors of 16 px: four cells, each with a square that lies inside.
    pixels = np.zeros((32, 32, 3), np.uint8)
    data = record(pixels, [(0, 16, 16, 32)], [1], [False])
    for flip, cell in ((False, (0, 1)), (True, (0, 0))):
        _, labels = Parser(SMALL).train_example(data, tf.constant(flip))
        scores = labels["rpn_score_targets"]["4"].numpy()
        assert np.argwhere(scores == 1).tolist() == [[*cell, 1]]
        assert not labels["rpn_box_targets"]["4"].numpy().any()  # the anchor fits exactly


def test_no_object_of_a_full_image_is_dropped():
    boxes = [(0, 0, 1 + n % 31, 9) for n in range(130)]
    data = record(np.zeros((32, 32, 3), np.uint8), boxes, [1] * 130, [False] * 130)
    parser = Parser(SMALL, max_objects=130)
    _, labels = parser.train_example(data, flip=False)
    assert (labels["gt_classes"].numpy() == 1).sum() == 130
    _, labels = parser.parse_fn(is_training=False)(data)
    assert labels["groundtruths"]["boxes"].shape[0] == 130


def test_cached_features_replace_the_image():
    asked = []

    def features(source_id, flip):
        asked.append((int(source_id), bool(flip)))
        return tf.zeros((4, 4, 8), tf.bfloat16)

    pixels = np.zeros((16, 20, 3), np.uint8)
    inputs, labels = Parser(SMALL, features).train_example(record(pixels), tf.constant(True))
    assert asked == [(7, True)]
    assert list(inputs) == ["res4"]
    assert labels["image_info"].numpy()[1].tolist() == [32, 40]
