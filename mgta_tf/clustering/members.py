"""Selection of images that illustrate a clustering: four representative clusters, and a sample."""

from __future__ import annotations

import dataclasses

import numpy as np

from mgta_tf.clustering.clusters import NOISE

KINDS = ("largest", "median", "smallest", "tightest")
KEPT = 2000  # images for the report and the projector, at most
SHOWN = 8  # nearest and farthest images of a representative cluster


@dataclasses.dataclass(frozen=True)
class RepresentativeCluster:
    """A cluster for the gallery.

    kind: 'largest', 'median', 'smallest' or 'tightest'. images: their number. nearest, farthest:
    [≤ SHOWN] rows of its images, by distance to the centroid; no image is in both.
    """

    kind: str
    cluster: int
    images: int
    mean_distance: float
    nearest: np.ndarray
    farthest: np.ndarray

    def about(self) -> dict[str, str | int | float]:
        """The entry for the history."""
        return {
            "kind": self.kind,
            "cluster": self.cluster,
            "images": self.images,
            "mean_distance": self.mean_distance,
        }


def ranked(labels: np.ndarray, distances: np.ndarray) -> list[np.ndarray]:
    """The rows of each cluster's images, nearest to the centroid first.

    labels: int32 [N], NOISE for none. distances: float32 [N], to the own centroid.
    """
    known = np.flatnonzero(labels != NOISE)
    order = known[np.lexsort((distances[known], labels[known]))]
    sizes = np.bincount(labels[known])
    return np.split(order, np.cumsum(sizes)[:-1])


def representative(labels: np.ndarray, distances: np.ndarray) -> list[RepresentativeCluster]:
    """The largest cluster, the one of median size, the smallest, and the tightest.

    The tightest has the smallest mean distance to its centroid of those with at least two images.
    The four are distinct; with fewer clusters there are fewer of them.
    """
    members = ranked(labels, distances)
    sizes = np.array([len(rows) for rows in members])
    by_size = np.argsort(sizes, kind="stable")
    by_size = by_size[sizes[by_size] > 0]
    mean = np.array([distances[rows].mean() if len(rows) > 1 else np.inf for rows in members])
    from_middle = np.argsort(
        np.abs(np.arange(len(by_size)) - (len(by_size) - 1) // 2), kind="stable"
    )
    tight = np.argsort(mean, kind="stable")[: np.isfinite(mean).sum()]
    best_first = {
        "largest": by_size[::-1],
        "smallest": by_size,
        "median": by_size[from_middle],
        "tightest": tight,
    }
    chosen: dict[str, int] = {}
    for kind, clusters in best_first.items():
        others = [cluster for cluster in clusters if cluster not in chosen.values()]
        if others:
            chosen[kind] = others[0]
    return [
        RepresentativeCluster(
            kind,
            int(cluster),
            int(sizes[cluster]),
            float(distances[members[cluster]].mean()),
            members[cluster][:SHOWN],
            members[cluster][SHOWN:][-SHOWN:],
        )
        for kind, cluster in ((kind, chosen[kind]) for kind in KINDS if kind in chosen)
    ]


def sample(labels: np.ndarray, distances: np.ndarray, budget: int) -> np.ndarray:
    """Rows of up to `budget` images, equally many of every cluster, cluster by cluster.

    Within a cluster they are evenly spaced from the nearest to the farthest. With more than
    `budget` clusters, it is one image of each of the largest.
    """
    members = [rows for rows in ranked(labels, distances) if len(rows)]
    members.sort(key=len, reverse=True)
    members = members[:budget]
    each = max(1, budget // len(members))
    rows = [
        m[np.unique(np.linspace(0, len(m) - 1, min(each, len(m))).astype(np.int64))]
        for m in members
    ]
    return np.concatenate(rows)
