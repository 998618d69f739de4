"""The learning rate by hand, weight decay, and steps that are not finite."""

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.training.optimization import (
    FusedAdam,
    OptimizerConfig,
    build_optimizer,
    descend,
    learning_rate,
)


def test_the_rate_warms_up_then_decays_as_a_cosine():
    config = OptimizerConfig(learning_rate=0.4, warmup_steps=4)
    rates = [learning_rate(config, step, 12) for step in range(13)]
    np.testing.assert_allclose(rates[:5], [0.1, 0.2, 0.3, 0.4, 0.4])
    assert rates[8] == pytest.approx(0.2)  # half way between the end of the warm-up and the end
    assert rates[12] == pytest.approx(0, abs=1e-12)
    assert learning_rate(config, 99, 12) == pytest.approx(0, abs=1e-12)


def test_a_constant_rate():
    config = OptimizerConfig(learning_rate=0.4, warmup_steps=0, lr_schedule="constant")
    assert {learning_rate(config, step, 12) for step in range(12)} == {0.4}


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_weight_decay_is_for_kernels_only(name):
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


def test_fused_adam_takes_the_steps_of_keras_adam():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(5, 4, 3)).astype(np.float32)
    ours, theirs = (tf.Variable(np.ones((4, 3), np.float32)) for _ in range(2))
    options = dict(learning_rate=0.1, weight_decay=0.01)
    fused, keras = FusedAdam(**options), tf.keras.optimizers.Adam(**options)
    for gradient in gradients:
        fused.apply_gradients([(tf.constant(gradient), ours)])
        keras.apply_gradients([(tf.constant(gradient), theirs)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    for mine, other in zip(fused.variables, keras.variables):
        assert mine.name == other.name
        # the fused operation rounds 1 - β₂ to float32, a relative error of 5e-5
        np.testing.assert_allclose(mine, other, rtol=1e-4)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_loss_scale_falls_at_steps_that_are_not_finite_and_rises_again(replicas, two_replicas):
    """Such a step changes nothing else, and the others are as without a loss scale."""
    strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
    keras = tf.keras
    with strategy.scope():
        models = [
            keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, kernel_initializer="ones")])
            for _ in range(2)
        ]
        plain, inner = (build_optimizer(OptimizerConfig(), model) for model in models)
        scaled = keras.mixed_precision.LossScaleOptimizer(
            inner, initial_scale=8.0, dynamic_growth_steps=3
        )

    def step_of(model, optimizer):
        def loss_of(values):
            loss = tf.reduce_mean(tf.square(model(values, training=True) - 1))
            return loss, {"loss": loss}

        return tf.function(
            lambda values: descend(strategy, model, optimizer, 0.0, loss_of, (values,))
        )

    def batch(last):
        values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
        values[-1, -1] = last
        whole = tf.data.Dataset.from_tensor_slices(values).batch(4)
        return next(iter(strategy.experimental_distribute_dataset(whole)))

    step, step_without = step_of(models[1], scaled), step_of(models[0], plain)
    scales, nan = [], float("nan")
    for last in (1.0, nan, nan, 1.0, 1.0, 1.0, nan, nan, nan, nan, 1.0):
        metrics = step(batch(last))
        scales.append(metrics["loss_scale"].numpy())
        assert metrics["skipped"].numpy() == np.isnan(last)
        if not np.isnan(last):
            expected = step_without(batch(last))
            for name in ("loss", "gradient_norm"):
                np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-5)
    assert scales == [8, 8, 4, 2, 2, 2, 4, 2, 1, 1, 1]  # the scale of each step
    for mine, other in zip(models[1].variables, models[0].variables):
        np.testing.assert_allclose(mine, other, rtol=1e-5)
    for mine, other in zip(scaled.variables, plain.variables):
        np.testing.assert_allclose(mine, other, rtol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_step_that_is_not_finite_changes_nothing(replicas, bad, two_replicas):
    """On no replica, even if only one has a bad image; the next step is taken as usual."""
    strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
    keras = tf.keras
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
        )
        optimizer = build_optimizer(OptimizerConfig(), model)

    def loss_of(values):
        loss = tf.reduce_mean(tf.square(model(values, training=True) - 1))
        return loss, {"loss": loss}

    @tf.function
    def step(values):
        return descend(strategy, model, optimizer, 0.0, loss_of, (values,))

    def batch(last):
        values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
        values[-1, -1] = last
        whole = tf.data.Dataset.from_tensor_slices(values).batch(4)
        return next(iter(strategy.experimental_distribute_dataset(whole)))

    def state():
        return [v.numpy() for v in (*model.variables, *optimizer.variables)]

    metrics = step(batch(0.5))
    assert (metrics["skipped"].numpy(), np.isfinite(metrics["loss"].numpy())) == (0, True)
    before = state()
    for _ in range(2):
        assert step(batch(bad))["skipped"].numpy() == 1
    for a, b in zip(before, state()):
        np.testing.assert_array_equal(a, b)
    assert step(batch(0.5))["skipped"].numpy() == 0
    changed = [not np.array_equal(a, b) for a, b in zip(before, state())]
    assert all(changed[: len(model.variables)])
