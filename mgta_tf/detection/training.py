"""Trains a detector with Model Garden's trainer, evaluates it, and applies it to photographs."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import orbit
import tensorflow as tf
from official.core import train_lib, train_utils

from mgta_tf.data import images
from mgta_tf.detection import cache, drawing, parser, records
from mgta_tf.detection.anchors import OctaveAnchor
from mgta_tf.detection.config import DetectConfig
from mgta_tf.detection.heads import FrozenBody
from mgta_tf.detection.sets import BoxSets, digest, write_skipped
from mgta_tf.detection.task import FasterRcnnC4Task, experiment, to_detections
from mgta_tf.errors import UserError
from mgta_tf.evaluation import boxes
from mgta_tf.evaluation.boxes import Detections
from mgta_tf.models import artifact
from mgta_tf.runtime import files, hosts, preemption
from mgta_tf.runtime.checkpoints import drop_damaged
from mgta_tf.runtime.eta import Work
from mgta_tf.runtime.progress import Progress
from mgta_tf.runtime.strategy import make_strategy
from mgta_tf.runtime.workdir import Workdir

METHODS = {"ap50_voc07": "voc2007", "ap50_area": "area"}  # keys of detection.json
SHOWN_IMAGES = 4  # in each row of the sheet


class Diverged(Exception):  # noqa: N818 (an outcome, not a fault)
    """The loss is not finite; the message names the step."""


class Watch:
    """Called after every loop of the trainer: progress line, speed, check for divergence."""

    def __init__(self, total: int, done: int):
        self.progress = Progress([Work("train", total, builds=1.0)], done=done)
        self._times = [time.monotonic()]
        self._steps = [done]

    def __call__(self, outputs: dict[str, Any], step: int) -> None:
        loss = float(outputs["training_loss"])
        if not np.isfinite(loss):
            raise Diverged(f"step {step}: the loss is {loss}")
        self._times.append(time.monotonic())
        self._steps.append(step)
        self.progress.advance_to(step)
        values = {k: float(v) for k, v in outputs.items() if k.startswith(("rpn_", "roi_"))}
        parts = " · ".join(f"{k[:-5].replace('_', ' ')} {v:.3g}" for k, v in values.items())
        self.progress.say(f"step {step} · loss {loss:.4g} · {parts}")

    @property
    def seconds_per_step(self) -> float | None:
        """Median over all loops except the first, which builds the graph."""
        speeds = np.diff(self._times) / np.diff(self._steps)
        return float(np.median(speeds[1:] if len(speeds) > 1 else speeds)) if len(speeds) else None


class Detector:
    """The detector of a run, restored from the newest checkpoint in its workdir."""

    def __init__(self, config: DetectConfig, workdir: Workdir, train: bool):
        self._config, self._workdir = config, workdir
        self.contents = records.contents(config.run.records, config.data.train_set)
        self._there = records.objects_of(self._files(self.contents.test))
        drop_damaged(workdir.checkpoints)
        strategy = self._strategy = make_strategy(config.schedule.batch_size, "batch_size")
        params = experiment(config)
        if train:
            params.task.features = self._features()
        # A resumed run draws new random samples.
        params.task.train_data.seed = config.run.seed + _newest_step(workdir.checkpoints)
        tf.keras.utils.set_random_seed(params.task.train_data.seed)
        task = FasterRcnnC4Task(params.task, on_detections=self._evaluate)
        with strategy.scope(), _quiet():
            self._trainer = train_utils.create_trainer(params, task, train=train, evaluate=True)
            step = self._trainer.global_step
            boards = [
                orbit.utils.SummaryManager(
                    os.path.join(workdir.tensorboard, name), tf.summary.scalar, step
                )
                for name in ("train", "validation")
            ]
            self._runner = train_lib.OrbitExperimentRunner(
                strategy,
                task,
                "train_and_eval" if train else "eval",
                params,
                workdir.checkpoints,
                trainer=self._trainer,
                train_actions=[self._after_loop],
                summary_manager=boards[0],
                eval_summary_manager=boards[1],
            )
        self._board = boards[1]
        self._sheet = np.zeros((1, 1, 3), np.uint8)
        self._per_class: dict[str, np.ndarray] = {}
        self._watch = Watch(config.schedule.steps, self.step)

    @property
    def step(self) -> int:
        """Number of finished training steps."""
        return int(self._trainer.global_step.numpy())

    @property
    def seconds_per_step(self) -> float | None:
        return self._watch.seconds_per_step

    @property
    def num_train(self) -> int:
        """Number of training images."""
        return self.contents.num_images(*self.contents.train)

    @property
    def num_test(self) -> int:
        """Number of test images."""
        return self.contents.num_images(self.contents.test)

    @property
    def model(self) -> tf.keras.Model:
        return self._trainer.model

    def _files(self, *sets: str) -> list[str]:
        return records.files_of(self._config.run.records, sets)

    def _features(self) -> str:
        encoder, facts = artifact.load_encoder(self._config.run.saved_model)
        return cache.choose(
            self._config.cache,
            os.path.join(self._workdir.path, "body_features"),
            self._files(*self.contents.train),
            FrozenBody(encoder, facts.normalization),
            self._config.detector,
        )

    def train(self) -> None:
        """Trains to the last step, from the newest checkpoint.

        Raises:
          Diverged: the loss became NaN or infinite; the checkpoints are older.
        """
        try:
            with self._watch.progress, _quiet(), preemption.deferred():
                self._runner.controller.train(self._config.schedule.steps)
        except tf.errors.InvalidArgumentError:  # raised for an index computed from NaN
            weights = self.model.trainable_variables
            if all(np.isfinite(weight.numpy()).all() for weight in weights):
                raise
            raise Diverged(f"before step {self.step + 1}: weights are not finite") from None

    def _after_loop(self, outputs: dict[str, Any]) -> None:
        self._watch(outputs, self.step)
        if hosts.any_of(self._strategy, bool(preemption.received_signal())):
            self._runner.controller.save_checkpoint()
            hosts.stop_if_signalled(self._strategy)

    def evaluate(self) -> dict[str, Any]:
        """Evaluates the detector on the test set and writes `detections.png`.

        Returns:
          The figures of `detection.json`, 0 to 100.
        """
        with _quiet():
            logs = self._runner.controller.evaluate()
        with self._board.summary_writer().as_default(step=self.step):
            tf.summary.image("detections", self._sheet[None])
        self._board.flush()
        classes = self.contents.classes
        return {
            **{name: float(logs[name]) for name in METHODS},
            "coco_ap": 100 * float(logs["AP"]),
            "coco_ap50": 100 * float(logs["AP50"]),
            "per_class": dict(zip(classes, self._per_class["ap50_voc07"])),
            "per_class_area": dict(zip(classes, self._per_class["ap50_area"])),
        }

    def _evaluate(self, found: Detections) -> dict[str, float]:
        """Computes VOC's average precisions, and draws the best and the worst images."""
        classes = self.contents.classes
        values = boxes.average_precisions(found, self._there, len(classes))
        self._per_class = {name: 100 * values[method] for name, method in METHODS.items()}
        verdicts = drawing.evaluate(found, self._there, classes, self._config.run.min_score)
        best = [v for v in verdicts[:SHOWN_IMAGES] if v.f1]
        worst = [v for v in verdicts[::-1][:SHOWN_IMAGES] if v not in best]
        shown = {v.image: v.items for v in (*best, *worst)}
        pictures = {}
        for example in records.read(self._files(self.contents.test)):
            number = records.source_id(example)
            if number in shown:
                image = images.decode(records.photograph(example))
                pictures[number] = drawing.draw(image, shown[number])
        rows = [[pictures[v.image] for v in part] for part in (best, worst)]
        self._sheet = drawing.sheet(*rows)
        images.save(os.path.join(self._workdir.path, "detections.png"), self._sheet)
        logs = {}
        for name, aps in self._per_class.items():
            logs[name] = float(np.nanmean(aps))
            logs.update({f"{name}/{c}": ap for c, ap in zip(classes, aps) if np.isfinite(ap)})
        return logs

    def find(self, image: np.ndarray) -> Detections:
        """Detects objects in a photograph, uint8 [H, W, 3]."""
        config = self._config.detector
        inputs = {k: v[None] for k, v in parser.scale_image(image, config).items()}
        size = tf.constant(image.shape[:2], tf.float32)
        info = parser.image_info(size, inputs["shape"][0])[None]
        side = config.padded_side
        anchors = OctaveAnchor(config.anchor_sizes, (side, side)).multilevel_boxes
        outputs = self.model(
            inputs,
            image_shape=inputs["shape"],
            anchor_boxes={level: box[None] for level, box in anchors.items()},
            training=False,
        )
        batch = {k: outputs[k].numpy() for k in outputs if k.startswith(("detection_", "num_"))}
        return to_detections([{**batch, "image_info": info.numpy(), "source_id": np.zeros(1, int)}])


@contextlib.contextmanager
def opened(config: DetectConfig, workdir: Workdir, train: bool) -> Iterator[Detector]:
    """The `Detector`, with paths that TensorFlow and Model Garden do not take for patterns."""
    with files.literal(workdir.path) as place, files.literal(config.run.records) as made:
        run = dataclasses.replace(config.run, records=made)
        yield Detector(dataclasses.replace(config, run=run), Workdir(place), train)


def _newest_step(checkpoints: str) -> int:
    """The step of the newest checkpoint, from its name; 0 without a checkpoint."""
    with files.literal(checkpoints) as folder:
        newest = tf.train.latest_checkpoint(folder)
    return int(newest.rsplit("-", 1)[1]) if newest else 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the output of Orbit and pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def with_records(config: DetectConfig, workdir: Workdir, sets: BoxSets | None) -> DetectConfig:
    """The config with its folder of records, which is made from `sets` unless --records names one.

    sets: None if the folder exists already.

    Raises:
      UserError: the photographs or boxes have changed since the run trained on them.
    """
    folder = config.run.records
    if folder:
        _check_named(folder, workdir)
    else:
        folder = os.path.join(workdir.path, "records")
        if sets and not _is_made(folder, sets, workdir):
            for name, counts in records.write(sets, folder).items():
                print(records.describe(name, counts), flush=True)
            if sets.skipped:
                write_skipped(sets, workdir.skipped)
                print(f"{workdir.skipped}: lists everything that is skipped", flush=True)
    return dataclasses.replace(config, run=dataclasses.replace(config.run, records=folder))


def _check_named(folder: str, workdir: Workdir) -> None:
    """Refuses a folder of --records that was replaced since the run trained on it."""
    path = os.path.join(workdir.path, "records.json")
    found = {"digest": records.manifest(folder).get("digest")}
    if _newest_step(workdir.checkpoints) and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            if json.load(file) != found:
                raise _others(workdir)
    files.write_json(path, found)


def _others(workdir: Workdir) -> UserError:
    return UserError(
        f"{workdir.path}: its photographs or boxes are not those that the run has trained on; "
        "restore them to resume it, or name another --workdir"
    )


def _is_made(folder: str, sets: BoxSets, workdir: Workdir) -> bool:
    """Whether a folder holds the records of `sets`."""
    if not records.exist(folder):
        return False
    made_from = records.manifest(folder).get("digest")
    if made_from in (None, digest(sets)):
        return True
    if _newest_step(workdir.checkpoints):
        raise _others(workdir)
    return False
