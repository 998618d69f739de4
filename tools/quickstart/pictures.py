"""Pictures of the quickstart: what the IAE reconstructs, and what the default encoder groups."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from PIL import Image

from mgta_tf.clustering import diagnostics, members
from mgta_tf.clustering.lloyd import kmeans
from mgta_tf.data.pipeline import denormalize, normalize
from mgta_tf.evaluation.labelled import Labelled
from mgta_tf.models.artifact import Facts
from mgta_tf.runtime import pictures

SCALE = 2  # pixels of a picture for a pixel of an image
COLUMNS = 16
CLUSTERS = 20
GAP = 4  # pixels between the rows of clusters


def reconstructions(autoencoder: tf.keras.Model, facts: Facts, test: Labelled, path: str) -> None:
    """Writes a PNG of two pairs of rows: test images, and below them their reconstructions."""
    rows = []
    for first in (0, COLUMNS):
        images = test.load(np.arange(first, first + COLUMNS))
        found = autoencoder(normalize(images, facts.normalization), training=False)
        seen = denormalize(found["reconstruction"], facts.normalization).numpy()
        rows += [pictures.strip(images), pictures.strip(seen)]
    _write(np.concatenate(rows), path)
    print(f"{path}: {2 * COLUMNS} test images, each above its reconstruction by the IAE")


def clusters(embeddings: np.ndarray, untrained: np.ndarray, train: Labelled, path: str) -> None:
    """Writes a PNG with a row for each cluster: the images nearest to its centroid.

    embeddings, untrained: float32 [N, D] of the images of `train`, by the encoder that is shown,
    and by an untrained one, whose clusters' NMI with the digits is printed beside.
    """
    found = kmeans(embeddings, CLUSTERS, seed=0)
    ranked = members.ranked(found.labels, found.distances)
    blank = np.full((GAP, COLUMNS * train.load(np.arange(1)).shape[1], 3), 255, np.uint8)
    rows = []
    for rows_of_one in ranked:
        nearest = train.load(rows_of_one[:COLUMNS])
        row = np.full((COLUMNS, *nearest.shape[1:]), 255, np.uint8)
        row[: len(nearest)] = nearest
        rows += [pictures.strip(row), blank]
    _write(np.concatenate(rows[:-1]), path)
    shown = diagnostics.describe_clusters(found, train.labels)
    before = diagnostics.describe_clusters(kmeans(untrained, CLUSTERS, seed=0), train.labels)
    print(
        f"{path}: {CLUSTERS} clusters, a row each; NMI with the digits {shown['nmi_truth']:.2f} "
        f"(untrained encoder {before['nmi_truth']:.2f}, by chance {shown['nmi_chance']:.2f})"
    )


def _write(pixels: np.ndarray, path: str) -> None:
    image = Image.fromarray(pixels)
    size = (image.width * SCALE, image.height * SCALE)
    image.resize(size, Image.Resampling.NEAREST).save(path)
