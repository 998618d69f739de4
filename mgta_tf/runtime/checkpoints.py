"""Checkpoints: everything from which a run goes on.

A checkpoint holds both nets, both optimisers and the position: which turn of `guidance.turns`, how
many of its steps are done, and the history of the finished turns (what `summary.json` says). The
position travels inside TensorFlow's checkpoint, so it can never disagree with the weights.
Labels are not in it: `labels/round_RR_netN.npz` is written before the turn that needs it begins.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import tensorflow as tf

from mgta_tf.errors import UserError

# What TensorFlow raises at files that are cut, altered, or of other variables.
DAMAGED = (tf.errors.OpError, AssertionError, IndexError, ValueError)


class Checkpoints:
    """Saves and restores the state of a run in `directory`."""

    def __init__(self, directory: str, learners: list, keep: int):
        self._position = tf.Variable(self._encode(0, 0, []), dtype=tf.string, trainable=False)
        self._checkpoint = tf.train.Checkpoint(
            position=self._position,
            nets=[learner.model for learner in learners],
            optimizers=[learner.optimizer for learner in learners],
        )
        self._manager = tf.train.CheckpointManager(self._checkpoint, directory, max_to_keep=keep)

    @staticmethod
    def _encode(turn: int, step: int, history: list[dict[str, Any]]) -> str:
        return json.dumps({"turn": turn, "step": step, "history": history})

    def save(self, turn: int, step: int, history: list[dict[str, Any]]) -> str:
        """Saves: `step` steps of turn number `turn` are done."""
        self._position.assign(self._encode(turn, step, history))
        try:
            return self._manager.save()
        except tf.errors.OpError as error:
            raise UserError(
                f"{self._manager.directory}: cannot write a checkpoint ({_first_line(error)}); "
                "those before it are whole. Remove the cause and give the same command again"
            ) from None

    def restore(self) -> tuple[int, int, list[dict[str, Any]]]:
        """Restores the newest checkpoint that is whole: (turn, step, history).

        (0, 0, []) without any. One that is damaged is named, and the one before it is taken.

        Raises:
          UserError: all are damaged.
        """
        paths = self._manager.checkpoints
        for path in reversed(paths):
            try:
                self._checkpoint.restore(path).assert_consumed()
            except DAMAGED as error:
                print(f"{path}: damaged ({_first_line(error)}); trying the one before it")
            else:
                break
        else:
            if paths:
                raise UserError(f"{self._manager.directory}: every checkpoint in it is damaged")
        position = json.loads(self._position.numpy())
        return position["turn"], position["step"], position["history"]


def _first_line(error: Exception) -> str:
    """What TensorFlow says, less the name of its graph's node."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\{\{.*?\}\} | \[Op:\w+\]$", "", first)[:160]


def save_net(model: tf.keras.Model, path: str) -> None:
    """Saves one net by itself, for `--iae_checkpoint` and for export."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    tf.train.Checkpoint(net=model).write(path)


def load_net(model: tf.keras.Model, path: str) -> None:
    """Loads what `save_net` saved into a net of the same shape.

    Raises:
      UserError: it is not there, or is of another shape.
    """
    if not os.path.exists(f"{path}.index"):
        raise UserError(f"{path}: no such checkpoint; has stage 1 of that run ended?")
    try:
        status = tf.train.Checkpoint(net=model).read(path)
        status.assert_existing_objects_matched().expect_partial()
    except DAMAGED:
        raise UserError(
            f"{path}: damaged, or a net of another --width, --blocks or --decoder than asked for"
        ) from None


def load_net_of_run(model: tf.keras.Model, directory: str, index: int) -> None:
    """Loads net `index` (from 0) of the newest checkpoint in a run's checkpoint folder.

    Raises:
      UserError: there is none, or it is of another shape.
    """
    newest = tf.train.latest_checkpoint(directory)
    if not newest:
        raise UserError(f"{directory}: no checkpoint in it yet; has the run trained?")
    nets = [tf.train.Checkpoint(), tf.train.Checkpoint()]
    nets[index] = model
    try:
        status = tf.train.Checkpoint(nets=nets).restore(newest)
        status.assert_existing_objects_matched().expect_partial()
    except DAMAGED:
        raise UserError(
            f"{newest}: damaged, or not of this run's --width, --blocks and --decoder"
        ) from None
