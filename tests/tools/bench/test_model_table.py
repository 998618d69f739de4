"""Floating-point operations of a net, counted by hand from its layers."""

import numpy as np
import pytest

from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ModelConfig
from tools.bench.model_table import gigaflops


def of_bottlenecks(size, width, stages, transposed):
    """Operations of residual blocks: (inner, outer, stride) each; a multiply-add counts as two.

    A transposed 3×3 convolution does its work at the resolution of its input, and so does every
    1×1 here, because zeros are inserted after it.
    """
    total, channels = 0, width
    for inner, outer, stride in stages:
        after = size * stride if transposed else size // stride
        total += channels * inner * size**2
        total += 9 * inner * inner * (size if transposed else after) ** 2
        total += inner * outer * after**2
        if stride > 1 or channels != outer:
            total += channels * outer * (size if transposed else after) ** 2
        size, channels = after, outer
    return 2 * total


@pytest.mark.parametrize("decoder", ["none", "light", "mirror"])
def test_a_net_has_the_operations_of_its_convolutions(decoder):
    model = build_autoencoder(ModelConfig(width=0.25, blocks=(1, 1, 1, 1), decoder=decoder))
    counted = gigaflops(model, 64)
    encoder = [(16, 64, 1), (32, 128, 2), (64, 256, 2), (128, 512, 2)]
    expected = 2 * 7 * 7 * 3 * 16 * 32**2 + of_bottlenecks(16, 16, encoder, transposed=False)
    if decoder != "none":
        back = [(128, 256, 2), (64, 128, 2), (32, 64, 2), (16, 16, 1)]
        expected += of_bottlenecks(2, 512, back, transposed=True)
        expected += 2 * 4 * 4 * 16 * 12 * 33**2  # the last layer: 4×4 to 2×2×3 channels
    # The rest are batch norm, ReLU and sums, a few operations per value.
    np.testing.assert_allclose(counted, expected / 1e9, rtol=0.1)
