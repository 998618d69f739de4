"""Mutual Guidance to Train Auto-Encoder (MGTA): self-supervised pre-training in TensorFlow.

Importing this package sets environment variables before TensorFlow loads, each only where the user
has not set it:

* ``TF_ENABLE_ONEDNN_OPTS=1``: TensorFlow disables oneDNN on a CPU without AVX-512, which makes a
  training step of the auto-encoder 2.7 (64 px) to 5 (32 px) times slower.
* ``TF_CPP_MIN_LOG_LEVEL=3``: TensorFlow 2.15 prints "Unable to register cuDNN factory" and the like
  at error level at every start. Errors that matter are raised as exceptions.
* ``TF_USE_LEGACY_KERAS=1``, only if Keras 3 is installed (TensorFlow 2.16 or later): makes
  ``tf.keras`` the package tf_keras, which is Keras 2. With TensorFlow 2.15 ``tf.keras`` already is
  Keras 2, and the variable is removed: it would select tf_keras, a second copy of Keras 2 beside
  the one that tensorflow-addons imports, or fail where tf_keras is not installed.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

from mgta_tf.embed import embed

if TYPE_CHECKING:
    import tensorflow as tf

    from mgta_tf.pretraining import Run

STARTED = time.monotonic()  # of a command: before TensorFlow, which takes seconds to import

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A dependency of Model Garden warns at import about Python versions that it will drop.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")


def _select_keras_2() -> None:
    """Makes `tf.keras` Keras 2.

    Raises:
      ImportError: the environment, or a use of TensorFlow before this import, has selected Keras 3
        or a second copy of Keras 2. Its `name` is this package, so that `python -m` prints the
        message without a traceback.
    """
    selected = os.environ.get("TF_USE_LEGACY_KERAS", "")
    legacy = selected in ("1", "true", "True")  # the values that TensorFlow accepts
    tensorflow = sys.modules.get("tensorflow")
    if metadata.version("keras").startswith("2."):
        if legacy and tensorflow:  # which has read the variable
            raise ImportError(
                f"TF_USE_LEGACY_KERAS={selected} was set when TensorFlow was imported, and selects "
                "a second copy of Keras 2; unset it, or import mgta_tf first",
                name=__name__,
            )
        if legacy:
            del os.environ["TF_USE_LEGACY_KERAS"]
        return
    if selected and not legacy:
        raise ImportError(
            f"TF_USE_LEGACY_KERAS={selected}: mgta_tf needs Keras 2; unset it, or set it to 1",
            name=__name__,
        )
    os.environ["TF_USE_LEGACY_KERAS"] = selected or "1"
    if tensorflow and not tensorflow.keras.Model.__module__.startswith("tf_keras."):
        raise ImportError(
            "mgta_tf needs Keras 2, but tf.keras was used before mgta_tf was imported and is Keras "
            "3; import mgta_tf first, or set TF_USE_LEGACY_KERAS=1",
            name=__name__,
        )


_select_keras_2()

__all__ = ["embed", "load_encoder", "pretrain"]
__version__ = "0.2.0"


def pretrain(data: Any = None, *, workdir: str, **flags: Any) -> Run:
    """Pre-trains an encoder without labels: `python -m mgta_tf.train` from Python.

    Flags that are not given are chosen for the images and the machine, and printed. A run that was
    interrupted resumes: call this again with the same arguments. Ctrl-C saves, then raises
    KeyboardInterrupt.

    Args:
      data: A folder, or any other value of `--data_dir`; a list of paths, PIL images or arrays
        uint8 [H, W, 3]; an array uint8 [N, H, W, 3]; or a `tf.data.Dataset` of such images or
        batches. None if `data_source` is given.
      workdir: The run's output folder.
      **flags: Any flag of the command: `minutes=30`, `image_size=96`, `blocks=(2, 2, 2, 2)`,
        `flagfile="flags/paper.flagfile"`.

    Returns:
      The run: `run.encoder()` is a Keras model, `run.summary` has the metrics of every turn, and
      `run.workdir` is the folder to pass to the other commands.

    Raises:
      UserError: unusable images, flags that do not fit the images, or a disk that is full.
    """
    from mgta_tf import pretraining

    return pretraining.pretrain(data, workdir, flags)


def load_encoder(directory: str) -> tf.keras.Model:
    """The encoder of a SavedModel as a Keras model, including the normalization of its input.

    Args:
      directory: Folder written by mgta_tf.export.

    Returns:
      A model: images [N, H, W, 3] in 0..255 → {'res2': …, 'embedding': [N, d]}. Its attribute
      `facts.image_size` is the image size of training, pixels per side.

    Raises:
      UserError: the folder is not a SavedModel of this package, or is damaged.
    """
    from mgta_tf.models import artifact

    return artifact.load_model(os.path.expanduser(directory))
