"""Files of TensorBoard's embedding projector."""

from __future__ import annotations

import os

import numpy as np
from google.protobuf import text_format
from tensorboard.plugins.projector import ProjectorConfig
from tensorboard.plugins.projector.metadata import PROJECTOR_FILENAME

from mgta_tf.errors import printable
from mgta_tf.runtime import files


def write(
    directory: str,
    title: str,
    points: np.ndarray,
    columns: dict[str, list[str]],
    sprites: bytes,
    sprite_size: int,
) -> None:
    """Writes one embedding into the folder of a TensorBoard writer, with a picture per point.

    Args:
      directory: The folder; an embedding in it is replaced.
      title: Name of the embedding.
      points: float32 [n, D].
      columns: Two or more columns of n values, by which points can be colored.
      sprites: Encoded image, a square sheet with the pictures of the points row by row.
      sprite_size: Pixels per side of a picture.
    """
    config = ProjectorConfig()
    embedding = config.embeddings.add(
        tensor_name=title,
        tensor_shape=points.shape,
        tensor_path="projector.bytes",
        metadata_path="projector.tsv",
    )
    embedding.sprite.image_path = "projector.jpg"
    embedding.sprite.single_image_dim.extend([sprite_size, sprite_size])
    rows = [list(columns), *zip(*columns.values())]
    lines = ["\t".join(printable(" ".join(str(v).split())) for v in row) for row in rows]
    paths = {
        name: os.path.join(directory, name)
        for name in ("projector.bytes", "projector.tsv", "projector.jpg")
    }
    files.write_bytes(paths["projector.bytes"], points.astype("<f4").tobytes())
    files.write_text(paths["projector.tsv"], "\n".join(lines) + "\n")
    files.write_bytes(paths["projector.jpg"], sprites)
    files.write_text(
        os.path.join(directory, PROJECTOR_FILENAME), text_format.MessageToString(config)
    )
