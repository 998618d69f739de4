"""One auto-encoder with its optimizer: training steps for TMP, encoding for GLP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.data import pipeline
from mgta_tf.data.pipeline import AugmentConfig, Feed
from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.runtime.strategy import precision
from mgta_tf.training import addons, losses
from mgta_tf.training.losses import LossConfig
from mgta_tf.training.optimization import OptimizerConfig, build_optimizer, descend

keras = tf.keras

Metrics = dict[str, Any]


class Learner:
    """An auto-encoder AE = {E, D} with its optimizer.

    Its graphs are built once, at the first batch, and serve every stage, since λ₁, the learning
    rate and the labels are inputs.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: ModelConfig,
        augment: AugmentConfig,
        loss: LossConfig,
        optimizer: OptimizerConfig,
        seed: int,
        mixed_precision: str = "off",
        jit_compile: bool = False,
    ):
        self._strategy, self._augment, self._loss, self._clip_norm = (
            strategy,
            augment,
            loss,
            optimizer.clip_norm,
        )
        if loss.triplet_impl == "tfa":
            addons.require()
        with strategy.scope(), precision(mixed_precision):
            keras.utils.set_random_seed(seed)
            self.model = build_autoencoder(model)
            self.optimizer = build_optimizer(optimizer, self.model)
            if mixed_precision == "float16":
                self.optimizer = keras.mixed_precision.LossScaleOptimizer(self.optimizer)
        self._forward = self._forward_and_loss
        if jit_compile:
            self._forward = tf.function(self._forward_and_loss, jit_compile=True)
        self._train_step = tf.function(self._train_step_on_replicas)
        self._encode_step = tf.function(self._encode_on_replicas)
        self._reconstruct_step = tf.function(self._reconstruct)

    def fit(
        self,
        batches: Iterator[Any],
        lambda1: float,
        rate: Callable[[int], float],
        start: int = 0,
    ) -> Iterator[tuple[int, Metrics]]:
        """TMP, §3.3: trains on the batches, one step for each item that the caller takes.

        Args:
          batches: (images, labels, uniforms) from `Feed.batches`.
          lambda1: λ₁ of eq. 8.
          rate: Learning rate as a function of the step.
          start: Number of the first step.

        Yields:
          (step, metrics). The metrics are scalar tensors that may still be being computed.
        """
        weight = tf.constant(lambda1, tf.float32)
        for step, batch in enumerate(batches, start):
            self.optimizer.learning_rate.assign(rate(step))
            yield step, self._train_step(batch, weight)

    def _train_step_on_replicas(self, batch, lambda1):
        args = (*batch, lambda1)
        return descend(
            self._strategy, self.model, self.optimizer, self._clip_norm, self._augmented_loss, args
        )

    def _augmented_loss(self, images, labels, uniforms, lambda1):
        """L_all (eq. 8) of a batch after augmentation, with metrics."""
        seen, targets = (
            pipeline.normalize(x, self._augment.normalization)
            for x in pipeline.augment(images, uniforms, self._augment)
        )
        draws = pipeline.Draws.of(uniforms).triplet
        return self._forward(seen, targets, labels, lambda1, draws)

    def _forward_and_loss(self, seen, targets, labels, lambda1, draws):
        """The forward pass and L_all (eq. 8): the part that XLA can compile."""
        outputs = self.model(seen, training=True)
        return losses.total_loss(targets, outputs, labels, lambda1, self._loss, draws)

    def copy_weights(self, other: Learner) -> None:
        """Copies another net's weights: both nets "copy the parameters of IAE" (§3.4)."""
        self.model.set_weights(other.model.get_weights())

    def encode(self, feed: Feed, images: np.ndarray, endpoint: str) -> Iterator[np.ndarray]:
        """Features of images without augmentation, for GLP (§3.2).

        Args:
          feed: Source of the images.
          images: [n] indices.
          endpoint: 'embedding', or 'res2' … 'res5', which are averaged over pixels.

        Yields:
          float32 [b, D], in the order of `images`; b is the feed's batch size, the last may be
          smaller.
        """
        size = feed.batch_size
        plan = np.resize(images, (-(-len(images) // size), size))
        no_labels = np.full(int(images.max()) + 1, -1, np.int32)
        batches = feed.batches(plan, no_labels, seed=[0])
        for first, batch in zip(range(0, len(images), size), batches):
            features = self._encode_step(batch[0], endpoint)
            yield features.numpy()[: len(images) - first]

    def _encode_on_replicas(self, images, endpoint: str):
        def encode(images):
            features = self.model.encoder(self._prepare(images), training=False)[endpoint]
            features = tf.cast(features, tf.float32)
            return features if len(features.shape) == 2 else tf.reduce_mean(features, axis=[1, 2])

        return self._strategy.gather(self._strategy.run(encode, args=(images,)), axis=0)

    def reconstruct(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The resized inputs X and X̂ = D(E(X)) of eq. 1: uint8 [N, S, S, 3] each."""
        shown, reconstructed = self._reconstruct_step(tf.constant(images))
        return shown.numpy(), reconstructed.numpy()

    def _reconstruct(self, images):
        prepared = self._prepare(images)
        reconstructed = self.model(prepared, training=False)["reconstruction"]
        back = [
            pipeline.denormalize(x, self._augment.normalization) for x in (prepared, reconstructed)
        ]
        return tuple(back)

    def _prepare(self, images):
        images = pipeline.fit_size(images, self._augment.image_size)
        return pipeline.normalize(images, self._augment.normalization)
