"""The results of a run: `summary.json` and the closing lines."""

from __future__ import annotations

import functools
import os
import platform
import shlex
from importlib import metadata
from typing import Any

import tensorflow as tf

import mgta_tf
from mgta_tf.data.store import ImageStore
from mgta_tf.errors import quantity
from mgta_tf.runtime import hosts
from mgta_tf.runtime.checkpoints import Position
from mgta_tf.runtime.progress import duration
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.training import wording
from mgta_tf.training.config import TrainConfig

History = list[dict[str, Any]]


def build(
    position: Position, turns: int, store: ImageStore, model: tf.keras.Model
) -> dict[str, Any]:
    """The content of `summary.json`: a row for every TMP, including the statistics of its labels.

    Args:
      position: state of the newest checkpoint.
      turns: number of turns of the run.
      store: images of the run.
      model: one of its two nets.
    """
    history = position.history
    labelled = {(r["round"], r["half"]): r for r in history if r["process"] == "GLP"}
    stages = []
    for row in history:
        if row["process"] == "TMP":
            labels = labelled.get((row["round"], row["half"]), {}) if row["round"] else {}
            stages.append({**labels, "label_seconds": labels.get("seconds"), **row})
    of_labels = ("num_clusters", "empty_clusters", "nmi_previous", "nmi_truth")
    keys = (*of_labels, "reconstruction_loss")  # null without labels, without a decoder
    return {
        "stages": [{**dict.fromkeys(keys), **stage} for stage in stages],
        "labellings": list(labelled.values()),
        "turns": turns,
        "turns_done": len(history),
        "data": store.format,
        "data_fingerprint": position.data,
        "num_images": len(store),
        "num_skipped": len(store.skipped),
        "class_names": store.class_names if store.labels is not None else None,
        "num_parameters": model.count_params(),
        "versions": versions(),
        "saved_model": None,
    }


def closing_lines(history: History, workdir: Workdir, config: TrainConfig) -> str:
    """The last lines on the terminal: the result, and where the files are."""
    turns = quantity(len(history), "turn")
    ending, option = f"{turns} in {time_spent(history)}", ""
    if not history:
        loaded = config.run.iae_checkpoint
        ending = "no epochs" + (" after stage 1" if loaded else ": the net is untrained")
        option = " --net=iae" if loaded else " --untrained"
    if not hosts.is_chief():
        return f"done: {turns}; the chief has written {workdir.path}"
    path, last = workdir.path, {row["process"]: row for row in history}
    pictures, labels = os.path.dirname(workdir.originals), os.path.join(path, "labels")
    return "\n".join(
        [
            f"done: {ending}",
            *([f"  last training:     {wording.result(last['TMP'])}"] if "TMP" in last else []),
            *([f"  last labels:       {wording.result(last['GLP'])}"] if "GLP" in last else []),
            f"  metrics:           {workdir.summary}",
            *([f"  pictures:          {pictures}"] if os.path.isdir(pictures) else []),
            *([f"  pseudo labels:     {labels}"] if "GLP" in last else []),
            f"  curves:            tensorboard --logdir={shlex.quote(workdir.tensorboard)}",
            f"  report:            python -m mgta_tf.report --workdir={shlex.quote(path)}",
            f"  encoder:           python -m mgta_tf.export --workdir={shlex.quote(path)} "
            f"--output={shlex.quote(os.path.join(path, 'saved_model'))}{option}",
        ]
    )


def time_spent(history: History) -> str:
    """What the user has waited for: '3 min 20 s (training 3 min 00 s, labels 5 s, …)'."""
    parts = spent(history)
    named = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds)
    return f"{duration(sum(parts.values()))} ({named})"


def spent(history: History) -> dict[str, float]:
    """Seconds by what they went into.

    Rows of earlier versions do not say what else the user has waited for.
    """
    parts = {
        "training": sum(row["seconds"] for row in history if row["process"] == "TMP"),
        "labels": sum(row["seconds"] for row in history if row["process"] == "GLP"),
        "pictures": sum(row.get("show_seconds", 0.0) for row in history),
    }
    waited = sum(row.get("wall_seconds", 0.0) for row in history)
    parts["start, images, graphs, checkpoints"] = max(0.0, waited - sum(parts.values()))
    return parts


@functools.lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of the software that results depend on."""
    keras = tf.keras.Model.__module__.partition(".")[0]  # tf_keras where Keras 3 is installed
    return {
        "mgta_tf": mgta_tf.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("tensorflow", keras, "numpy")},
    }
