"""Encodes photographs to a table of names and vectors: `mgta_tf.embed(encoder, data)`.

The command `python -m mgta_tf.embed` is in `mgta_tf/embed/__main__.py`. This file imports NumPy and
TensorFlow only when called, because `import mgta_tf` imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Table(NamedTuple):
    """names: [N], in the order of the data. vectors: float32 [N, D]."""

    names: list[str]
    vectors: np.ndarray


def embed(
    encoder: Any,
    data: Any,
    *,
    endpoint: str = "embedding",
    batch_size: int = 64,
    progress: bool = True,
) -> Table:
    """Encodes images with a frozen encoder.

    Args:
      encoder: A model from `mgta_tf.load_encoder`, or the folder of a SavedModel.
      data: A folder, as `--data_dir` names it; paths of image files, PIL images or arrays
        uint8 [H, W, 3], which are resized and center-cropped to the size of training; an array
        uint8 [N, H, W, 3], used as it is; or a `tf.data.Dataset` of such images or batches, alone
        or as the first component of a tuple.
      endpoint: 'embedding', or 'res2' … 'res5', averaged over their pixels.
      batch_size: Images encoded at once.
      progress: Show a progress line on stderr.

    Returns:
      The names of the images (their path below the folder, the path that was given, or their number
      in the data) and their vectors. Images of a folder that cannot be read are skipped with a
      warning, up to half of them; in other data, they are an error.

    Raises:
      UserError: the encoder cannot be loaded, or an image cannot be used.
    """
    import warnings

    from mgta_tf.data.sources import DataConfig, open_source
    from mgta_tf.embed import inputs, stream
    from mgta_tf.embed.embedder import open_embedder

    embedder = open_embedder(encoder, endpoint)
    if inputs.is_folder(data):
        folder = DataConfig(data_dir=inputs.path_of(data), max_bad_fraction=0.5)
        source = open_source(folder)
        names, vectors, line = stream.collect(source, embedder, folder, batch_size, progress)
        if len(names) < len(source.names) or source.unread:
            warnings.warn(f"{data}: {line}", stacklevel=2)
        return Table(names, vectors)
    return Table(*inputs.encode(embedder, data, batch_size, progress))
