"""Checkpoints: the state from which a run resumes.

A checkpoint holds both nets, both optimizers and a `Position`, all in one TensorFlow checkpoint, so
they always belong together. Its manifest `ckpt-N.json` lists size and SHA-256 of every file. The
manifest is written last, and a checkpoint without one is ignored: a run that is killed while saving
resumes from the checkpoint before, and damaged files are detected before TensorFlow reads them.

Random numbers need no state: they are pure functions of the seed and the position.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.errors import UserError, cause_of
from mgta_tf.runtime import files, hosts, preemption
from mgta_tf.runtime.files import write_json, write_text

# Raised for files that are truncated, modified, or hold other variables.
DAMAGED = (tf.errors.OpError, AssertionError, IndexError, ValueError, OSError)

READ_AT_ONCE = 2**22  # bytes, for checksums


@dataclasses.dataclass
class Position:
    """The progress of a run: everything to resume from besides weights and optimizers.

    turn, step: number of finished turns, and of finished steps in the turn after them.
    history: one row per finished turn. log: `StepLog.state` of the unfinished one.
    labels: the labels in use, int32 [n], by half.
    data: `ImageStore.fingerprint` of the images.
    """

    turn: int = 0
    step: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    log: dict[str, Any] = dataclasses.field(default_factory=dict)
    labels: dict[int | None, np.ndarray] = dataclasses.field(default_factory=dict)
    data: str = ""


class Cadence:
    """When a checkpoint is due within a turn."""

    def __init__(self, every_steps: int, every_secs: float):
        self._every_steps, self._every_secs = every_steps, every_secs
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether to save after `step` steps of the turn; always true after a signal."""
        by_steps = self._every_steps and step % self._every_steps == 0
        by_secs = time.monotonic() - self._last > self._every_secs
        return bool(by_steps or by_secs or preemption.received_signal())

    def saved(self) -> None:
        """Restarts the seconds. To be called on every host, whichever host was due."""
        self._last = time.monotonic()


class Checkpoints:
    """Saves and restores the state of a run in `directory`; keeps the newest `keep` checkpoints."""

    def __init__(self, directory: str, learners: list, keep: int, own: str = ""):
        """own: folder to write into on a host that is not the chief."""
        self._directory, self._own, self._keep = directory, own or directory, keep
        self._models = [learner.model for learner in learners]
        self._damaged: set[str] = set()
        self._position = tf.Variable("", dtype=tf.string, trainable=False)
        self._labels = tf.Variable(b"", dtype=tf.string, trainable=False)
        self._checkpoint = tf.train.Checkpoint(
            position=self._position,
            labels=self._labels,
            nets=self._models,
            optimizers=[learner.optimizer for learner in learners],
        )
        self._write: Callable[[str], Any] = self._write_files
        self._finite: Callable[[int], Any] = self._all_finite
        scaled = tf.keras.mixed_precision.LossScaleOptimizer
        eagerly = any(isinstance(learner.optimizer, scaled) for learner in learners)
        if hosts.resolver() is None and not eagerly:
            # As graphs, because TensorFlow leaks about 100 bytes for every variable that is read
            # eagerly, 1 MB per round. Not with several hosts, whose sums need eager reads, nor with
            # a loss scale, which Keras does not write from a graph.
            path = tf.TensorSpec([], tf.string)
            self._write = tf.function(self._write_files, input_signature=[path], autograph=False)
            self._finite = tf.function(self._all_finite)

    def _write_files(self, path: str) -> Any:
        with tf.device(self._position.device):  # a tensor without a device gets a file of its own
            return self._checkpoint.write(path)

    def _all_finite(self, number: int) -> tf.Tensor:
        """Whether all weights of net `number` (from 0) are finite: bool []."""
        finite = [tf.reduce_all(tf.math.is_finite(v)) for v in self._models[number].weights]
        return tf.reduce_all(finite)

    def save(self, position: Position) -> None:
        """Saves nets and optimizers with this position.

        Raises:
          UserError: the checkpoint cannot be written, or weights are not finite. Older checkpoints
            are kept.
        """
        for number in range(len(self._models)):
            if not self._finite(number):
                raise UserError(
                    f"weights of net {number + 1} are not finite; the last good checkpoint is kept "
                    f"in {self._directory}. Lower --learning_rate or set --clip_norm, with another "
                    "--workdir"
                )
        without_labels = dataclasses.asdict(dataclasses.replace(position, labels={}))
        self._position.assign(json.dumps(without_labels))
        self._labels.assign(_pack(position.labels))
        newest = next(iter(_paths(self._own)), "ckpt-0")
        path = os.path.join(self._own, f"ckpt-{_number(newest) + 1}")
        try:
            os.makedirs(self._own, exist_ok=True)
            self._write(path)
            _write_manifest(path, turn=position.turn, step=position.step)
            self._delete_old()
        except (tf.errors.OpError, OSError) as error:
            _remove(path)  # a partial checkpoint would keep the disk full
            raise UserError(
                f"{self._own}: cannot write a checkpoint ({cause_of(error)}); "
                "the earlier ones are intact. Fix the cause and rerun the same command"
            ) from None

    def _delete_old(self) -> None:
        """Deletes all but the newest, and lists these for `tf.train.latest_checkpoint`."""
        kept = [path for path in _paths(self._own) if path not in self._damaged][: self._keep]
        names = [os.path.basename(path) for path in kept]
        state = [f'model_checkpoint_path: "{names[0]}"\n']
        state += [f'all_model_checkpoint_paths: "{name}"\n' for name in reversed(names)]
        write_text(os.path.join(self._own, "checkpoint"), "".join(state))
        for name in os.listdir(self._own):
            match = re.match(r"ckpt-\d+", name)
            if match and os.path.join(self._own, match.group()) not in kept:
                _remove(os.path.join(self._own, match.group()))

    def restore(self, data: str, names: str = "") -> Position:
        """Restores the newest valid checkpoint, and prints the name of every damaged one.

        Args:
          data: `ImageStore.fingerprint` of the run's images now.
          names: `ImageStore.fingerprint_of_names`, which checkpoints of earlier versions hold.

        Returns:
          The position of the checkpoint; the start of the run if there is no checkpoint.

        Raises:
          UserError: all checkpoints are damaged, or the run began with other images.
        """
        paths = _paths(self._directory)
        for path in paths:
            try:
                _verify(path)
                with files.literal(self._directory) as folder:
                    name = os.path.join(folder, os.path.basename(path))
                    self._checkpoint.read(name).assert_consumed()
                labels = _unpack(self._labels.numpy())
            except DAMAGED as error:
                print(f"{path}: damaged ({cause_of(error)}); trying the one before it")
                self._damaged.add(path)
            else:
                position = Position(**{**json.loads(self._position.numpy()), "labels": labels})
                if position.data == names:
                    print(f"{path}: from an earlier version, which compared images by name only")
                if position.data not in (data, names):
                    raise UserError(
                        f"the images are not those that the run in {os.path.dirname(path)} began "
                        "with: names, contents or order differ; restore them, or start a new run "
                        "with another --workdir"
                    )
                return dataclasses.replace(position, data=data)
        if exist(self._directory):
            raise UserError(
                f"{self._directory}: every checkpoint in it is damaged, or of another version of "
                "mgta_tf; start again with another --workdir"
            )
        return Position(data=data)


def exist(directory: str) -> bool:
    """Whether a folder has a complete checkpoint, damaged or not, of this or an earlier version.

    A first checkpoint that was interrupted before its manifest was written does not count.
    """
    return bool(_paths(directory)) or os.path.exists(os.path.join(directory, "checkpoint"))


def _paths(directory: str) -> list[str]:
    """The checkpoints that have a manifest, newest first."""
    manifests = glob.glob(os.path.join(glob.escape(directory), "ckpt-*.json"))
    return sorted((path[: -len(".json")] for path in manifests), key=_number, reverse=True)


def _number(path: str) -> int:
    match = re.search(r"ckpt-(\d+)$", path)
    return int(match.group(1)) if match else 0


def _files(path: str) -> list[str]:
    """The files that TensorFlow has written for a checkpoint."""
    return sorted(
        glob.glob(f"{glob.escape(path)}.index") + glob.glob(f"{glob.escape(path)}.data-*")
    )


def _remove(path: str) -> None:
    """Deletes a checkpoint, complete or partial; its manifest first."""
    for name in [f"{path}.json", *glob.glob(f"{glob.escape(path)}[._]*")]:
        if os.path.isdir(name):
            shutil.rmtree(name, ignore_errors=True)
        elif os.path.exists(name):
            os.remove(name)


def _write_manifest(path: str, **about: Any) -> None:
    """Writes `PATH.json`, after all files that it lists are synced to disk."""
    facts = {os.path.basename(name): _facts(name) for name in _files(path)}
    write_json(f"{path}.json", {**about, "files": facts})


def _verify(path: str) -> None:
    """Compares a checkpoint's files with its manifest.

    Raises:
      ValueError: they differ, or the manifest is damaged.
    """
    with open(f"{path}.json", encoding="utf-8") as file:
        try:
            expected = json.load(file)["files"]
            found = {name: _facts(os.path.join(os.path.dirname(path), name)) for name in expected}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"manifest: {type(error).__name__}") from None
    for name, facts in expected.items():
        if found[name] != facts:
            raise ValueError(f"{name} does not match its manifest")


def _facts(path: str) -> dict[str, Any]:
    """Size and SHA-256 of a file, after syncing it to disk."""
    checksum = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(READ_AT_ONCE):
            checksum.update(part)
        os.fsync(file.fileno())
        return {"bytes": file.tell(), "sha256": checksum.hexdigest()}


def _pack(labels: dict[int | None, np.ndarray]) -> bytes:
    file = io.BytesIO()
    # Any: for mypy, a keyword could be savez' own bool parameter in NumPy 2.
    arrays: dict[str, Any] = {str(half): values for half, values in labels.items()}
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _unpack(content: bytes) -> dict[int | None, np.ndarray]:
    arrays = files.arrays(io.BytesIO(content))
    return {None if half == "None" else int(half): labels for half, labels in arrays.items()}


def drop_damaged(directory: str) -> None:
    """Removes damaged checkpoints from TensorFlow's list in a folder, until the newest is valid.

    For Model Garden's trainer, which restores the newest without verifying it. No file is deleted.

    Raises:
      UserError: all checkpoints are damaged.
    """
    state = tf.train.get_checkpoint_state(directory)
    paths = list(state.all_model_checkpoint_paths) if state else []
    whole = list(paths)
    while whole:
        try:
            with files.literal(directory) as folder:
                path = os.path.join(folder, os.path.basename(whole[-1]))
                reader = tf.train.load_checkpoint(path)
                for name in reader.get_variable_to_shape_map():
                    reader.get_tensor(name)
        except DAMAGED as error:
            print(f"{whole.pop()}: damaged ({cause_of(error)}); trying the one before it")
        else:
            break
    if paths and not whole:
        raise UserError(f"{directory}: every checkpoint in it is damaged")
    if whole != paths:
        names = [os.path.basename(path) for path in whole]  # so that the folder may move
        tf.compat.v1.train.update_checkpoint_state(os.path.abspath(directory), names[-1], names)


def save_net(model: tf.keras.Model, path: str) -> None:
    """Saves a single net, for `--iae_checkpoint` and for export.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        tf.train.Checkpoint(net=model).write(path)
        _write_manifest(path)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"cannot write {path} ({cause_of(error)}); fix the cause and rerun the same command"
        ) from None


def load_net(model: tf.keras.Model, path: str) -> None:
    """Loads a file of `save_net` into a net of the same shape.

    Raises:
      UserError: the file does not exist, or the net has another shape.
    """
    if not os.path.exists(f"{path}.index"):
        raise UserError(f"{path}: no such checkpoint; stage 1 of that run must have finished")
    try:
        _read(tf.train.Checkpoint(net=model), path)
    except DAMAGED:
        raise UserError(
            f"{path}: corrupt, or saved with a different --width, --blocks or --decoder"
        ) from None


def load_net_of_run(model: tf.keras.Model, directory: str, index: int) -> None:
    """Loads net `index` (from 0) of the newest checkpoint in a run's checkpoint folder.

    Raises:
      UserError: there is no checkpoint, or the net has another shape.
    """
    paths = _paths(directory) or _newest_of_tensorflow(directory)
    if not paths:
        raise UserError(f"{directory}: no checkpoint; train the run first")
    nets = tf.train.Checkpoint(**{str(index): model})  # TensorFlow names the items of a list so
    for path in paths:
        try:
            _read(tf.train.Checkpoint(nets=nets), path)
        except DAMAGED as error:
            print(f"{path}: {cause_of(error)}; trying the one before it")
        else:
            return
    raise UserError(
        f"{directory}: checkpoints are corrupt, or saved with a different --width, --blocks or "
        "--decoder"
    )


def _newest_of_tensorflow(directory: str) -> list[str]:
    """The newest checkpoint in TensorFlow's own list, for versions that wrote no manifests."""
    state = tf.train.get_checkpoint_state(directory)
    name = os.path.basename(state.model_checkpoint_path) if state else ""
    path = os.path.join(directory, name)
    return [path] if name and os.path.exists(f"{path}.index") else []


def _read(checkpoint: tf.train.Checkpoint, path: str) -> None:
    """Reads all variables of `checkpoint` from files that match their manifest, if there is one."""
    if os.path.exists(f"{path}.json"):
        _verify(path)
    with files.literal(os.path.dirname(path)) as folder:
        status = checkpoint.read(os.path.join(folder, os.path.basename(path)))
        status.assert_existing_objects_matched().expect_partial()
