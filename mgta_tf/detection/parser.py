"""From records to inputs of the detector: short side 600, long side at most 1000 pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from official.vision.dataloaders import parser, utils
from official.vision.ops import preprocess_ops

from mgta_tf.detection.anchors import InsideLabeler, OctaveAnchor
from mgta_tf.detection.config import DetectorConfig

MAX_OBJECTS = 100  # rows of padded labels, as in Detectron; more if an image has more objects

_KEYS = {
    "image/encoded": tf.io.FixedLenFeature((), tf.string),
    "image/source_id": tf.io.FixedLenFeature((), tf.string),
    "image/height": tf.io.FixedLenFeature((), tf.int64),
    "image/width": tf.io.FixedLenFeature((), tf.int64),
    "image/object/class/label": tf.io.RaggedFeature(tf.int64),
    "image/object/is_crowd": tf.io.RaggedFeature(tf.int64),
    **{
        f"image/object/bbox/{side}": tf.io.RaggedFeature(tf.float32)
        for side in ("ymin", "xmin", "ymax", "xmax")
    },
}


def decode(record: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses a serialized record of `mgta_tf.detection.records`; the image stays encoded.

    encoded: string. source_id: int64. size: float32 [2], height and width. boxes: float32 [n, 4],
    (ymin, xmin, ymax, xmax) as fractions of the image. classes: int64 [n], from 1. difficult: bool
    [n].
    """
    found = tf.io.parse_single_example(record, _KEYS)
    sides = [found[f"image/object/bbox/{side}"] for side in ("ymin", "xmin", "ymax", "xmax")]
    return {
        "encoded": found["image/encoded"],
        "source_id": tf.strings.to_number(found["image/source_id"], tf.int64),
        "size": tf.cast(tf.stack([found["image/height"], found["image/width"]]), tf.float32),
        "boxes": tf.stack(sides, axis=1),
        "classes": found["image/object/class/label"],
        "difficult": found["image/object/is_crowd"] > 0,
    }


def scaled_size(size, config: DetectorConfig):
    """Height and width [.., 2] → those of the scaled image in whole pixels, float32 [.., 2]."""
    size = tf.cast(size, tf.float32)
    scale = config.short_side / tf.reduce_min(size, axis=-1, keepdims=True)
    longest = config.long_side / tf.reduce_max(size, axis=-1, keepdims=True)
    return tf.maximum(tf.round(size * tf.minimum(scale, longest)), 1.0)


def scale_image(image, config: DetectorConfig) -> dict[str, tf.Tensor]:
    """uint8 [H, W, 3] → the input of `heads.FrozenBody`, without the batch dimension."""
    shape, side = scaled_size(tf.shape(image)[:2], config), config.padded_side
    image = tf.image.resize(image, tf.cast(shape, tf.int32))
    return {"image": tf.image.pad_to_bounding_box(image, 0, 0, side, side), "shape": shape}


def image_info(size, shape):
    """Model Garden's [4, 2]: size of the image, of the scaled image, the scale, the offset."""
    return tf.stack([size, shape, shape / size, tf.zeros(2)])


class Parser(parser.Parser):
    """Inputs and labels of one image in the form of `MaskRCNNTask`.

    features: (source_id, flip) → bfloat16 [h, w, c], the body's features; None runs the body.
    max_objects: number of rows of the padded labels, at least the objects of any image.
    """

    def __init__(
        self,
        config: DetectorConfig,
        features: Callable[..., Any] | None = None,
        max_objects: int = MAX_OBJECTS,
    ):
        self._config, self._features, self._max_objects = config, features, max_objects
        side = config.padded_side
        self._anchors = OctaveAnchor(config.anchor_sizes, (side, side))

    def _parse_train_data(self, data):
        return self.train_example(data, tf.random.uniform([]) < 0.5)

    def train_example(self, data, flip):
        """(inputs, labels) of a decoded record, mirrored where `flip`; difficult objects omitted.

        labels: `image_info` [4, 2], `anchor_boxes`, `rpn_score_targets`, `rpn_box_targets` by
        level, `gt_boxes` [max_objects, 4] in pixels of the scaled image, `gt_classes`; both padded
        with -1.
        """
        shape = scaled_size(data["size"], self._config)
        if self._features:
            inputs = {"res4": self._features(data["source_id"], flip)}
        else:
            image = decode_image(data["encoded"])
            inputs = scale_image(tf.where(flip, image[:, ::-1], image), self._config)
        counted = ~data["difficult"]
        boxes, classes = data["boxes"][counted], data["classes"][counted]
        top, left, bottom, right = tf.unstack(boxes, axis=1)
        mirrored = tf.stack([top, 1 - right, bottom, 1 - left], axis=1)
        boxes = tf.where(flip, mirrored, boxes) * tf.tile(shape, [2])
        labeler = InsideLabeler(self._config.rpn_samples, self._anchors, shape)
        scores, offsets = labeler.label(boxes)
        fixed = preprocess_ops.clip_or_pad_to_fixed_size
        return inputs, {
            "image_info": image_info(data["size"], shape),
            "anchor_boxes": self._anchors.multilevel_boxes,
            "rpn_score_targets": scores,
            "rpn_box_targets": offsets,
            "gt_boxes": fixed(boxes, self._max_objects, -1),
            "gt_classes": fixed(classes, self._max_objects, -1),
        }

    def _parse_eval_data(self, data):
        """(inputs, labels): `image_info`, `anchor_boxes`, and all objects as `groundtruths`."""
        inputs = scale_image(decode_image(data["encoded"]), self._config)
        boxes = data["boxes"] * tf.tile(data["size"], [2])
        groundtruths = {
            "source_id": data["source_id"],
            "height": data["size"][0],
            "width": data["size"][1],
            "num_detections": tf.shape(data["classes"])[0],
            "boxes": boxes,
            "classes": data["classes"],
            "areas": tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=1),
            "is_crowds": tf.cast(data["difficult"], tf.int32),
        }
        return inputs, {
            "image_info": image_info(data["size"], inputs["shape"]),
            "anchor_boxes": self._anchors.multilevel_boxes,
            "groundtruths": utils.pad_groundtruths_to_fixed_size(groundtruths, self._max_objects),
        }


def decode_image(encoded):
    """JPEG or PNG → uint8 [H, W, 3]."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image
