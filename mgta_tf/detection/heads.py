"""The frozen body and the two heads of Faster R-CNN C4, which Model Garden lacks."""

from __future__ import annotations

import math

import tensorflow as tf

from mgta_tf.data import pipeline
from mgta_tf.detection.anchors import LEVEL
from mgta_tf.detection.config import STRIDE

keras = tf.keras


def gaussian(deviation: float):
    """Detectron's 'gauss' initialization."""
    return keras.initializers.RandomNormal(stddev=deviation)


class FrozenBody(tf.keras.Model):
    """The encoder up to res4, with batch norm in inference mode and no trainable weights.

    Input: a dict with either `image` uint8 or float [B, S, S, 3] in 0..255, padded to the right and
    below, and `shape` [B, 2], its height and width without the padding; or `res4` bfloat16 [B, h,
    w, c], a cached output. Output: {'4': float32 [B, h, w, c]}, 0 in cells that are entirely
    padding.
    """

    def __init__(self, encoder: tf.keras.Model, normalization: str):
        super().__init__(name="body")
        self.layers_to_res4 = keras.Model(
            encoder.input, encoder.output["res4"], name="res2_to_res4"
        )
        self.channels = encoder.output["res4"].shape[-1]
        self.normalization = normalization
        self.trainable = False

    def call(self, inputs):
        if "res4" in inputs:
            return {str(LEVEL): tf.cast(inputs["res4"], tf.float32)}
        shape, side = inputs["shape"], inputs["image"].shape[1]
        images = pipeline.normalize(inputs["image"], self.normalization)
        images *= inside(shape, side)  # the padding is 0 after normalization, as in Detectron
        features = self.layers_to_res4(images, training=False)
        return {str(LEVEL): features * inside(cells(shape), side // STRIDE)}


def cells(shape):
    """Number of res4 cells that cover a number of pixels at least in part."""
    return tf.math.ceil(tf.cast(shape, tf.float32) / STRIDE)


def inside(shape, side: int):
    """float32 [B, side, side, 1]: 1 in the first shape[b] rows and columns, else 0."""
    places = tf.range(side, dtype=tf.float32)
    rows, columns = (places < tf.cast(shape[:, i, None], tf.float32) for i in (0, 1))
    return tf.cast(rows[:, :, None, None] & columns[:, None, :, None], tf.float32)


class RpnHead(tf.keras.layers.Layer):
    """3×3 convolution with the same number of channels, ReLU, then scores and boxes; no norm.

    {'4': [B, h, w, c]} → ({'4': [B, h, w, A]}, {'4': [B, h, w, 4·A]}).
    """

    def __init__(self, channels: int, anchors: int):
        super().__init__(name="rpn_head")
        self.conv = keras.layers.Conv2D(
            channels, 3, padding="same", activation="relu", kernel_initializer=gaussian(0.01)
        )
        self.scores = keras.layers.Conv2D(anchors, 1, kernel_initializer=gaussian(0.01))
        self.boxes = keras.layers.Conv2D(4 * anchors, 1, kernel_initializer=gaussian(0.01))

    def call(self, features):
        hidden = self.conv(features[str(LEVEL)])
        return {str(LEVEL): self.scores(hidden)}, {str(LEVEL): self.boxes(hidden)}


class Res5Head(tf.keras.layers.Layer):
    """res5 on every RoI, averaged; then class scores and one box per class.

    The convolutions are initialized with the encoder's res5 and trained; batch norm is frozen
    (statistics, scale and shift). [B, N, s, s, c] → ([B, N, K], [B, N, 4·K]), where class 0 of K is
    the background.
    """

    def __init__(self, encoder: tf.keras.Model, num_classes: int):
        super().__init__(name="res5_head")
        self.res5 = keras.Model(encoder.output["res4"], encoder.output["res5"], name="res5")
        for layer in self.res5.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
        self.classes = keras.layers.Dense(num_classes, kernel_initializer=gaussian(0.01))
        self.boxes = keras.layers.Dense(4 * num_classes, kernel_initializer=gaussian(0.001))

    def call(self, roi_features):
        batch, rois = tf.shape(roi_features)[0], roi_features.shape[1]
        flat = tf.reshape(roi_features, [-1, *roi_features.shape[2:]])
        pooled = tf.reduce_mean(self.res5(flat), axis=[1, 2])
        classes, boxes = self.classes(pooled), self.boxes(pooled)
        return (
            tf.reshape(classes, [batch, rois, classes.shape[-1]]),
            tf.reshape(boxes, [batch, rois, boxes.shape[-1]]),
        )


def count_cells(height: int, width: int) -> tuple[int, int]:
    """`cells` of the height and the width of one image, as Python integers."""
    return math.ceil(height / STRIDE), math.ceil(width / STRIDE)
