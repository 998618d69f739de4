"""A single experiment of the study or of the search: train, export, evaluate.

Each step runs a user's command in a subprocess. Finished steps are not repeated, so an interrupted
experiment resumes.
"""

from __future__ import annotations

import collections
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mgta_tf import config as config_lib
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_json

# Rows are in float32 unless their flags say otherwise: they must not depend on the processor.
PRECISION: dict[str, Any] = {"mixed_precision": "off"}
# The paper's setup, which all auto-encoders share and rows do not repeat among their flags.
FRAME: dict[str, Any] = {
    **PRECISION,
    "labels": "clusters",
    "decoder": "mirror",
    "num_clusters": 300,
    "clusters_per_batch": 32,
    "images_per_cluster": 2,
}

# Messages of a run whose features are all equal, or too few distinct ones to be clustered.
COLLAPSED = ("distinct points for", "the net has collapsed")


class CollapseError(UserError):
    """A run whose encoder gives so many images the same features that they cannot be clustered."""


def command(module: str, flags: dict[str, Any], log: str) -> None:
    """Runs `python -m module` with these flags, its output appended to the file `log`.

    Raises:
      CollapseError: the embedding of a net has collapsed.
      UserError: it failed for another reason; the message has its last line.
    """
    words = config_lib.to_arguments(flags)
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"$ python -m {module} {' '.join(words)}\n")
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", module, *words], stdout=file, stderr=file, check=False
        )
    if done.returncode:
        with open(log, encoding="utf-8") as file:
            last = collections.deque(file, maxlen=1)
        if any(words in last[0] for words in COLLAPSED):
            raise CollapseError(last[0].split("error: ")[-1].strip())
        raise UserError(f"{log}: python -m {module} ended with {done.returncode}: {last[0]}")


def train_and_evaluate(
    workdir: str,
    train: dict[str, Any],
    export: dict[str, Any],
    probe: dict[str, Any],
    trainer: str = "mgta_tf.train",
) -> dict[str, Any]:
    """Trains with the flags `train`, exports, probes.

    Returns:
      The probe's figures (`map`, `top1`, `knn`, …), and `seconds` and `cpu_seconds` of training and
      evaluation. CPU seconds are summed over cores and do not depend on other load. Both are None
      for an experiment that was interrupted and resumed.

    Raises:
      CollapseError: the embedding of a net has collapsed.
      UserError: the workdir holds an experiment with other flags, or a command failed.
    """
    flags = {"trainer": trainer, "train": train, "export": export, "probe": probe}
    path = os.path.join(workdir, "experiment.json")
    run, saved_model = os.path.join(workdir, "run"), os.path.join(workdir, "saved_model")
    began, cpu_before, resumed = time.monotonic(), cpu_seconds(), os.path.exists(run)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
        if known.get("flags") != json.loads(json.dumps(flags)):
            raise UserError(f"{workdir}: holds an experiment with other flags; move it away")
        if "map" in known:
            return known
    os.makedirs(workdir, exist_ok=True)
    write_json(path, {"flags": flags})
    result, log = os.path.join(workdir, "probe.json"), os.path.join(workdir, "log.txt")
    if not os.path.exists(os.path.join(saved_model, "mgta_tf.json")):
        command(trainer, {**train, "workdir": run}, log)
        shutil.rmtree(saved_model, ignore_errors=True)
        command("mgta_tf.export", {**export, "workdir": run, "output": saved_model}, log)
    command(
        "mgta_tf.probe",
        {**probe, "baselines": False, "saved_model": saved_model, "output": result},
        log,
    )
    shutil.rmtree(os.path.join(workdir, "probe_features"))  # every encoder is evaluated once
    with open(result, encoding="utf-8") as file:
        found = json.load(file)
    found["seconds"] = None if resumed else time.monotonic() - began
    found["cpu_seconds"] = None if resumed else cpu_seconds() - cpu_before
    write_json(path, {**found, "flags": flags})
    return found


def train_iae(folder: str, train: dict[str, Any]) -> str:
    """The run of stage 1 in an experiment's folder, which other runs start from.

    It is trained if its folder does not exist: rows outlive the folders of their runs.
    """
    run = os.path.join(folder, "run")
    if not os.path.exists(os.path.join(run, "checkpoints", "iae.index")):
        os.makedirs(folder, exist_ok=True)
        command("mgta_tf.train", {**train, "workdir": run}, os.path.join(folder, "log.txt"))
    return run


def load_rows(path: str) -> list[dict[str, Any]]:
    """The rows of a file of results; none if it does not exist.

    Raises:
      UserError: it is damaged.
    """
    if not os.path.exists(path):
        return []
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); move it away, or take an older one") from None


def kept(evaluate: Callable[[], dict[str, Any]], keys: Sequence[str]) -> tuple[dict[str, Any], str]:
    """(values for the row, line to print) of an experiment; a collapse is a result, too."""
    try:
        found = evaluate()
    except CollapseError as collapse:
        return {"collapsed": str(collapse)}, str(collapse)
    return {key: found[key] for key in keys}, f"mAP {found['map']:.2f}"


def cpu_seconds() -> float:
    """CPU seconds of all processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def hold_out(data_dir: str, output: str, share: float, seed: int = 0) -> None:
    """Splits each class of training images into train and `share` val, in Tiny ImageNet's layout.

    The files are hard links, or copies where the file system has none.

    Raises:
      UserError: the images have no classes.
    """
    if os.path.exists(os.path.join(output, "wnids.txt")):
        return
    source = open_source(DataConfig(data_dir=data_dir), "train")
    if source.labels is None:
        raise UserError(
            f"--data_dir={data_dir}: no class labels found; use one sub-folder per class"
        )
    rng = np.random.default_rng(seed)
    annotations = []
    for number in range(len(source.class_names)):
        wnid = f"n{number:08d}"
        images = rng.permutation(np.flatnonzero(source.labels == number))
        held = round(share * len(images))
        for place, image in enumerate(images):
            name = f"{wnid}_{place}.JPEG"
            parts = ("val", "images") if place < held else ("train", wnid, "images")
            folder = os.path.join(output, *parts)
            os.makedirs(folder, exist_ok=True)
            _link(os.path.join(data_dir, source.names[image]), os.path.join(folder, name))
            if place < held:
                annotations.append(f"{name}\t{wnid}\n")
    with open(os.path.join(output, "val", "val_annotations.txt"), "w", encoding="utf-8") as file:
        file.writelines(annotations)
    with open(os.path.join(output, "wnids.txt"), "w", encoding="utf-8") as file:
        file.writelines(f"n{number:08d}\n" for number in range(len(source.class_names)))


def _link(source: str, target: str) -> None:
    if not os.path.exists(target):
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
