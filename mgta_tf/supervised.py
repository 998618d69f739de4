"""Trains the same encoder with labels and softmax: the last row of Tables 2 and 3.

  python -m mgta_tf.supervised --data_dir=tiny-imagenet-100 --workdir=runs/supervised
  python -m mgta_tf.export --workdir=runs/supervised --output=runs/supervised/saved_model

An interrupted run resumes: rerun the same command.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf import cli
from mgta_tf.data import pipeline, sampler
from mgta_tf.data.pipeline import Feed
from mgta_tf.data.store import open_images
from mgta_tf.errors import UserError
from mgta_tf.models.encoder import build_encoder
from mgta_tf.runtime import hosts, preemption
from mgta_tf.runtime.checkpoints import Cadence, Checkpoints, Position, save_net
from mgta_tf.runtime.files import write_json
from mgta_tf.runtime.progress import Part, Progress
from mgta_tf.runtime.step_log import StepLog
from mgta_tf.runtime.strategy import make_strategy
from mgta_tf.runtime.tensorboard import TensorBoardWriter
from mgta_tf.runtime.workdir import open_workdir
from mgta_tf.training import needs
from mgta_tf.training.config import SupervisedConfig
from mgta_tf.training.optimization import build_optimizer, descend, learning_rate
from mgta_tf.training.summary import versions

keras = tf.keras


class Classifier:
    """The encoder with a softmax over its embedding, and its optimiser."""

    def __init__(self, strategy: tf.distribute.Strategy, config: SupervisedConfig, classes: int):
        self.strategy, self._config = strategy, config
        with strategy.scope():
            keras.utils.set_random_seed(config.run.seed)
            self.encoder = build_encoder(config.model)
            logits = keras.layers.Dense(classes, name="logits")(self.encoder.output["embedding"])
            self.model = keras.Model(self.encoder.input, logits)
            self.optimizer = build_optimizer(config.optimizer, self.model)
        self._train_step = tf.function(self._train_step_on_replicas)

    def fit(
        self, batches: Iterator[Any], rate: Callable[[int], float], start: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Trains on (images, labels, uniforms), a step for each item taken: (step, monitors)."""
        for step, batch in enumerate(batches, start):
            self.optimizer.learning_rate.assign(rate(step))
            yield step, self._train_step(batch)

    def _train_step_on_replicas(self, batch):
        clip_norm = self._config.optimizer.clip_norm
        return descend(
            self.strategy, self.model, self.optimizer, clip_norm, self._loss_of, tuple(batch)
        )

    def _loss_of(self, images, labels, uniforms):
        images, _ = pipeline.augment(images, uniforms, self._config.augment)
        images = pipeline.normalize(images, self._config.augment.normalization)
        logits = self.model(images, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = tf.reduce_mean(losses)
        right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
        return loss, {"loss": loss, "accuracy": tf.reduce_mean(tf.cast(right, tf.float32))}


def main(config: SupervisedConfig) -> None:
    run = config.run
    workdir = open_workdir(run.workdir, config)
    store = open_images(config.data, config.augment.image_size, workdir.skipped, labelled=True)
    if store.labels is None:
        raise UserError(
            f"--data_dir={config.data.data_dir}: no class labels found; "
            "use one sub-folder per class"
        )
    if run.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(run.batch_size, "batch_size")
    net = Classifier(strategy, config, len(store.class_names))
    feed = Feed(store, run.batch_size, strategy)
    checkpoints = Checkpoints(workdir.checkpoints, [net], run.keep, workdir.own_checkpoints)
    position = checkpoints.restore(store.fingerprint(labels=True), store.fingerprint_of_names())
    images = 0 if store.pixels is None else store.pixels.nbytes
    size = config.augment.image_size
    needed = needs.of_run([net], config.model, run.batch_size, size, run.keep, images)
    print(needs.said(needed, workdir.path), flush=True)
    board = TensorBoardWriter(workdir.tensorboard)
    _train(config, net, feed, checkpoints, position, store.labels, board)
    save_net(net.encoder, workdir.supervised)
    _report(workdir, len(store), net, position.history)


def _train(
    config: SupervisedConfig,
    net: Classifier,
    feed: Feed,
    checkpoints: Checkpoints,
    position: Position,
    labels: np.ndarray,
    board: TensorBoardWriter,
) -> None:
    """Trains from `position` to the end, epoch by epoch; the history in it grows by a row each."""
    run, images = config.run, np.arange(len(labels), dtype=np.int32)
    plan = sampler.shuffled_plan(images, run.batch_size, run.epochs, [run.seed])
    ends = [0, *(sampler.steps_of(len(images), e + 1, run.batch_size) for e in range(run.epochs))]
    start, history = position.step, position.history
    if start:
        print(f"resuming in {run.workdir} at step {start} of {len(plan)}")
    progress = Progress([Part("supervised", len(plan))], 0, start, run.batch_size)
    cadence = Cadence(run.checkpoint_every_steps, run.checkpoint_every_secs)
    batches = feed.batches(plan, labels, [run.seed], start)
    steps = net.fit(batches, lambda step: learning_rate(config.optimizer, step, len(plan)), start)
    for epoch in range(len(history), run.epochs):
        first, end = ends[epoch : epoch + 2]
        where = f"epoch {epoch + 1}"
        log = StepLog(where, end - first, 1, end - first, run.max_skipped_steps, position.log)
        with preemption.deferred():
            for step, monitors in itertools.islice(steps, end - max(first, start)):
                log.add(monitors)
                progress.advance_to(step + 1)
                if step + 1 < end and hosts.any_of(net.strategy, cadence.due(step + 1)):
                    position.step, position.log = step + 1, log.state(step + 1)
                    checkpoints.save(position)
                    cadence.saved()
                    hosts.leave(net.strategy)
            row = log.point(end)
            history.append({"epoch": epoch + 1, **log.summary()})
            position.step, position.log = end, {}
            checkpoints.save(position)
            hosts.leave(net.strategy)
        board.scalars("run", end, row)
        board.flush()
        progress.show(
            f"{where}/{run.epochs} · loss {row['loss']:.4g} · "
            f"accuracy {row['accuracy']:.1%} · {progress.speed() * run.batch_size:.0f} images/s"
        )


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
