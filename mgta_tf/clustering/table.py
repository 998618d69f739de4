"""The cluster of every image, as a CSV file for spreadsheets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from mgta_tf.runtime import files


def clusters_table(
    path: str, names: Sequence[str], index: np.ndarray, labels: np.ndarray, distances: np.ndarray
) -> None:
    """Writes a CSV `path,cluster,distance`, sorted by cluster, nearest to the centroid first.

    Args:
      path: The file, replaced atomically.
      names: Names of all images of the run; `files.write_csv` quotes and escapes them.
      index: int [n], indices of the labelled images.
      labels: int [n], -1 for an image without a cluster; these come last.
      distances: float [n], to the own centroid.
    """
    last = np.where(labels < 0, labels.max(initial=0) + 1, labels)
    rows = (
        (names[index[i]], int(labels[i]), f"{distances[i]:.6g}")
        for i in np.lexsort((distances, last))
    )
    with files.replacing(path) as file:
        files.write_csv(file, itertools.chain([("path", "cluster", "distance")], rows))
