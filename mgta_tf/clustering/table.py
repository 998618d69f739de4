"""Which photograph is in which cluster, as a table that a spreadsheet opens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgta_tf.runtime import files


def clusters_table(
    path: str, names: Sequence[str], index: np.ndarray, labels: np.ndarray, distances: np.ndarray
) -> None:
    """Writes a CSV `path,cluster,distance`, by cluster, nearest to its centroid first.

    Args:
      path: The file, written whole or not at all.
      names: Of all images of the run; any bytes, quoted and escaped as `files.write_csv` does.
      index: int [n], the images that have been labelled.
      labels: int [n], -1 for an image without a cluster; these come last.
      distances: float [n], to the centroid of the own cluster.
    """
    last = np.where(labels < 0, labels.max(initial=0) + 1, labels)
    rows = (
        (names[index[i]], int(labels[i]), f"{distances[i]:.6g}")
        for i in np.lexsort((distances, last))
    )
    with files.replacing(path) as file:
        files.write_csv(file, [("path", "cluster", "distance"), *rows])
