"""The auto-encoder AE = {E, D} of §3.1."""

from __future__ import annotations

import tensorflow as tf

from mgta_tf.models.decoder import build_decoder
from mgta_tf.models.encoder import ModelConfig, build_encoder

keras = tf.keras


def build_autoencoder(config: ModelConfig) -> tf.keras.Model:
    """The auto-encoder as a functional model of its two halves, `.encoder` and `.decoder`.

    Input: normalized images [N, H, W, 3], H and W multiples of 32. Output, by name: every endpoint
    of `build_encoder`, and `reconstruction` [N, H, W, 3], X̂ = D(E(X)) of eq. 1. With
    `--decoder=none` there is no reconstruction, and `.decoder` is None.
    """
    encoder = build_encoder(config)
    decoder = None if config.decoder == "none" else build_decoder(config)
    images = keras.Input((None, None, 3), name="images")
    outputs = endpoints = encoder(images)
    if decoder:
        outputs = {**endpoints, "reconstruction": decoder(endpoints["res5"])}
    model = keras.Model(images, outputs, name="autoencoder")
    model.encoder, model.decoder = encoder, decoder
    return model
