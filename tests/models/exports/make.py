"""Writes an export of the installed TensorFlow, for `tests/models/test_exports.py`.

    python tests/models/exports/make.py tests/models/exports/tensorflow-2.20.tar.xz

Inside are the SavedModel and `expected.npz`: images, and the outputs of its two signatures.
"""

import pathlib
import sys
import tarfile
import tempfile

import numpy as np
import tensorflow as tf

import mgta_tf  # noqa: F401  (sets TensorFlow's environment)
from mgta_tf.models import artifact
from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ModelConfig

SEED = 1
MODEL = ModelConfig(width=1 / 32, blocks=(1, 1, 1, 1))


def main(archive: str) -> None:
    tf.keras.utils.set_random_seed(SEED)
    autoencoder = build_autoencoder(MODEL)
    rng = np.random.default_rng(SEED)
    for variable in autoencoder.variables:  # batch norm as after training
        if "moving_variance" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif "moving_mean" in variable.name:
            variable.assign(rng.normal(0, 0.1, variable.shape))
    images = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(autoencoder, artifact.Facts(MODEL, "imagenet", 32, "n2"), folder)
        loaded = tf.saved_model.load(folder)
        outputs = {**loaded.encode(images), **loaded.reconstruct(images)}
        expected = {name: value.numpy() for name, value in outputs.items()}
        np.savez(pathlib.Path(folder) / "expected.npz", images=images, **expected)
        with tarfile.open(archive, "w:xz", preset=9) as file:
            file.add(folder, arcname=".")


if __name__ == "__main__":
    main(sys.argv[1])
