"""Body and heads against the encoder that they are built from."""

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.data import pipeline
from mgta_tf.detection.heads import FrozenBody, Res5Head, RpnHead
from mgta_tf.models.encoder import ModelConfig, build_encoder


@pytest.fixture(scope="module")
def encoder():
    """An encoder whose batch norm is not the identity."""
    tf.keras.utils.set_random_seed(0)
    encoder = build_encoder(ModelConfig(width=0.0625, blocks=(1, 1, 1, 1)))
    rng = np.random.default_rng(0)
    for variable in encoder.variables:
        if "moving_variance" in variable.name or "gamma" in variable.name:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
    return encoder


def test_the_body_is_the_encoder_up_to_res4_in_inference_mode(encoder):
    images = np.random.default_rng(1).integers(0, 255, (2, 64, 64, 3)).astype(np.float32)
    body = FrozenBody(encoder, "imagenet")
    before = [v.numpy() for v in body.variables]
    whole = body({"image": images, "shape": tf.constant([[64.0, 64.0]] * 2)}, training=True)["4"]
    expected = encoder(pipeline.normalize(images, "imagenet"), training=False)["res4"]
    assert whole.numpy() == pytest.approx(expected.numpy(), rel=1e-5, abs=1e-5)
    assert not body.trainable_variables
    assert all((v.numpy() == old).all() for v, old in zip(body.variables, before))


def test_cells_in_the_padding_are_zero_and_its_pixels_are_ignored(encoder):
    body = FrozenBody(encoder, "imagenet")
    images = np.zeros((1, 64, 64, 3), np.float32)
    images[:, :33, :16] = 99
    shape = tf.constant([[33.0, 16.0]])
    features = body({"image": images, "shape": shape})["4"].numpy()
    assert features[0, :3, :1].any(axis=-1).all()  # row 2 lies in the image with its first pixel
    assert not features[0, 3:].any()
    assert not features[0, :, 1:].any()
    images[:, 33:] = 255
    assert (body({"image": images, "shape": shape})["4"].numpy() == features).all()


def test_the_res5_head_starts_as_the_encoders_res5(encoder):
    head = Res5Head(encoder, num_classes=3)
    rois = np.random.default_rng(2).random((2, 5, 14, 14, 64), np.float32)
    classes, boxes = head(rois)
    assert (classes.shape, boxes.shape) == ((2, 5, 3), (2, 5, 12))
    res5 = tf.keras.Model(encoder.output["res4"], encoder.output["res5"])
    pooled = res5(rois.reshape(10, 14, 14, 64), training=False).numpy().mean(axis=(1, 2))
    kernel, bias = head.classes.get_weights()
    assert classes.numpy().reshape(10, 3) == pytest.approx(pooled @ kernel + bias, abs=1e-4)


def test_trainable_variables_of_the_heads(encoder):
    head = Res5Head(encoder, num_classes=3)
    head(tf.zeros((1, 1, 14, 14, 64)))
    names = [v.name for v in head.trainable_variables]
    assert sum("res5_block" in name for name in names) == 4  # 1×1, 3×3, 1×1, projection
    assert not any("_bn" in name for name in names)
    assert len(names) == 8
    rpn = RpnHead(64, 12)
    scores, boxes = rpn({"4": tf.zeros((1, 3, 5, 64))})
    assert (scores["4"].shape, boxes["4"].shape) == ((1, 3, 5, 12), (1, 3, 5, 48))
    assert [v.shape.as_list() for v in rpn.trainable_variables if len(v.shape) > 1] == [
        [3, 3, 64, 64],
        [1, 1, 64, 12],
        [1, 1, 64, 48],
    ]
    assert np.std(rpn.conv.kernel.numpy()) == pytest.approx(0.01, rel=0.02)
