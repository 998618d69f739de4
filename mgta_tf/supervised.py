"""Trains an encoder as a classifier with softmax, from scratch or from a pre-trained encoder.

  python -m mgta_tf.supervised --data_dir=tiny-imagenet-100 --workdir=runs/supervised
  python -m mgta_tf.supervised --data_dir=LABELLED --workdir=runs/tuned \\
      --init=runs/mine/saved_model --frozen_epochs=5
  python -m mgta_tf.export --workdir=runs/supervised --output=runs/supervised/saved_model

An interrupted run resumes: rerun the same command.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf import cli
from mgta_tf import config as config_lib
from mgta_tf.config import format_value
from mgta_tf.data import pipeline, sampler
from mgta_tf.data.pipeline import Feed
from mgta_tf.data.sources import GENERATED, Source, splits_of
from mgta_tf.data.store import ImageStore, open_images
from mgta_tf.errors import UserError
from mgta_tf.evaluation.features import in_batches
from mgta_tf.models.artifact import load_encoder, read_facts
from mgta_tf.models.encoder import build_encoder
from mgta_tf.runtime import hosts, preemption
from mgta_tf.runtime.checkpoints import Cadence, Checkpoints, Position, save_net
from mgta_tf.runtime.checkpoints import exist as has_checkpoint
from mgta_tf.runtime.eta import Work
from mgta_tf.runtime.files import write_json
from mgta_tf.runtime.progress import Progress
from mgta_tf.runtime.step_log import StepLog
from mgta_tf.runtime.strategy import make_strategy
from mgta_tf.runtime.tensorboard import TensorBoardWriter, tag_of
from mgta_tf.runtime.workdir import Workdir, open_workdir
from mgta_tf.training import auto, needs, preflight
from mgta_tf.training.config import SupervisedConfig
from mgta_tf.training.optimization import build_optimizer, descend, learning_rate
from mgta_tf.training.summary import versions

keras = tf.keras


class Classifier:
    """The encoder with a softmax classifier on its embedding, and its optimizer."""

    def __init__(self, strategy: tf.distribute.Strategy, config: SupervisedConfig, classes: int):
        self.strategy, self._config = strategy, config
        with strategy.scope():
            keras.utils.set_random_seed(config.run.seed)
            self.encoder = build_encoder(config.model)
            embedding = self.encoder.output["embedding"]
            dense = keras.layers.Dense(classes, name="logits")
            self.model = keras.Model(self.encoder.input, dense(embedding))
            features = keras.Input(embedding.shape[1:])
            self._head = keras.Model(features, dense(features))
            self.optimizer = build_optimizer(config.optimizer, self.model)
        self._train_step = tf.function(self._train_step_on_replicas)
        self._predict_step = tf.function(self._predict_on_device)

    def start_from(self, saved_model: str) -> None:
        """Loads the weights of an exported encoder that has passed `check_init`.

        Raises:
          UserError: the export is damaged.
        """
        encoder, _ = load_encoder(saved_model)
        self.encoder.set_weights(encoder.get_weights())

    def fit(
        self, batches: Iterator[Any], rate: Callable[[int], float], start: int, frozen_steps: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Trains on (images, labels, uniforms), one step for each (step, metrics) that is taken.

        During the first `frozen_steps` steps the encoder does not change, nor does its batch norm.
        """
        for step, batch in enumerate(batches, start):
            self.optimizer.learning_rate.assign(rate(step))
            yield step, self._train_step(batch, step < frozen_steps)

    def accuracy(self, store: ImageStore, labels: np.ndarray) -> float:
        """Fraction of a store's images that the net classifies as their label, int [N]."""
        right = 0
        for rows in in_batches(len(store), self._config.run.batch_size):
            found = self._predict_step(tf.constant(store.batch(rows))).numpy()
            right += int((found == labels[rows]).sum())
        return right / len(store)

    def _predict_on_device(self, images):
        images = pipeline.fit_size(images, self._config.augment.image_size)
        images = pipeline.normalize(images, self._config.augment.normalization)
        return tf.argmax(self.model(images, training=False), axis=1, output_type=tf.int32)

    def _train_step_on_replicas(self, batch, frozen: bool):
        trained, loss_of = (self._head, self._loss_of_head) if frozen else (self.model, self._loss)
        clip_norm = self._config.optimizer.clip_norm
        return descend(self.strategy, trained, self.optimizer, clip_norm, loss_of, tuple(batch))

    def _loss(self, images, labels, uniforms):
        return self._softmax_loss(self.model(self._augmented(images, uniforms), True), labels)

    def _loss_of_head(self, images, labels, uniforms):
        features = self.encoder(self._augmented(images, uniforms), training=False)["embedding"]
        return self._softmax_loss(self._head(tf.stop_gradient(features)), labels)

    def _augmented(self, images, uniforms):
        images, _ = pipeline.augment(images, uniforms, self._config.augment)
        return pipeline.normalize(images, self._config.augment.normalization)

    def _softmax_loss(self, logits, labels):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = tf.reduce_mean(losses)
        right = tf.equal(tf.argmax(logits, axis=1, output_type=tf.int32), labels)
        return loss, {"loss": loss, "accuracy": tf.reduce_mean(tf.cast(right, tf.float32))}


def main(flags: dict[str, Any]) -> None:
    """The command: resolves flags that are 'auto' for the images, then trains."""
    train(*auto.config_of_supervised(flags))


def train(config: SupervisedConfig, source: Source | None = None) -> dict[str, Any]:
    """Trains a classifier, or resumes its training.

    Returns:
      The content of `summary.json`. Its only stage has `loss` and `accuracy` of the last epoch and,
      if the data have a validation or a test split, `validation_accuracy` (0 to 1).

    Raises:
      UserError: unusable images, flags that do not fit the images, or a disk that is full.
    """
    run, robustness = config.run, config.robustness
    workdir = open_workdir(run.workdir, config)
    starts = bool(run.init) and not has_checkpoint(workdir.checkpoints)
    if starts:
        check_init(config)
    store = open_images(
        config.data,
        config.augment.image_size,
        workdir.skipped,
        labelled=True,
        check=functools.partial(preflight.check_supervised, config),
        source=source,
        remembered=workdir.checked,
    )
    assert store.labels is not None
    validation = _validation_images(config, store, workdir.checked)
    if robustness.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(run.batch_size, "batch_size")
    net = Classifier(strategy, config, len(store.class_names))
    feed = Feed(store, run.batch_size, strategy)
    checkpoints = Checkpoints(workdir.checkpoints, [net], robustness.keep, workdir.own_checkpoints)
    if starts:
        net.start_from(run.init)
    position = checkpoints.restore(store.fingerprint(labels=True), store.fingerprint_of_names())
    images = 0 if store.pixels is None else store.pixels.nbytes
    size = config.augment.image_size
    needed = needs.estimate([net], config.model, run.batch_size, size, robustness.keep, images)
    print(needs.estimate_line(needed, workdir.path), flush=True)
    board = TensorBoardWriter(workdir.tensorboard)
    chosen = choose_labelled(store.labels, run.label_fraction, run.seed)
    _train(config, net, feed, checkpoints, position, store.labels, chosen, board)
    save_net(net.encoder, workdir.supervised)
    accuracy = net.accuracy(*validation) if validation else None
    if accuracy is not None:
        board.scalars("run", position.step, {tag_of("validation_accuracy"): accuracy})
        board.flush()
    return _report(workdir, store, len(chosen), net, position.history, accuracy)


def choose_labelled(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Chooses images to train on: ⌈fraction · n⌉ of the n of each class, at least one.

    int [N] → int32 [m], sorted. With the same seed, a larger fraction includes a smaller one.
    """
    order = np.random.default_rng([seed, 0xF3A]).permutation(len(labels))
    numbers, sizes = np.unique(labels, return_counts=True)
    chosen = [
        order[labels[order] == number][:used]
        for number, used in zip(numbers, preflight.images_used(sizes, fraction))
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def check_init(config: SupervisedConfig) -> None:
    """Compares the flags with the encoder that --init names.

    Raises:
      UserError: the folder has no encoder, or its shape or normalization differ from the flags.
    """
    saved_model = config.run.init
    facts = read_facts(saved_model)
    for name, theirs, ours in (
        ("width", facts.model.width, config.model.width),
        ("blocks", facts.model.blocks, config.model.blocks),
        ("normalization", facts.normalization, config.augment.normalization),
    ):
        if theirs != ours:
            raise UserError(
                f"--init={saved_model}: its encoder has --{name}={format_value(theirs)}, but "
                f"--{name}={format_value(ours)}; set --{name}={format_value(theirs)}"
            )


def _validation_images(
    config: SupervisedConfig, store: ImageStore, remembered: str
) -> tuple[ImageStore, np.ndarray] | None:
    """The validation split of the data, else the test split, with its labels; None without either.

    Raises:
      UserError: the split has classes that the training images do not have.
    """
    data = config.data
    splits: tuple[str, ...] = ("val",) if data.data_source in GENERATED else ()
    if not data.data_source:
        splits = tuple(s for s in ("val", "test") if s in splits_of(data) and s != data.data_split)
    if not splits:
        return None
    split = dataclasses.replace(data, data_split=splits[0])
    size = config.augment.image_size
    found = open_images(split, size, labelled=True, remembered=remembered)
    if found.labels is None or not set(found.class_names) <= set(store.class_names):
        raise UserError(
            f"--data_dir={data.data_dir}: the {splits[0]} split has classes that "
            f"{data.data_split} does not have; use the same class folders in both"
        )
    number_of = {name: number for number, name in enumerate(store.class_names)}
    own = np.array([number_of[name] for name in found.class_names], np.int32)
    return found, own[found.labels]


def _train(
    config: SupervisedConfig,
    net: Classifier,
    feed: Feed,
    checkpoints: Checkpoints,
    position: Position,
    labels: np.ndarray,
    images: np.ndarray,
    board: TensorBoardWriter,
) -> None:
    """Trains from `position` to the last epoch, and adds a row to its history after each epoch."""
    run, robustness = config.run, config.robustness
    plan = sampler.shuffled_plan(images, run.batch_size, run.epochs, [run.seed])
    ends = [0, *(sampler.steps_of(len(images), e + 1, run.batch_size) for e in range(run.epochs))]
    start, history = position.step, position.history
    if start:
        print(f"resuming in {run.workdir} at step {start} of {len(plan)}")
    cadence = Cadence(robustness.checkpoint_every_steps, robustness.checkpoint_every_secs)
    batches = feed.batches(plan, labels, [run.seed], start)
    frozen_steps = ends[min(run.frozen_epochs, run.epochs)]
    progress = _progress(len(plan), frozen_steps, start)
    steps = net.fit(
        batches,
        lambda step: learning_rate(config.optimizer, step, len(plan)),
        start,
        frozen_steps,
    )
    for past in history:
        board.recall("run", ends[past["epoch"]], {name: past[name] for name in past["first"]})
    with progress:
        for epoch in range(len(history), run.epochs):
            first, end = ends[epoch : epoch + 2]
            where = f"epoch {epoch + 1}"
            steps_of_epoch, most_skipped = end - first, robustness.max_skipped_steps
            log = StepLog(where, steps_of_epoch, 1, steps_of_epoch, most_skipped, position.log)
            with preemption.deferred():
                for step, metrics in itertools.islice(steps, end - max(first, start)):
                    log.add(metrics)
                    progress.advance(1)
                    if step + 1 == frozen_steps:
                        progress.end()
                    if step + 1 < end and hosts.any_of(net.strategy, cadence.due(step + 1)):
                        position.step, position.log = step + 1, log.state(step + 1)
                        checkpoints.save(position)
                        cadence.saved()
                        hosts.stop_if_signalled(net.strategy)
                row = log.point(end)
                history.append({"epoch": epoch + 1, **log.summary()})
                position.step, position.log = end, {}
                checkpoints.save(position)
                hosts.stop_if_signalled(net.strategy)
            board.metrics("run", end, row)
            board.flush()
            progress.say(
                f"{where}/{run.epochs} · loss {row['loss']:.4g} · "
                f"accuracy {row['accuracy']:.1%} · {progress.speed() * run.batch_size:.0f} images/s"
            )


def _progress(steps: int, frozen: int, done: int) -> Progress:
    """The progress of all steps, the first `frozen` of which train the classifier alone.

    Those take the encoder's forward pass, the others its gradient, too.
    """
    parts = [Work("head", frozen, weight=1.0, builds=1.0)] if frozen else []
    parts.append(Work("train", steps - frozen, weight=3.0, builds=1.0))
    past = bool(frozen) and done >= frozen
    return Progress(parts, int(past), done - frozen * past)


def _report(
    workdir: Workdir,
    store: ImageStore,
    num_images: int,
    net: Classifier,
    history: list[dict[str, Any]],
    accuracy: float | None,
) -> dict[str, Any]:
    """Writes `summary.json`, prints the closing lines, and returns the summary.

    num_images: number of images of the store that it trained on.
    """
    stage = {
        "stage": "supervised",
        "images": num_images,
        "seconds": sum(row["seconds"] for row in history),
        **{name: history[-1][name] for name in ("loss", "accuracy")},
        "validation_accuracy": accuracy,
        "first": history[0],
    }
    summary = {
        "stages": [stage],
        "data_fingerprint": store.fingerprint(),
        "num_images": num_images,
        "num_parameters": net.model.count_params(),
        "versions": versions(),
        "saved_model": None,
    }
    write_json(workdir.summary, summary)
    validation = "" if accuracy is None else f", validation accuracy {accuracy:.1%}"
    print(
        f"done: loss {history[0]['loss']:.4g} → {history[-1]['loss']:.4g}, "
        f"accuracy {history[0]['accuracy']:.1%} → {history[-1]['accuracy']:.1%}{validation}\n"
        f"  encoder: python -m mgta_tf.export --workdir={shlex.quote(workdir.path)} "
        f"--output={shlex.quote(os.path.join(workdir.path, 'saved_model'))}",
        flush=True,
    )
    return summary


if __name__ == "__main__":
    cli.run(main, SupervisedConfig, config_lib.leaves)
