"""Precision of mgta_tf.search on labelled photographs.

  python -m tools.bench.search --saved_model=DIR --untrained=RANDOM --data_split=val \\
      --data_dir=tiny-imagenet-100

Every photograph is a query among the others. The precision is the fraction of its 12 nearest that
have its class: mean over the photographs, in percent. It is compared with chance, with thumbnails
of 4×4 pixels (colors and their positions only), and with the same network with random weights
(mgta_tf.export --untrained).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mgta_tf import cli
from mgta_tf.config import flag, group
from mgta_tf.data.sources import DataConfig
from mgta_tf.data.store import ImageStore, open_images
from mgta_tf.embed import similarity
from mgta_tf.embed.config import EncodeConfig
from mgta_tf.embed.embedder import open_embedder
from mgta_tf.errors import UserError
from mgta_tf.evaluation.features import in_batches
from mgta_tf.models.artifact import read_facts
from mgta_tf.runtime import files

THUMBNAIL = 4  # pixels per side


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """The comparison."""

    untrained: str = flag("", "Folder of the same network with random weights.")
    top: int = flag(12, "Number of nearest photographs.", minimum=1)
    json: str = flag("", "JSON to write: precision in percent by method.")
    encode: EncodeConfig = group(EncodeConfig)
    data: DataConfig = group(DataConfig)


def main(config: BenchConfig) -> None:
    config.encode.require()
    size = read_facts(config.encode.saved_model).image_size
    store = open_images(config.data, size, labelled=True)
    if store.labels is None:
        raise UserError(f"--data_dir={config.data.data_dir}: no class labels found")
    found = {
        "chance": chance(store.labels),
        "4×4 thumbnail": precision(thumbnails(config.data), store.labels, config.top),
    }
    models = {"untrained encoder": config.untrained, "encoder": config.encode.saved_model}
    for name, directory in models.items():
        if directory:
            vectors = encode(store, directory, config.encode)
            units = similarity.directions(vectors).units
            found[name] = precision(units, store.labels, config.top)
    for name, value in found.items():
        print(f"{name:18s} {value:6.2f} %")
    if config.json:
        files.write_json(config.json, found)


def encode(store: ImageStore, directory: str, config: EncodeConfig) -> np.ndarray:
    """The vectors that mgta_tf.search compares, float32 [N, D]."""
    embedder = open_embedder(directory, config.endpoint)
    parts = in_batches(len(store), config.batch_size)
    return np.concatenate([embedder.encode(store.batch(part)) for part in parts])


def thumbnails(data: DataConfig) -> np.ndarray:
    """float32 [N, 48]: RGB of 4×4 pixels, in 0..1."""
    store = open_images(dataclasses.replace(data, load_size=0), THUMBNAIL, labelled=True)
    return store.batch(np.arange(len(store))).reshape(len(store), -1) / np.float32(255)


def chance(labels: np.ndarray) -> float:
    """Precision of random neighbors: mean over the photographs, in percent."""
    counts = np.bincount(labels)
    return 100 * float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def precision(points: np.ndarray, labels: np.ndarray, top: int) -> float:
    """Fraction of the `top` nearest others that have the class of a point: mean, in percent.

    points: float32 [N, D], compared by Euclidean distance. labels: int [N].
    """
    _, numbers = similarity.nearest(points, points, top + 1)
    others = numbers != np.arange(len(points))[:, None]
    others[others.all(1), -1] = False  # the query itself may be missing among many equal points
    same = labels[numbers] == labels[:, None]
    return 100 * float((same & others).sum(1).mean() / others[0].sum())


if __name__ == "__main__":
    cli.run(main, BenchConfig)
