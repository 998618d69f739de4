"""Trains the same encoder with labels and softmax: the last row of Tables 2 and 3.

  python -m mgta_tf.supervised --data_dir=tiny-imagenet-100 --workdir=runs/supervised
  python -m mgta_tf.export --workdir=runs/supervised --output=runs/supervised/saved_model

A run that was interrupted goes on where it was when the same command is given again.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf import cli
from mgta_tf.config import flag, group
from mgta_tf.data import pipeline, sampler
from mgta_tf.data.pipeline import AugmentConfig, Feed
from mgta_tf.data.sources import DataConfig
from mgta_tf.errors import UserError
from mgta_tf.models.encoder import ModelConfig, build_encoder
from mgta_tf.optimization import (
    OptimizerConfig,
    apply_gradients,
    build_optimizer,
    learning_rate,
)
from mgta_tf.run import versions
from mgta_tf.runtime.checkpoints import Checkpoints, save_net
from mgta_tf.runtime.monitoring import Board, Progress, write_json
from mgta_tf.runtime.strategy import make_strategy
from mgta_tf.runtime.workdir import open_workdir
from mgta_tf.train import open_images

keras = tf.keras


@dataclasses.dataclass(frozen=True)
class SupervisedRunConfig:
    """The run."""

    workdir: str = flag("", "Folder for everything that the run leaves; resumes what it holds.")
    seed: int = flag(1, "Of the weights and the batches.", minimum=0)
    epochs: int = flag(100, "Passes over the images.", minimum=1)
    batch_size: int = flag(64, "Images in a step.", minimum=1)
    keep: int = flag(2, "Checkpoints that are kept; there is one after each epoch.", minimum=1)


@dataclasses.dataclass(frozen=True)
class SupervisedConfig:
    """Everything that decides a run."""

    run: SupervisedRunConfig = group(SupervisedRunConfig)
    data: DataConfig = group(DataConfig)
    augment: AugmentConfig = group(AugmentConfig)
    model: ModelConfig = group(ModelConfig)
    optimizer: OptimizerConfig = group(OptimizerConfig)


class Classifier:
    """The encoder with a softmax over its embedding, and its optimiser."""

    def __init__(self, strategy: tf.distribute.Strategy, config: SupervisedConfig, classes: int):
        self._strategy, self._config = strategy, config
        with strategy.scope():
            keras.utils.set_random_seed(config.run.seed)
            self.encoder = build_encoder(config.model)
            logits = keras.layers.Dense(classes, name="logits")(self.encoder.output["embedding"])
            self.model = keras.Model(self.encoder.input, logits)
            self.optimizer = build_optimizer(config.optimizer, self.model)
        self._train_step = tf.function(self._train_step_on_replicas)

    def fit(self, batches: Iterator[Any], rates: Iterator[float]) -> Iterator[dict[str, Any]]:
        """Trains on (images, labels, uniforms), a step for each item taken: loss, accuracy."""
        for batch, rate in zip(batches, rates):
            self.optimizer.learning_rate.assign(rate)
            yield self._train_step(batch)

    def _train_step_on_replicas(self, batch):
        monitors = self._strategy.run(self._train_one_replica, args=(batch,))
        mean = tf.distribute.ReduceOp.MEAN
        return {n: self._strategy.reduce(mean, value, axis=None) for n, value in monitors.items()}

    def _train_one_replica(self, batch):
        images, labels, uniforms = batch
        images, _ = pipeline.augment(images, uniforms, self._config.augment)
        images = pipeline.normalize(images, self._config.augment.normalization)
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        clip_norm = self._config.optimizer.clip_norm
        norm = apply_gradients(tape, loss, self.model, self.optimizer, clip_norm)
        right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
        accuracy = tf.reduce_mean(tf.cast(right, tf.float32))
        return {"loss": loss, "accuracy": accuracy, "gradient_norm": norm}


def main(config: SupervisedConfig) -> None:
    run = config.run
    workdir = open_workdir(run.workdir, config)
    store = open_images(config.data, config.augment, workdir)
    if store.labels is None:
        raise UserError(
            f"--data_dir={config.data.data_dir}: no classes in it; one folder a class is one"
        )
    strategy = make_strategy(run.batch_size, "batch_size")
    net = Classifier(strategy, config, len(store.class_names))
    feed, board = Feed(store, run.batch_size, strategy), Board(workdir.tensorboard)
    checkpoints = Checkpoints(workdir.checkpoints, [net], run.keep)
    images = np.arange(len(store), dtype=np.int32)
    plan = sampler.shuffled_plan(images, run.batch_size, run.epochs, [run.seed])
    _, start, history = checkpoints.restore()
    if history:
        print(f"resuming in {run.workdir} at step {start} of {len(plan)}")
    progress = Progress(len(plan), start)

    ends = [sampler.steps_of(len(store), e + 1, run.batch_size) for e in range(run.epochs)]
    batches = feed.batches(plan, store.labels, [run.seed], start)
    rates = (learning_rate(config.optimizer, s, len(plan)) for s in range(start, len(plan)))
    steps = net.fit(batches, rates)
    began = time.monotonic()
    for epoch in range(len(history), run.epochs):
        monitors = [next(steps) for _ in range((ends[epoch - 1] if epoch else 0), ends[epoch])]
        row = {name: float(np.mean([m[name] for m in monitors])) for name in monitors[0]}
        if not np.isfinite(row["loss"]):
            raise UserError(
                f"epoch {epoch + 1}: the loss is {row['loss']}; the last good checkpoint is kept "
                f"in {workdir.checkpoints}. Lower --learning_rate under another --workdir"
            )
        history.append({"epoch": epoch + 1, **row, "seconds": time.monotonic() - began})
        began = time.monotonic()
        checkpoints.save(0, ends[epoch], history)
        board.scalars("run", ends[epoch], row)
        board.flush()
        progress.advance(len(monitors))
        progress.show(
            f"epoch {epoch + 1}/{run.epochs} · loss {row['loss']:.4g} · "
            f"accuracy {row['accuracy']:.1%} · {progress.speed() * run.batch_size:.0f} images/s"
        )
    save_net(net.encoder, workdir.supervised)
    _report(workdir, len(store), net, history)


def _report(workdir, num_images: int, net: Classifier, history: list[dict[str, Any]]) -> None:
    """`summary.json` and the last lines on the terminal."""
    stage = {
        "stage": "supervised",
        "images": num_images,
        "seconds": sum(row["seconds"] for row in history),
        **{name: history[-1][name] for name in ("loss", "accuracy")},
        "first": history[0],
    }
    write_json(
        workdir.summary,
        {
            "stages": [stage],
            "num_images": num_images,
            "num_parameters": net.model.count_params(),
            "versions": versions(),
            "saved_model": None,
        },
    )
    print(
        f"done: loss {history[0]['loss']:.4g} → {history[-1]['loss']:.4g}, "
        f"accuracy {history[0]['accuracy']:.1%} → {history[-1]['accuracy']:.1%}\n"
        f"  encoder: python -m mgta_tf.export --workdir={workdir.path} "
        f"--output={os.path.join(workdir.path, 'saved_model')}",
        flush=True,
    )


if __name__ == "__main__":
    cli.run(main, SupervisedConfig)
