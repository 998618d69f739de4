"""A frozen encoder as a function from images to vectors."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.evaluation import features
from mgta_tf.models import artifact


@dataclasses.dataclass(frozen=True)
class Embedder:
    """encode: uint8 [n, H, W, 3] → float32 [n, D]. dimensions: D. size: pixels a side in training.

    identity: text that identifies weights and endpoint.
    """

    encode: Callable[[np.ndarray], np.ndarray]
    dimensions: int
    size: int
    identity: str


def open_embedder(encoder: Any, endpoint: str = "embedding") -> Embedder:
    """The embedder for the folder of a SavedModel, or for a model from `mgta_tf.load_encoder`.

    Raises:
      UserError: the encoder cannot be loaded, or has no such endpoint.
    """
    if endpoint not in features.ENDPOINTS:
        raise UserError(f"endpoint {endpoint!r}: must be one of {', '.join(features.ENDPOINTS)}")
    call: Any  # a tf.function
    if isinstance(encoder, (str, os.PathLike)):
        directory = os.path.expanduser(os.fspath(encoder))
        facts, identity = artifact.read_facts(directory), features.model_digest(directory)
        call = features.load_encode(directory, endpoint)
    elif isinstance(encoder, tf.keras.Model) and hasattr(encoder, "facts"):
        facts, identity = encoder.facts, f"model {id(encoder)}"
        call = _function_of(encoder, endpoint)
    else:
        raise UserError(
            f"{type(encoder).__name__} is not an encoder: give a model of mgta_tf.load_encoder, or "
            "the folder that mgta_tf.export wrote"
        )
    dimensions = call.get_concrete_function().structured_outputs[endpoint].shape[-1]

    def encode(images: np.ndarray) -> np.ndarray:
        values = call(images=tf.constant(images))[endpoint].numpy()
        return values if values.ndim == 2 else values.mean((1, 2))

    return Embedder(encode, dimensions, facts.image_size, f"{identity} {endpoint}")


def _function_of(model: tf.keras.Model, endpoint: str) -> Any:
    @tf.function(input_signature=[artifact.IMAGES])
    def call(images):
        return {endpoint: model(images, training=False)[endpoint]}

    return call
