"""One encoder in two frameworks: weights and jobs to PyTorch and back, and a comparison of both.

PyTorch has its own environment, in which tools/peers/torch_methods.py runs. The two exchange files
only.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.data import pipeline
from mgta_tf.errors import UserError
from mgta_tf.models import artifact
from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ENDPOINTS, ModelConfig, build_encoder
from mgta_tf.runtime.files import write_json
from tools.study.evaluation import MEDIUM, MILD, SMALL

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_methods.py")
SAME = 1e-4  # largest difference of two endpoints, as a share of the largest value

STRONG: dict[str, Any] = dict(crop_min_area=0.3, color_jitter=0.4, grayscale=0.2)
CROPS = {"mild": MILD, "medium": MEDIUM, "strong": STRONG}

PARAMETERS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def train(
    python: str,
    folder: str,
    encoder: tf.keras.Model,
    pixels: np.ndarray,
    labels: np.ndarray,
    flags: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Trains `encoder` in PyTorch; a training that an interrupted run has finished is reused.

    Args:
      python: Interpreter of PyTorch's environment.
      folder: Folder for the files of the job.
      pixels: uint8 [N, S, S, 3]. labels: int64 [N], read by --methods=supervised alone.
      flags: Flags of the method and its training.

    Returns:
      The report of `torch_methods.train`, with `versions`.
    """
    os.makedirs(folder, exist_ok=True)
    names = ("images.npz", "initial.npz", "weights.npz")
    images, initial, weights = (os.path.join(folder, name) for name in names)
    job = dict(images=images, initial=initial, weights=weights, flags=flags, seed=seed)
    report = finished(folder, job)
    if report is None:
        np.savez(images, pixels=pixels, labels=labels)
        np.savez(initial, **to_torch(encoder))
        report = in_torch(python, "train", job, folder)
        os.remove(images)
    with np.load(weights) as arrays:
        from_torch(encoder, dict(arrays))
    return report


def finished(folder: str, job: dict[str, Any]) -> dict[str, Any] | None:
    """The report of a finished training of this job by an interrupted run, or None."""
    try:
        with open(os.path.join(folder, "train.json"), encoding="utf-8") as file:
            known = json.load(file)
        with open(known.pop("report"), encoding="utf-8") as file:
            return json.load(file) if known == job else None
    except FileNotFoundError:
        return None


def in_torch(python: str, what: str, job: dict[str, Any], folder: str) -> dict[str, Any]:
    """Runs a job of tools/peers/torch_methods.py; returns its report.

    Raises:
      UserError: it failed; the message has its last line.
    """
    path, report, log = (os.path.join(folder, f"{what}.{end}") for end in ("json", "out", "log"))
    if os.path.exists(report):
        os.remove(report)  # of another job
    write_json(path, {**job, "report": report})
    with open(log, "a", encoding="utf-8") as file:
        try:
            done = subprocess.run([python, SCRIPT, what, path], stdout=file, stderr=file)
        except OSError as error:
            raise UserError(f"--torch_python={python}: {error.strerror}") from None
    if done.returncode:
        with open(log, encoding="utf-8") as file:
            last = file.read().strip().splitlines()[-1:]
        raise UserError(f"{log}: tools/peers/torch_methods.py failed: {' '.join(last)}")
    with open(report, encoding="utf-8") as file:
        return json.load(file)


def untrained_encoder(seed: int) -> tf.keras.Model:
    tf.keras.utils.set_random_seed(seed)
    return build_encoder(ModelConfig(width=SMALL["width"], blocks=tuple(SMALL["blocks"])))


def torch_name(variable: str) -> str:
    """`res2_block1_1_conv/kernel:0` → `res2_block1_1.conv.weight`, as PyTorch's encoder has it."""
    layer, parameter = variable.split(":")[0].split("/")
    block, kind = layer.rsplit("_", 1)
    return f"{block}.{kind}.{PARAMETERS[parameter]}"


def to_torch(encoder: tf.keras.Model) -> dict[str, Any]:
    """Weights by PyTorch's names; kernels [h, w, in, out] become [out, in, h, w]."""
    arrays = {torch_name(v.name): v.numpy() for v in encoder.weights}
    return {n: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a for n, a in arrays.items()}


def from_torch(encoder: tf.keras.Model, arrays: dict[str, np.ndarray]) -> None:
    """The inverse of `to_torch`, into `encoder`."""
    for variable in encoder.weights:
        array = arrays[torch_name(variable.name)]
        variable.assign(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array)


def export(encoder: tf.keras.Model, directory: str) -> None:
    """Writes a SavedModel as mgta_tf.export does; its decoder is untrained."""
    model = ModelConfig(width=SMALL["width"], blocks=tuple(SMALL["blocks"]))
    autoencoder = build_autoencoder(model)
    autoencoder.encoder.set_weights(encoder.get_weights())
    facts = artifact.Facts(model, "unit", SMALL["image_size"], "peer")
    artifact.save(autoencoder, facts, directory)


def differences(python: str, folder: str) -> Iterator[tuple[str, float]]:
    """Yields (what is compared, largest difference relative to the largest value)."""
    encoder, rng = untrained_encoder(1), np.random.default_rng(0)
    for variable in encoder.weights:  # batch norm of a trained encoder
        if variable.name.endswith(("gamma:0", "moving_variance:0")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name.endswith(("beta:0", "moving_mean:0")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
    for size in (32, 64, 47):  # the last is odd at every stage
        pixels = rng.integers(0, 256, (8, size, size, 3), np.uint8)
        found = torch_endpoints(python, folder, encoder, pixels)
        expected = {n: v.numpy() for n, v in encoder(pixels / np.float32(255)).items()}
        for name in ENDPOINTS:
            yield f"{name} of {size} px", difference(found[name], expected[name])
    pixels = rng.integers(0, 256, (64, 32, 32, 3), np.uint8)
    uniforms = rng.random((64, pipeline.UNIFORMS), np.float32)
    augmentation = pipeline.AugmentConfig(image_size=32, **STRONG)
    images = pipeline.augment(pixels, uniforms, augmentation)[0].numpy() / 255
    augmented = torch_augmented(python, folder, pixels, uniforms)
    yield "augmented images", difference(augmented, images)
    flags = dict(method="triplets", passes=8, batch=32, learning_rate=3e-3, **SMALL, **MILD)
    train(python, folder, encoder, pixels, np.arange(64), flags, seed=1)
    found = torch_endpoints(python, folder, encoder, pixels[:8])
    expected = encoder(pixels[:8] / np.float32(255))["res4"].numpy()
    yield "res4 after training in PyTorch", difference(found["res4"], expected)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def torch_endpoints(
    python: str, folder: str, encoder: tf.keras.Model, pixels: np.ndarray
) -> dict[str, np.ndarray]:
    """All endpoints of uint8 images [N, H, W, 3] by PyTorch with an encoder's weights."""
    weights = os.path.join(folder, "weights.npz")
    np.savez(weights, **to_torch(encoder))
    return _arrays_of(python, "endpoints", folder, {"pixels": pixels}, {**SMALL}, weights=weights)


def torch_augmented(
    python: str, folder: str, pixels: np.ndarray, uniforms: np.ndarray
) -> np.ndarray:
    """Images as PyTorch's side augments them, strongly: float32 [N, S, S, 3] in 0..1."""
    arrays = {"pixels": pixels, "uniforms": uniforms}
    return _arrays_of(python, "augmented", folder, arrays, {**STRONG})["augmented"]


def _arrays_of(
    python: str,
    what: str,
    folder: str,
    arrays: dict[str, Any],
    flags: dict[str, Any],
    **files: str,
) -> dict[str, np.ndarray]:
    images, output = (os.path.join(folder, f"{what}_{end}.npz") for end in ("in", "out"))
    np.savez(images, **arrays)
    in_torch(python, what, dict(images=images, output=output, flags=flags, **files), folder)
    with np.load(output) as found:
        return dict(found)
