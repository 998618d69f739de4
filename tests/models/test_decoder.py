"""The decoder against Table 1."""

import re

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.decoder import build_decoder
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.models.layers import convolution


@pytest.fixture(scope="module")
def full_size():
    return build_decoder(ModelConfig(decoder="mirror"))


def test_stages_have_table_1s_blocks_and_channels(full_size):
    # stage: (blocks, inner channels, output channels of the last block), Table 1 in reverse
    table = {5: (3, 512, 1024), 4: (6, 256, 512), 3: (4, 128, 256), 2: (3, 64, 64)}
    for stage, (blocks, inner, out) in table.items():
        convs = {
            layer.name: layer
            for layer in full_size.layers
            if re.fullmatch(rf"up{stage}_block\d+_[123]_conv", layer.name)
        }
        assert len(convs) == 3 * blocks
        for block in range(1, blocks + 1):
            one, two, three = (convs[f"up{stage}_block{block}_{part}_conv"] for part in (1, 2, 3))
            assert (one.kernel_size, one.filters) == ((1, 1), inner)
            assert (two.kernel_size, two.filters) == ((3, 3), inner)
            assert three.kernel_size == (1, 1)
            assert three.filters == (out if block == blocks else 4 * inner)
            doubles = block == blocks and stage > 2
            assert two.strides == ((2, 2) if doubles else (1, 1))


def test_all_convolutions_are_transposed(full_size):
    kinds = {type(layer).__name__ for layer in full_size.layers}
    assert "Conv2D" not in kinds
    assert "Conv2DTranspose" in kinds


def test_last_layer_is_8x8_stride_2_padding_3_to_3_channels(full_size):
    last = full_size.get_layer("images")
    assert (last.kernel_size, last.strides, last.filters) == ((8, 8), (2, 2), 3)
    assert last.padding == "same"
    # "same" is padding 3 here: one lit input pixel (i, j) reaches output rows 2i - 3 … 2i + 4
    layer = tf.keras.layers.Conv2DTranspose(1, 8, 2, padding="same", kernel_initializer="ones")
    lit = np.zeros((1, 8, 8, 1), np.float32)
    lit[0, 4, 4] = 1
    rows = np.flatnonzero(layer(lit).numpy()[0, :, 8, 0])
    assert (rows.min(), rows.max()) == (2 * 4 - 3, 2 * 4 + 4)


@pytest.mark.parametrize("decoder", ["mirror", "resize_conv", "light"])
@pytest.mark.parametrize("size", [32, 64, 96, 224])
def test_a_reconstruction_has_the_shape_of_its_image(size, decoder):
    model = build_autoencoder(ModelConfig(width=0.0625, blocks=(1, 1, 1, 1), decoder=decoder))
    outputs = model(np.zeros((1, size, size, 3), np.float32))
    assert outputs["reconstruction"].shape == (1, size, size, 3)
    assert outputs["reconstruction"].dtype == tf.float32


def test_full_size_reconstruction_shape():
    outputs = build_autoencoder(ModelConfig(decoder="mirror"))(np.zeros((1, 64, 96, 3), np.float32))
    assert outputs["reconstruction"].shape == (1, 64, 96, 3)


def test_output_is_linear():
    model = build_decoder(ModelConfig(width=0.0625, blocks=(1, 1, 1, 1), decoder="mirror"))
    images = model(np.random.default_rng(0).normal(size=(2, 2, 2, 128)).astype(np.float32)).numpy()
    assert images.min() < 0 < images.max()


def test_resize_conv_has_the_mirrors_blocks_without_transposed_convolutions():
    config = ModelConfig(width=0.0625, decoder="resize_conv")
    layers = build_decoder(config).layers
    assert not [layer for layer in layers if "Transpose" in type(layer).__name__]
    assert sum(layer.name.endswith("_2_conv") for layer in layers) == sum(config.blocks)


def test_resize_conv_repeats_pixels():
    images = tf.keras.Input((2, 2, 1))
    model = tf.keras.Model(images, convolution(images, 1, 1, 2, "c", kind="resize"))
    model.set_weights([np.ones((1, 1, 1, 1))])
    out = model(np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)).numpy()[0, :, :, 0]
    assert out.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]


def test_light_has_one_block_a_stage():
    layers = build_decoder(ModelConfig(width=0.0625, decoder="light")).layers
    middle = [layer.name for layer in layers if layer.name.endswith("_2_conv")]
    assert middle == [f"up{stage}_block1_2_conv" for stage in (5, 4, 3, 2)]
