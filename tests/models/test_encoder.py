"""The full-size encoder against Model Garden's ResNet-50, which is the same network."""

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.models.encoder import ModelConfig, build_encoder
from mgta_tf.models.layers import BATCH_NORM_EPSILON


def model_garden_resnet50():
    from official.vision.modeling.backbones import resnet

    return resnet.ResNet(50, norm_epsilon=BATCH_NORM_EPSILON)


def in_forward_order(model):
    """Model Garden's layers with weights, in the order of ours.

    Our bottleneck creates its projection first; Model Garden's block holds
    shortcut, norm0, conv1, norm1, conv2, norm2, conv3, norm3.
    """
    ordered = []
    for layer in model.layers:
        if hasattr(layer, "_conv3"):
            if layer._use_projection:
                ordered += [layer._shortcut, layer._norm0]
            for i in "123":
                ordered += [getattr(layer, f"_conv{i}"), getattr(layer, f"_norm{i}")]
        elif layer.weights:
            ordered.append(layer)
    return ordered


def test_same_weights_give_the_same_endpoints():
    truth = model_garden_resnet50()
    encoder = build_encoder(ModelConfig())
    rng = np.random.default_rng(0)
    ours = {layer.name: layer for layer in encoder.layers if layer.weights}
    names = ["conv1_conv", "conv1_bn"]
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3)):
        for block in range(1, blocks + 1):
            parts = ["proj", "1", "2", "3"] if block == 1 else ["1", "2", "3"]
            for part in parts:
                prefix = f"res{stage}_block{block}_{part}"
                names += [f"{prefix}_conv", f"{prefix}_bn"]
    theirs = in_forward_order(truth)
    assert len(theirs) == len(names) == len(ours)
    for name, layer in zip(names, theirs):
        weights = []
        for w in ours[name].get_weights():
            scale = 1.0 if w.ndim == 1 else np.sqrt(2.0 / np.prod(w.shape[:3]))
            noise = rng.normal(size=w.shape) * scale
            weights.append((np.abs(noise) * 0.2 + 0.4 if w.ndim == 1 else noise).astype("float32"))
        ours[name].set_weights(weights)
        layer.set_weights(weights)

    images = rng.random((2, 96, 64, 3)).astype(np.float32)
    expected, actual = truth(images, training=False), encoder(images, training=False)
    for level in "2345":
        a, b = actual[f"res{level}"].numpy(), expected[level].numpy()
        np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())
    np.testing.assert_allclose(
        actual["embedding"], expected["5"].numpy().mean((1, 2)), rtol=1e-3, atol=1e-4
    )


def test_it_has_the_parameters_of_resnet50_without_the_classifier():
    # 25,557,032 parameters of torchvision's resnet50, without the 2,049,000 of its classifier, and
    # with 53,120 moving statistics (two per normalized channel), which Keras counts.
    assert build_encoder(ModelConfig()).count_params() == 25_557_032 - 2_049_000 + 53_120


def test_strides_are_on_the_3x3_and_convolutions_have_no_bias():
    encoder = build_encoder(ModelConfig(width=0.125))
    strided = [
        layer.name
        for layer in encoder.layers
        if isinstance(layer, tf.keras.layers.Conv2D) and layer.strides == (2, 2)
    ]
    assert sorted(strided) == sorted(
        ["conv1_conv"] + [f"res{s}_block1_{p}_conv" for s in (3, 4, 5) for p in ("2", "proj")]
    )
    assert not any(layer.use_bias for layer in encoder.layers if hasattr(layer, "use_bias"))


def test_endpoints_are_after_the_relu_and_embedding_is_their_mean():
    encoder = build_encoder(ModelConfig(width=0.125, blocks=(1, 1, 1, 1)))
    endpoints = encoder(np.random.default_rng(0).normal(size=(2, 70, 45, 3)).astype(np.float32))
    for stage in (2, 3, 4, 5):
        assert endpoints[f"res{stage}"].numpy().min() == 0
    assert endpoints["res5"].shape == (2, 3, 2, 256)
    np.testing.assert_allclose(
        endpoints["embedding"], endpoints["res5"].numpy().mean((1, 2)), rtol=1e-5
    )


@pytest.mark.parametrize("blocks", [(1, 2, 3), (1, 2, 3, 0), ()])
def test_blocks_are_four_positive_numbers(blocks):
    with pytest.raises(UserError, match="four positive"):
        ModelConfig(blocks=blocks)
