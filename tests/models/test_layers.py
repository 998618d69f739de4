"""Our faster layers against the Keras layers that they replace."""

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.models.layers import ImageTransposed, PointwiseTransposed


@pytest.mark.parametrize(
    ("layer", "filters", "size", "stride"),
    [
        (PointwiseTransposed, 7, 1, 1),
        (PointwiseTransposed, 7, 1, 2),
        (ImageTransposed, 3, 8, 2),
    ],
)
def test_output_and_gradients_match_conv2d_transpose(layer, filters, size, stride):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 6, 5, 16)).astype(np.float32))
    options = dict(padding="same", use_bias=layer is ImageTransposed)
    found = []
    for kind in (layer, tf.keras.layers.Conv2DTranspose):
        one = kind(filters, size, stride, **options)
        one.build(x.shape)
        draw = np.random.default_rng(1)
        one.set_weights([draw.normal(size=w.shape) for w in one.get_weights()])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = one(x)
            loss = tf.reduce_sum(y * tf.cos(y))
        found.append([y, *tape.gradient(loss, [x, *one.trainable_variables])])
    for ours, theirs in zip(*found):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_channels_are_known_for_images_of_any_size():
    images = tf.keras.Input((None, None, 16))
    y = PointwiseTransposed(7, 1, 2, padding="same", use_bias=False)(images)
    assert y.shape.as_list() == [None, None, None, 7]
