"""Extraction of frozen features for the evaluations (docs/protocols.md §2.1 to §2.3)."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

from mgta_tf.errors import UserError
from mgta_tf.runtime import files

# Endpoint → (size, stride) of average pooling, which gives about 9,000 features at 224 px.
POOLS = {"res2": (16, 8), "res3": (13, 5), "res4": (8, 3), "res5": (6, 1)}
ENDPOINTS = (*POOLS, "embedding")
ADAPTIVE = 3  # bins per side if the map is too small for the pool

Encode = Callable[..., dict[str, tf.Tensor]]


def load_encode(saved_model: str, endpoint: str) -> Encode:
    """The `encode` signature of a SavedModel, for one of its endpoints.

    It is wrapped in a graph with this endpoint only, so TensorFlow prunes the layers after it.

    Raises:
      UserError: the SavedModel cannot be loaded, or has no such signature or endpoint.
    """
    try:
        with files.literal(saved_model) as folder:
            loaded = tf.saved_model.load(folder)
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{saved_model}: not a SavedModel that TensorFlow loads ({reason})"
        ) from None
    signatures = loaded.signatures
    if "encode" not in signatures:
        raise UserError(f"{saved_model}: no signature 'encode'; export it with mgta_tf.export")
    if endpoint not in signatures["encode"].structured_outputs:
        known = ", ".join(sorted(signatures["encode"].structured_outputs))
        raise UserError(f"{saved_model}: no endpoint {endpoint!r}, only {known}")

    @tf.function(input_signature=[signatures["encode"].structured_input_signature[1]["images"]])
    def encode(images):  # through `loaded`, which keeps the variables alive
        return {endpoint: loaded.signatures["encode"](images=images)[endpoint]}

    return encode


def model_digest(saved_model: str) -> str:
    """A digest of a SavedModel's graph and weights."""
    digest = hashlib.sha256()
    for folder, _, names in sorted(os.walk(saved_model)):
        for name in sorted(names):
            if name == "saved_model.pb" or os.path.basename(folder) == "variables":
                with open(os.path.join(folder, name), "rb") as file:
                    for block in iter(lambda: file.read(2**20), b""):
                        digest.update(block)
    return digest.hexdigest()


def voc_image(pixels: np.ndarray) -> np.ndarray:
    """The protocol's image: short side to 256 keeping the aspect, then 224×224 without keeping it.

    uint8 [H, W, 3] → uint8 [224, 224, 3], bilinear both times. There is no center crop.
    """
    height, width = pixels.shape[:2]
    scale = 256 / min(height, width)
    middle = (max(256, round(width * scale)), max(256, round(height * scale)))
    image = Image.fromarray(pixels).resize(middle, Image.Resampling.BILINEAR)
    return np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))


def pool_name(endpoint: str, height: int, width: int) -> str:
    """The pooling of a map [N, height, width, c] of this endpoint, as text."""
    if endpoint == "embedding":
        return "none"
    size, stride = POOLS[endpoint]
    if min(height, width) >= size:
        return f"average {size}×{size}, stride {stride}"
    return f"adaptive average {min(ADAPTIVE, height)}×{min(ADAPTIVE, width)}"


def pool(features: np.ndarray, endpoint: str) -> np.ndarray:
    """Average-pools a map [N, h, w, c] as the protocol says and flattens it: [N, D].

    A map smaller than the pool is divided into 3×3 bins (fewer if it has fewer pixels), which share
    border pixels as in PyTorch's adaptive_avg_pool2d.
    """
    if features.ndim == 2:
        return features
    height, width = features.shape[1:3]
    size, stride = POOLS[endpoint]
    if min(height, width) >= size:
        pooled = tf.nn.avg_pool2d(features, size, stride, "VALID").numpy()
    else:
        rows, columns = _bins(height), _bins(width)
        cells = [[features[:, a:b, c:d].mean((1, 2)) for c, d in columns] for a, b in rows]
        pooled = np.stack([np.stack(row, axis=1) for row in cells], axis=1)
    return pooled.reshape(len(features), -1)


def _bins(length: int) -> list[tuple[int, int]]:
    count = min(ADAPTIVE, length)
    return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]


def normalize(features: np.ndarray) -> np.ndarray:
    """x / (|x| + 1e-5) for each image, computed in float64: [N, D] → float32 [N, D]."""
    features = features.astype(np.float64)
    return (features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-5)).astype(np.float32)


def extract(encode: Encode, batches: Iterable[np.ndarray], endpoint: str) -> tuple[np.ndarray, str]:
    """Pooled, normalized features of images.

    Args:
      encode: uint8 [b, H, W, 3] → endpoints.
      batches: the images.
      endpoint: one of ENDPOINTS.

    Returns:
      (float32 [N, D], the pool in words).
    """
    parts, name = [], "none"
    for images in batches:
        found = encode(images=tf.constant(images))[endpoint].numpy()
        if found.ndim == 4:
            name = pool_name(endpoint, *found.shape[1:3])
        parts.append(normalize(pool(found, endpoint)))
    return np.concatenate(parts), name


def cached(
    folder: str, key: str, make: Callable[[], tuple[np.ndarray, str]]
) -> tuple[np.ndarray, str]:
    """The result of `make()`, cached in `folder` by key; no cache if `folder` is ''."""
    if not folder:
        return make()
    path = os.path.join(folder, f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz")
    if os.path.exists(path):
        with contextlib.suppress(ValueError):  # damaged: compute it again
            kept = files.arrays(path, "key", "features", "pool")
            if str(kept["key"]) == key:
                return kept["features"], str(kept["pool"])
    features, name = make()
    with files.replacing(path) as file:
        np.savez(file, features=features, pool=name, key=key)
    return features, name


def in_batches(count: int, size: int) -> Iterator[np.ndarray]:
    """The indices 0 … count - 1 in arrays of `size`."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))
