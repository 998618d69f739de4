"""Optimizer and learning rate, which §4.2 does not specify."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf

from mgta_tf.config import flag

keras = tf.keras


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer (not specified by the paper)."""

    optimizer: str = flag(
        "adam", "Optimizer: Adam, or SGD with momentum 0.9.", choices=("adam", "sgd"), advanced=True
    )
    learning_rate: float = flag(
        3e-3,
        "Peak learning rate. Reconstruction loss of the small model's IAE on Tiny ImageNet "
        "after 3 epochs: 136 with 3e-3, 168 with 1e-3, 227 with 3e-4.",
        minimum=0.0,
    )
    lr_schedule: str = flag(
        "cosine",
        "Learning rate after the warm-up: cosine decay to 0, once over stage 1 and once over "
        "stages 2 and 3; or constant.",
        choices=("cosine", "constant"),
        advanced=True,
    )
    warmup_steps: int = flag(
        100,
        "Steps of linear warm-up at the start of stage 1 and of stage 2.",
        minimum=0,
        advanced=True,
    )
    weight_decay: float = flag(
        1e-4,
        "Decoupled weight decay of kernels per step, multiplied by the learning rate.",
        minimum=0.0,
        advanced=True,
    )
    clip_norm: float = flag(
        0.0, "Maximum global norm of the gradient; 0 disables clipping.", minimum=0.0, advanced=True
    )


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """The learning rate of step `step` (from 0) of `total_steps`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.lr_schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def build_optimizer(
    config: OptimizerConfig, model: tf.keras.Model
) -> tf.keras.optimizers.Optimizer:
    """The optimizer of one net, built for its variables; biases and batch norm do not decay."""
    rate, decay = config.learning_rate, config.weight_decay or None
    if config.optimizer == "adam":
        optimizer = FusedAdam(rate, weight_decay=decay)
    else:
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=decay)
    if decay:
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in model.trainable_variables if len(v.shape) < 2]
        )
    optimizer.build(model.trainable_variables)
    return optimizer


class FusedAdam(tf.keras.optimizers.Adam):
    """Keras' Adam with one fused operation per variable in place of fifteen; same state."""

    def build(self, var_list):
        before = len(self.variables)
        super().build(var_list)
        slots = self.variables[before:]  # momentum and velocity of each variable in turn
        if not slots:
            return  # already built
        local = tf.distribute.get_strategy().experimental_local_results
        slots_of = {
            variable.ref(): pair
            for whole, *pair_of in zip(var_list, slots[::2], slots[1::2])
            for variable, *pair in zip(*map(local, (whole, *pair_of)))
        }
        self._slots_of = slots_of.__getitem__  # a function, because Keras would track a dict

    def update_step(self, gradient, variable):
        momentum, velocity = self._slots_of(variable.ref())
        step = tf.cast(self.iterations + 1, variable.dtype)
        beta_1, beta_2, rate, epsilon = (
            tf.cast(value, variable.dtype)
            for value in (self.beta_1, self.beta_2, self.learning_rate, self.epsilon)
        )
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentum.handle,
            v=velocity.handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=rate,
            beta1=beta_1,
            beta2=beta_2,
            epsilon=epsilon,
            grad=gradient,
        )


def descend(
    strategy: tf.distribute.Strategy,
    model: tf.keras.Model,
    optimizer: tf.keras.optimizers.Optimizer,
    clip_norm: float,
    loss_of: Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]],
    args: tuple,
) -> dict[str, tf.Tensor]:
    """One optimizer step on all replicas, skipped if the loss or a gradient is not finite.

    If the loss or the gradient of any replica is NaN or infinite, the weights, the optimizer and
    the batch norm statistics stay unchanged. In float16 the loss is multiplied by a scale to keep
    gradients from underflowing, and the gradients are divided by it in float32. A skipped step
    halves the scale, down to 1; after 2000 other steps it doubles.

    Args:
      strategy: The replicas.
      model: The net whose trainable variables are updated.
      optimizer: The model's optimizer, with its learning rate set; for float16, a
        `LossScaleOptimizer`.
      clip_norm: Maximum global norm of the gradient; 0 disables clipping.
      loss_of: Called on every replica with `args`; returns the loss of that replica's images, and
        metrics. The step descends the mean loss over the replicas.
      args: Values for each replica.

    Returns:
      Metrics averaged over the replicas, with 'gradient_norm' (before clipping), 'skipped' (1 if
      the step was skipped) and, for float16, 'loss_scale' (the scale of this step).
    """
    gradients, statistics, finite, metrics = strategy.run(
        lambda *args: _gradients(model, optimizer, clip_norm, loss_of, args), args=args
    )
    _apply_or_skip(strategy, model, optimizer, gradients, statistics, finite)
    mean = tf.distribute.ReduceOp.MEAN
    return {n: strategy.reduce(mean, value, axis=None) for n, value in metrics.items()}


def _gradients(model, optimizer, clip_norm: float, loss_of, args: tuple):
    """On a replica: gradients summed over all, old batch norm statistics, all finite?, metrics."""
    scaled = _is_scaled(optimizer)
    statistics = [tf.identity(variable) for variable in model.non_trainable_variables]
    with tf.GradientTape() as tape:
        loss, metrics = loss_of(*args)
    replica = tf.distribute.get_replica_context()
    share = tf.ones_like(loss) / replica.num_replicas_in_sync
    weight = optimizer.get_scaled_loss(share) if scaled else share
    gradients = tape.gradient(loss, model.trainable_variables, output_gradients=weight)
    shares = [*gradients, tf.cast(loss * share, gradients[0].dtype)]
    *gradients, loss = replica.all_reduce(tf.distribute.ReduceOp.SUM, shares)
    if scaled:
        gradients = optimizer.get_unscaled_gradients(gradients)
        metrics = {**metrics, "loss_scale": optimizer.loss_scale}
    norm = tf.linalg.global_norm(gradients)
    finite = tf.math.is_finite(loss) & tf.math.is_finite(norm)
    if clip_norm:
        gradients, _ = tf.clip_by_global_norm(gradients, clip_norm, norm)
    metrics = {**metrics, "gradient_norm": norm, "skipped": 1 - tf.cast(finite, tf.float32)}
    return gradients, statistics, finite, metrics


def _apply_or_skip(strategy, model, optimizer, gradients, statistics, finite) -> None:
    """Applies the gradients on all replicas, or restores their batch norm statistics."""

    def apply(gradients):
        pairs = zip(gradients, model.trainable_variables)
        optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)

    def skip(statistics):
        for variable, before in zip(model.non_trainable_variables, statistics):
            variable.assign(before)
        if _is_scaled(optimizer):
            _lower_loss_scale(optimizer, model)

    tf.cond(
        strategy.experimental_local_results(finite)[0],  # equal on all: computed from the sums
        lambda: strategy.run(apply, args=(gradients,)),
        lambda: strategy.run(skip, args=(statistics,)),
    )


def _is_scaled(optimizer) -> bool:
    return isinstance(optimizer, keras.mixed_precision.LossScaleOptimizer)


def _lower_loss_scale(optimizer, model) -> None:
    """Halves the scale, by passing a `LossScaleOptimizer` gradients that are not finite."""
    pairs = [(tf.fill(v.shape, float("nan")), v) for v in model.trainable_variables]
    optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
    optimizer.iterations.assign_sub(1)  # undo: it counts skipped steps
