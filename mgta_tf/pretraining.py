"""Pre-training from Python: `mgta_tf.pretrain` and its result."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from absl import flags as absl_flags

from mgta_tf import config as config_lib
from mgta_tf import export, flagfiles
from mgta_tf.data.in_memory import source_of
from mgta_tf.errors import UserError
from mgta_tf.models import artifact
from mgta_tf.runtime import preemption
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.train import train
from mgta_tf.training import auto
from mgta_tf.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run. workdir: its folder, for use with all commands."""

    workdir: str

    def encoder(self, net: str = "n2") -> tf.keras.Model:
        """The encoder as a Keras model, as `mgta_tf.load_encoder` returns it.

        Args:
          net: 'n2', the result of the method; 'n1'; or 'iae', the auto-encoder of stage 1.

        Returns:
          Images [N, H, W, 3] in 0..255 → {'res2': …, 'embedding': [N, d]}.

        Raises:
          UserError: the run has no such net.
        """
        autoencoder, facts = export.net_of_run(Workdir(self.workdir), net)
        return artifact.as_model(autoencoder.encoder, facts)

    @property
    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`: losses, clusters and times of every stage."""
        with open(Workdir(self.workdir).summary, encoding="utf-8") as file:
            return json.load(file)


def pretrain(data: Any, workdir: str, flags: dict[str, Any]) -> Run:
    """See `mgta_tf.pretrain`."""
    began, source = time.monotonic(), None
    if isinstance(data, (str, os.PathLike)):
        flags = {**flags, "data_dir": os.fspath(data)}
    elif data is not None:
        source = source_of(data)
    leaves = _leaves({**flags, "workdir": os.fspath(workdir)})
    try:
        with preemption.caught(), _quiet_tensorflow():
            config, source = auto.config_of_run(leaves, source, began)
            train(config, source=source, began=began)
    except preemption.Stopped as stopped:
        print(f"{stopped}; call pretrain again to resume", flush=True)
        raise KeyboardInterrupt from None
    return Run(leaves["workdir"])


@contextlib.contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Hides TensorFlow's log messages below errors, such as the devices of a strategy."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _leaves(flags: dict[str, Any]) -> dict[str, Any]:
    """Every flag of mgta_tf.train by name, parsed as on the command line."""
    values = absl_flags.FlagValues()
    config_lib.define(TrainConfig, values)
    try:
        values(flagfiles.expand(["pretrain", *config_lib.to_arguments(flags)]))
    except absl_flags.Error as error:
        raise UserError(" ".join(str(error).split())) from None
    return config_lib.leaves(TrainConfig, values)
