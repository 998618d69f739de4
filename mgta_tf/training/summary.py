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
from mgta_tf.runtime.progress import duration
from mgta_tf.runtime.workdir import Workdir

History = list[dict[str, Any]]


def build(history: History, turns: int, store: ImageStore, model: tf.keras.Model) -> dict[str, Any]:
    """The content of `summary.json`: a row for every TMP, including the statistics of its labels.

    Args:
      history: one row per finished turn.
      turns: number of turns of the run.
      store: images of the run.
      model: one of its two nets.
    """
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
        "num_images": len(store),
        "num_skipped": len(store.skipped),
        "class_names": store.class_names if store.labels is not None else None,
        "num_parameters": model.count_params(),
        "versions": versions(),
        "saved_model": None,
    }


def describe_row(row: dict[str, Any]) -> str:
    """The result in a row of the history, as text for one line."""
    if row["process"] == "GLP":
        truth = "" if row["nmi_truth"] is None else f", NMI with the classes {row['nmi_truth']:.3f}"
        return (
            f"{row['num_clusters']} clusters of {row['smallest']} to {row['largest']} images, "
            f"{row['empty_clusters']} re-seeded{truth}"
        )
    probe = f", 20-NN {row['probe_knn']:.1f}" if "probe_knn" in row else ""
    return f"{format_losses(row['first'], row)}{probe}"


def format_losses(*points: dict[str, float]) -> str:
    """The losses of the points, as 'reconstruction 12 → 3.4, triplet 0.3 → 0.12'."""
    return ", ".join(
        f"{name} " + " → ".join(f"{point[f'{name}_loss']:.4g}" for point in points)
        for name in ("reconstruction", "triplet")
        if f"{name}_loss" in points[0]
    )


def closing_lines(history: History, workdir: Workdir) -> str:
    """The last lines on the terminal: the result, and where the files are."""
    path, last = workdir.path, {row["process"]: row for row in history}
    pictures, labels = os.path.dirname(workdir.originals), os.path.join(path, "labels")
    total = sum(row["seconds"] for row in history)
    shown = sum(row.get("show_seconds", 0.0) for row in history)
    return "\n".join(
        [
            f"done: {len(history)} turns in {duration(total)}, {shown / max(total, 1e-9):.1%} of "
            "it for pictures",
            *([f"  last training:     {describe_row(last['TMP'])}"] if "TMP" in last else []),
            *([f"  last labels:       {describe_row(last['GLP'])}"] if "GLP" in last else []),
            f"  losses, clusters:  {workdir.summary}",
            *([f"  pictures:          {pictures}"] if os.path.isdir(pictures) else []),
            *([f"  pseudo labels:     {labels}"] if "GLP" in last else []),
            f"  curves:            tensorboard --logdir={shlex.quote(workdir.tensorboard)}",
            f"  report:            python -m mgta_tf.report --workdir={shlex.quote(path)}",
            f"  encoder:           python -m mgta_tf.export --workdir={shlex.quote(path)} "
            f"--output={shlex.quote(os.path.join(path, 'saved_model'))}",
        ]
    )


@functools.lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of the software that results depend on."""
    keras = tf.keras.Model.__module__.partition(".")[0]  # tf_keras where Keras 3 is installed
    return {
        "mgta_tf": mgta_tf.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("tensorflow", keras, "numpy")},
    }
