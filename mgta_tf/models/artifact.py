"""The SavedModel of an encoder: written by `mgta_tf.export`, read by the evaluations.

`tf.saved_model.load` is enough to use it. `mgta_tf.json`, next to `saved_model.pb`, has settings
that are not in the graph (width, blocks, normalization), from which `load_encoder` rebuilds the
Keras model for further training.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import numpy as np
import tensorflow as tf

import mgta_tf
from mgta_tf.data import pipeline
from mgta_tf.errors import UserError
from mgta_tf.models.encoder import ModelConfig, build_encoder
from mgta_tf.runtime import files

keras = tf.keras

FACTS = "mgta_tf.json"
IMAGES = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")


class SavedEncoder(tf.Module):
    """The export of a net without a decoder: the encoder, including normalization of the input."""

    def __init__(self, autoencoder: tf.keras.Model, normalization: str):
        super().__init__()
        self.encoder, self.decoder = autoencoder.encoder, autoencoder.decoder
        self._normalization = normalization

    @tf.function(input_signature=[IMAGES])
    def encode(self, images):
        """uint8 [N, H, W, 3] → every endpoint by name: 'res2' … 'res5', 'embedding'."""
        images = pipeline.normalize(_checked(images), self._normalization)
        return self.encoder(images, training=False)

    @tf.function(input_signature=[IMAGES])
    def serve(self, images):
        """uint8 [N, H, W, 3] → {'embedding': float32 [N, d]}, small enough for a REST reply."""
        return {"embedding": self.encode(images)["embedding"]}


class SavedAutoencoder(SavedEncoder):
    """The export of an auto-encoder."""

    @tf.function(input_signature=[IMAGES])
    def reconstruct(self, images):
        """uint8 [N, H, W, 3] → {'reconstruction': uint8 [N, H, W, 3]}.

        Images whose H or W is not a multiple of 32 are padded by mirroring, and cropped back.
        """
        images = _checked(images)
        height, width = tf.shape(images)[1], tf.shape(images)[2]
        padding = [[0, 0], [0, -height % 32], [0, -width % 32], [0, 0]]
        padded = tf.pad(images, padding, mode="SYMMETRIC")
        endpoints = self.encoder(pipeline.normalize(padded, self._normalization), training=False)
        reconstruction = self.decoder(endpoints["res5"], training=False)
        reconstruction = pipeline.denormalize(reconstruction, self._normalization)
        return {"reconstruction": reconstruction[:, :height, :width]}


def _checked(images):
    """The images, with a check in the graph that they are [N, H, W, 3] and not empty.

    A signature does not check shapes, and TensorFlow's convolution aborts the process on a single
    image without a batch axis.
    """
    images = tf.ensure_shape(images, IMAGES.shape)
    message = "images [N, H, W, 3] are empty: N, H and W must be at least 1"
    with tf.control_dependencies([tf.debugging.assert_positive(tf.size(images), message)]):
        return tf.identity(images)


@dataclasses.dataclass(frozen=True)
class Facts:
    """The content of `mgta_tf.json`."""

    model: ModelConfig
    normalization: str
    image_size: int
    net: str


def save(autoencoder: tf.keras.Model, facts: Facts, directory: str) -> None:
    """Writes the SavedModel.

    Signatures: `encode`; `serving_default`, the embedding only, for TensorFlow Serving; and
    `reconstruct` if there is a decoder.
    """
    kind = SavedAutoencoder if autoencoder.decoder else SavedEncoder
    module = kind(autoencoder, facts.normalization)
    serving = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    signatures = {"encode": module.encode, serving: module.serve}
    if autoencoder.decoder:
        signatures["reconstruct"] = module.reconstruct
    tf.saved_model.save(module, directory, signatures=signatures)
    values = {
        "mgta_tf": mgta_tf.__version__,
        "width": facts.model.width,
        "blocks": list(facts.model.blocks),
        "normalization": facts.normalization,
        "image_size": facts.image_size,
        "net": facts.net,
    }
    with open(os.path.join(directory, FACTS), "w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.write("\n")


def load_encoder(directory: str) -> tuple[tf.keras.Model, Facts]:
    """The encoder of a SavedModel as a Keras model of `build_encoder`, and its `mgta_tf.json`.

    Raises:
      UserError: the folder is not a SavedModel of this package, or its variables are damaged.
    """
    facts = read_facts(directory)
    encoder = build_encoder(facts.model)
    checkpoint = tf.train.Checkpoint(encoder=encoder)
    try:
        with files.literal(directory) as folder:
            status = checkpoint.read(os.path.join(folder, "variables", "variables"))
            status.assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, AssertionError, ValueError):
        raise UserError(
            f"{directory}: its variables are damaged or do not fit {FACTS}; export it again"
        ) from None
    return encoder, facts


def load_model(directory: str) -> tf.keras.Model:
    """`as_model` of the encoder of a SavedModel.

    Raises:
      UserError: the folder is not a SavedModel of this package, or is damaged.
    """
    return as_model(*load_encoder(directory))


def as_model(encoder: tf.keras.Model, facts: Facts) -> tf.keras.Model:
    """An encoder of `build_encoder` as a Keras model with the normalization of training inside.

    Images [N, H, W, 3] in 0..255, uint8 or float → every endpoint by name. Its layer `encoder` is
    the network. Its attribute `facts` is the content of `mgta_tf.json`: `facts.image_size`, ….
    """
    images = keras.Input(IMAGES.shape[1:], name=IMAGES.name)
    mean, deviation = (np.array(v) for v in pipeline.NORMALIZATIONS[facts.normalization])
    normalize = keras.layers.Rescaling(
        (1 / (255 * deviation)).tolist(), (-mean / deviation).tolist(), name="normalize"
    )
    model = keras.Model(images, encoder(normalize(images)), name="mgta_tf_encoder")
    model.facts = facts
    return model


def read_facts(directory: str) -> Facts:
    """Reads `mgta_tf.json` of a SavedModel.

    Raises:
      UserError: the file does not exist, or is damaged.
    """
    path = os.path.join(directory, FACTS)
    if not os.path.isfile(path):
        raise UserError(f"{directory}: no {FACTS}; pass a folder written by mgta_tf.export")
    try:
        with open(path, encoding="utf-8") as file:
            values: dict[str, Any] = json.load(file)
        model = ModelConfig(width=float(values["width"]), blocks=tuple(values["blocks"]))
        if values["normalization"] not in pipeline.NORMALIZATIONS:
            raise ValueError(values["normalization"])
        return Facts(model, values["normalization"], int(values["image_size"]), values["net"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); export it again") from None
