"""Mutual Guidance to Train Auto-Encoder (MGTA): self-supervised pre-training in TensorFlow.

Importing this package sets environment variables before TensorFlow loads, each only where the user
has not set it:

* ``TF_ENABLE_ONEDNN_OPTS=1``: on a CPU without AVX-512 TensorFlow leaves oneDNN off, and a training
  step of the auto-encoder is then 2.7 (64 px) to 5 (32 px) times slower.
* ``TF_CPP_MIN_LOG_LEVEL=3``: TensorFlow 2.15 prints "Unable to register cuDNN factory" and the like
  at error level at every start. Errors that matter are raised as exceptions.
* ``TF_USE_LEGACY_KERAS=1``, where Keras 3 is installed, as it is with TensorFlow from 2.16 on:
  ``tf.keras`` is then the package tf_keras, which is Keras 2. With TensorFlow 2.15 ``tf.keras`` is
  Keras 2 without it, and with it would be another copy than the one tensorflow-addons uses.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import metadata
from typing import TYPE_CHECKING

from mgta_tf.embed import embed

if TYPE_CHECKING:
    import tensorflow as tf

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A dependency of Model Garden announces at import which Pythons it will drop.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")


def _select_keras_2() -> None:
    """Makes `tf.keras` Keras 2.

    Raises:
      ImportError: the environment, or a use of `tf.keras` before this import, has selected Keras 3.
        It names this package, so that `python -m` shows the message without a traceback.
    """
    if metadata.version("keras").startswith("2."):
        return
    selected = os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if selected not in ("1", "true", "True"):  # as TensorFlow compares it
        raise ImportError(
            f"TF_USE_LEGACY_KERAS={selected}: mgta_tf needs Keras 2; unset it, or set it to 1",
            name=__name__,
        )
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow and not tensorflow.keras.Model.__module__.startswith("tf_keras."):
        raise ImportError(
            "tf.keras is Keras 3, for it was used before mgta_tf was imported, which needs Keras "
            "2; import mgta_tf first, or set TF_USE_LEGACY_KERAS=1",
            name=__name__,
        )


_select_keras_2()

__all__ = ["embed", "load_encoder"]
__version__ = "0.1.0"


def load_encoder(directory: str) -> tf.keras.Model:
    """The encoder of a SavedModel as a Keras model, which takes images as they are.

    Args:
      directory: What mgta_tf.export wrote.

    Returns:
      Images [N, H, W, 3] in 0..255 → {'res2': …, 'embedding': [N, d]}; the normalization of
      training is inside. `facts.image_size` is the size of training, pixels per side.

    Raises:
      UserError: no SavedModel of this package, or a damaged one.
    """
    from mgta_tf.models import artifact

    return artifact.load_model(os.path.expanduser(directory))
