"""What a workdir holds of a run, finished or not, as the report needs it."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import time
from collections.abc import Container
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf import config as config_lib
from mgta_tf.errors import UserError, printable
from mgta_tf.runtime import files
from mgta_tf.runtime.tensorboard import tag_of
from mgta_tf.runtime.workdir import Workdir, load_config
from mgta_tf.training.config import SupervisedConfig, TrainConfig

CURVES = (
    "reconstruction_loss",
    "triplet_loss",
    "hardest_positive",
    "hardest_negative",
    "loss",
    "accuracy",
)
POINTS = 600  # maximum number of points of a curve


# What `members.npz` holds of any run.
MEMBERS = (
    *("round", "net", "label", "distance", "name"),
    *("coordinates", "size", "sprites", "thumbnail"),
)


@dataclasses.dataclass(frozen=True)
class Members:
    """`pictures/members.npz`: images of the newest labels, cluster by cluster.

    round, net: whose labels, net from 1. label, distance, name, truth (or None): [n]. coordinates:
    float32 [n, d]. sizes: [K] images of each cluster, kept here or not. class_names: of truth.
    sprites: JPEG of a square sheet of the images, `thumbnail` pixels a side each.
    """

    round: int
    net: int
    label: np.ndarray
    distance: np.ndarray
    name: list[str]
    truth: np.ndarray | None
    class_names: list[str]
    coordinates: np.ndarray
    sizes: np.ndarray
    sprites: bytes
    thumbnail: int


@dataclasses.dataclass(frozen=True)
class Record:
    """A run. All that may be missing is empty or None.

    name: of its folder. flags: every flag by name. changed: those not at their defaults.
    supervised: whether it is a run of mgta_tf.supervised. summary: `summary.json`. finished: all
    its turns are done. baselines: `untrained` and `chance` of the quick evaluations. updated: when
    it wrote last. curves: writer (net1, net2, run) → tag → (steps [n], values [n]). probes,
    detection: JSON of mgta_tf.probe and mgta_tf.detect, by name.
    """

    name: str
    workdir: Workdir
    flags: dict[str, Any]
    changed: list[str]
    supervised: bool
    summary: dict[str, Any]
    finished: bool
    baselines: dict[str, dict[str, float]]
    updated: str
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]
    members: Members | None
    probes: dict[str, dict[str, Any]]
    detection: dict[str, dict[str, Any]]

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The TMPs that are done."""
        return self.summary.get("stages", [])

    @property
    def one_net(self) -> bool:
        """Whether one net makes and learns from all labels: it needs no name."""
        return self.flags.get("labels") == "hard_negatives"

    @property
    def labellings(self) -> list[dict[str, Any]]:
        """The GLPs that are done. Runs before version 0.2 say `telling` for `representative`."""
        rows = self.summary.get("labellings", [])
        return [{"representative": row.get("telling"), **row} for row in rows]


def read(path: str) -> Record:
    """Reads a workdir.

    Raises:
      UserError: it is not the folder of a run, or one of its files is damaged.
    """
    workdir = Workdir(path)
    supervised = _is_supervised(workdir)
    config_class = SupervisedConfig if supervised else TrainConfig
    config = load_config(workdir.flagfile, config_class)
    flags, defaults = config_lib.to_dict(config), config_lib.to_dict(config_class())
    summary = _json(workdir.summary) if os.path.exists(workdir.summary) else {}
    turns = summary.get("turns")
    done = turns is not None and turns == summary["turns_done"]  # no turns: an untrained net
    finished = bool(summary) if supervised else done
    written = [p for p in (workdir.summary, workdir.flagfile) if os.path.exists(p)]
    updated = time.localtime(max(os.path.getmtime(p) for p in written))
    return Record(
        name=os.path.basename(os.path.abspath(path)),
        workdir=workdir,
        flags=flags,
        changed=[n for n in flags if flags[n] != defaults[n] and n != "workdir"],
        supervised=supervised,
        summary=summary,
        finished=finished,
        baselines=_json(workdir.baselines) if os.path.exists(workdir.baselines) else {},
        updated=time.strftime("%Y-%m-%d %H:%M", updated),
        curves=read_curves(workdir.tensorboard),
        members=_members(workdir.members) if os.path.exists(workdir.members) else None,
        probes=_results(path, "per_class", "map"),
        detection=_results(path, "per_class", "ap50_voc07"),
    )


def _is_supervised(workdir: Workdir) -> bool:
    """Whether the flags are those of mgta_tf.supervised, which has no --rounds."""
    if not os.path.isfile(workdir.flagfile):
        return False  # `load_config` raises the error
    with open(workdir.flagfile, encoding="utf-8", errors="replace") as file:
        return not any(line.startswith("--rounds=") for line in file)


def _json(path: str) -> dict[str, Any]:
    """A JSON object; {} where the file holds another kind of value, as other tools write."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error})") from None
    return value if isinstance(value, dict) else {}


def _results(folder: str, *keys: str) -> dict[str, dict[str, Any]]:
    """The JSON files in a workdir, its table2/ and its table3/ that have these keys, by name."""
    found = {}
    for place in ("", "table2", "table3"):
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), place, "*.json"))):
            value = _json(path)
            if all(key in value for key in keys):
                found[os.path.splitext(os.path.basename(path))[0]] = value
    return found


def _members(path: str) -> Members:
    """Reads `members.npz`.

    Raises:
      UserError: it is damaged.
    """
    try:
        arrays = files.arrays(path, *MEMBERS)
        truth = arrays.get("truth")
        return Members(
            round=int(arrays["round"]),
            net=int(arrays["net"]),
            label=arrays["label"],
            distance=arrays["distance"],
            name=[printable(str(name)) for name in arrays["name"]],
            truth=truth,
            class_names=[] if truth is None else [printable(str(n)) for n in arrays["class_names"]],
            coordinates=arrays["coordinates"].astype(np.float32),
            sizes=arrays["size"],
            sprites=arrays["sprites"].tobytes(),
            thumbnail=int(arrays["thumbnail"]),
        )
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path}: cannot be read, {error}; it is only for the report: delete it"
        ) from None


def read_curves(
    directory: str, tags: tuple[str, ...] = CURVES
) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Scalars of TensorBoard's files, by writer and tag; by default those that the report draws.

    A metric is found under its own name, too, as earlier versions wrote it.

    Of steps that were written twice, by a run that was interrupted and resumed, the last counts. A
    file that ends in the middle of a record is read up to there.
    """
    name_of = {**{tag_of(tag): tag for tag in tags}, **{tag: tag for tag in tags}}
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for writer in ("net1", "net2", "run"):
        values: dict[str, dict[int, float]] = {}
        for path in sorted(glob.glob(os.path.join(glob.escape(directory), writer, "events*"))):
            for step, tag, value in _scalars(path, name_of):
                values.setdefault(name_of[tag], {})[step] = value
        if values:
            curves[writer] = {tag: thinned(points) for tag, points in values.items()}
    return curves


def _scalars(path: str, tags: Container[str]):
    """(step, tag, value) of the scalars in an event file."""
    try:
        for event in tf.compat.v1.train.summary_iterator(path):
            for value in event.summary.value:
                if value.tag in tags:
                    yield event.step, value.tag, float(tf.make_ndarray(value.tensor))
    except tf.errors.DataLossError:  # a run that was killed, or is still writing
        return


def thinned(points: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Steps in order and their values; above POINTS of them, means of as many neighbors each."""
    steps = np.array(sorted(points), np.int64)
    values = np.array([points[step] for step in steps], np.float64)
    group = -(-len(steps) // POINTS)
    starts = np.arange(0, len(steps), group)
    sizes = np.diff([*starts, len(steps)])
    return np.add.reduceat(steps, starts) // sizes, np.add.reduceat(values, starts) / sizes
