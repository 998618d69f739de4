"""The learning rate by hand, and whom weight decay touches."""

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.optimization import OptimizerConfig, build_optimizer, learning_rate


def test_warm_up_then_half_a_cosine():
    config = OptimizerConfig(learning_rate=0.4, warmup_steps=4)
    rates = [learning_rate(config, step, 12) for step in range(13)]
    np.testing.assert_allclose(rates[:5], [0.1, 0.2, 0.3, 0.4, 0.4])
    assert rates[8] == pytest.approx(0.2)  # half way between the end of the warm-up and the end
    assert rates[12] == pytest.approx(0, abs=1e-12)
    assert learning_rate(config, 99, 12) == pytest.approx(0, abs=1e-12)


def test_constant_stays():
    config = OptimizerConfig(learning_rate=0.4, warmup_steps=0, lr_schedule="constant")
    assert {learning_rate(config, step, 12) for step in range(12)} == {0.4}


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_kernels_decay_and_nothing_else_does(name):
    model = tf.keras.Sequential(
        [tf.keras.Input((4, 4, 2)), tf.keras.layers.Conv2D(3, 3, use_bias=True)]
    )
    model.layers[0].bias.assign([1.0, 1.0, 1.0])
    before = [v.numpy() for v in model.trainable_variables]
    config = OptimizerConfig(optimizer=name, learning_rate=0.5, weight_decay=0.1)
    optimizer = build_optimizer(config, model)
    zeros = [tf.zeros_like(v) for v in model.trainable_variables]
    optimizer.apply_gradients(zip(zeros, model.trainable_variables))
    kernel, bias = (v.numpy() for v in model.trainable_variables)
    np.testing.assert_allclose(kernel, before[0] * (1 - 0.5 * 0.1), rtol=1e-5)
    np.testing.assert_array_equal(bias, before[1])
