"""Trains Faster R-CNN on a frozen encoder, with PASCAL VOC (Table 3 of the paper) or your boxes.

  python -m mgta_tf.detect --flagfile=flags/voc07_c4.flagfile --saved_model=DIR \\
      --voc_root=VOCdevkit --workdir=runs/detector
  python -m mgta_tf.detect --flagfile=flags/own_boxes_c4.flagfile --saved_model=DIR \\
      --coco_root=helmets --workdir=runs/detector
  python -m mgta_tf.detect --workdir=runs/detector --eval_only
  python -m mgta_tf.detect --workdir=runs/detector --image=photo.jpg

An interrupted run resumes: rerun the same command. A run whose loss becomes NaN stops, and
tools/table3.py shows it as '-'.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np

from mgta_tf import cli, extras
from mgta_tf.data import images
from mgta_tf.detection.config import MANIFEST, DetectConfig
from mgta_tf.detection.sets import BoxSets, load
from mgta_tf.errors import UserError, quantity
from mgta_tf.runtime import files
from mgta_tf.runtime.files import write_json
from mgta_tf.runtime.workdir import Workdir, load_config, open_workdir
from mgta_tf.training.summary import versions

if TYPE_CHECKING:
    from mgta_tf.detection.training import Detector


def main(config: DetectConfig) -> None:
    extras.require("official", "TensorFlow Model Garden", "detection", "mgta_tf.detect")
    run = config.run
    if run.image or run.eval_only:
        workdir, sets = Workdir(run.workdir), None
        config = load_trained_config(workdir, run.min_score)
    else:
        if not run.saved_model:
            raise UserError(
                "--saved_model is required: pass a SavedModel written by mgta_tf.export"
            )
        workdir = open_workdir(run.workdir, config)
        sets = load_boxes(config, workdir)
    photo = read_photo(run.image) if run.image else None
    # Importing Model Garden takes 15 seconds, so it comes after --help and the checks of flags.
    from mgta_tf.detection import training

    config = training.with_records(config, workdir, sets)
    with training.opened(config, workdir, train=not (run.image or run.eval_only)) as detector:
        if photo is not None:
            draw(detector, photo, run.image, run.min_score)
            return
        result: dict[str, Any] = {"diverged": False}
        if not run.eval_only:
            if detector.step:
                steps = f"{detector.step} of {config.schedule.steps}"
                print(f"resuming in {run.workdir} at step {steps}")
            try:
                detector.train()
            except training.Diverged as end:
                print(f"{end}; the run has diverged and stops")
                result = {"diverged": True}
        if not result["diverged"]:
            result.update(detector.evaluate())
        report(config, workdir, detector, result)


def load_boxes(config: DetectConfig, workdir: Workdir) -> BoxSets | None:
    """The data to make records of; None if the records exist and the data no longer do."""
    root = config.data.coco_root or config.data.voc_root
    made = os.path.exists(os.path.join(workdir.path, "records", MANIFEST))
    if config.run.records or (made and not os.path.exists(root)):
        return None
    sets = load(config.data)
    for remark in sets.remarks:
        print(remark, flush=True)
    return sets


def load_trained_config(workdir: Workdir, min_score: float) -> DetectConfig:
    """The config of a trained detector.

    Raises:
      UserError: the folder holds no run, or the run has no checkpoint.
    """
    config = load_config(workdir.flagfile, DetectConfig)
    if not os.path.exists(os.path.join(workdir.checkpoints, "checkpoint")):
        raise UserError(f"{workdir.checkpoints}: no checkpoint; train the run first")
    return dataclasses.replace(config, run=dataclasses.replace(config.run, min_score=min_score))


def read_photo(path: str) -> np.ndarray:
    """Reads a photograph, uint8 [H, W, 3].

    Raises:
      UserError: the file cannot be read or decoded.
    """
    try:
        return images.decode(files.read(path, images.MAX_BYTES))
    except OSError as error:
        raise UserError(f"--image={path}: {error.strerror}") from None
    except images.BadImage as error:
        raise UserError(f"--image={path}: {error}") from None


def draw(detector: Detector, image: np.ndarray, path: str, min_score: float) -> None:
    """Draws the detections into the photograph `path`, saved as a PNG next to it."""
    from mgta_tf.detection import drawing

    found = drawing.of_image(detector.find(image), detector.contents.classes, min_score)
    output = f"{os.path.splitext(path)[0]}.detections.png"
    images.save(output, drawing.draw(image, found))
    for box in found:
        print(f"  {box.text}  ({', '.join(f'{v:.0f}' for v in box.corners)})")
    boxes = quantity(len(found), "box", "boxes")
    print(f"{output}: {boxes} with a score of {min_score:g} or more")


def report(
    config: DetectConfig, workdir: Workdir, detector: Detector, found: dict[str, Any]
) -> None:
    """Writes `detection.json` and prints the closing lines."""
    path = os.path.join(workdir.path, "detection.json")
    result: dict[str, Any] = dict.fromkeys(("ap50_voc07", "ap50_area", "coco_ap", "per_class"))
    seconds = detector.seconds_per_step
    if seconds is None and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            seconds = json.load(file)["seconds_per_step"]
    result.update(
        found,
        seconds_per_step=seconds,
        steps=detector.step,
        train_set=config.data.train_set if detector.contents.are_vocs else "own",
        num_train=detector.num_train,
        num_test=detector.num_test,
        saved_model=config.run.saved_model,
        versions=versions(),
    )
    write_json(path, result)
    if result["diverged"]:
        print(f"{path}: diverged")
        return
    for name, ap in result["per_class"].items():
        area = result["per_class_area"][name]
        shown = f"{ap:5.1f} {area:7.1f}" if np.isfinite(ap) else f"{'-':>5s} {'-':>7s}"
        print(f"  {name:12s} {shown}")
    print(
        f"{path}: AP50 {result['ap50_voc07']:.2f} by 11 points, {result['ap50_area']:.2f} by area; "
        f"COCO AP {result['coco_ap']:.2f}\n"
        f"  best and worst: {os.path.join(workdir.path, 'detections.png')}\n"
        f"  curves: tensorboard --logdir={shlex.quote(workdir.tensorboard)}",
        flush=True,
    )


if __name__ == "__main__":
    cli.run(main, DetectConfig)
