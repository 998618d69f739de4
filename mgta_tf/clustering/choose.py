"""Choosing the number of clusters K by a criterion over a list of candidates (§3.2).

* `ch`: the K with the largest Calinski-Harabasz score (eq. 2). On features without clear clusters
  the score falls from the first candidate to the last: the first is chosen, and `on_edge` is true.
* `silhouette`: the K with the largest mean silhouette, on a sample.
* `gap`: the gap statistic (Tibshirani, Walther & Hastie 2001), on a sample: the smallest K whose
  gap is within one standard error of the next one's.
* `stability`: agreement (ARI) of two clusterings, each fitted on one half and extended to all
  points: the largest K within 0.01 of the best, because merging clear clusters is stable as well.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import adjusted_rand_score, silhouette_score

from mgta_tf.clustering.clusters import Clusters
from mgta_tf.clustering.lloyd import Start, assign, kmeans, kmeans_plus_plus
from mgta_tf.errors import UserError

SAMPLE = 4000  # points for silhouette and gap
HALVES = 20_000  # points in the two halves together, for stability
STABLE = 0.01  # smaller differences of the agreement do not count
REFERENCES = 5  # uniform data sets of the gap statistic
TOLERANCE = 1e-3  # of k-means for each candidate; changes CH by about the same fraction


@dataclasses.dataclass(frozen=True)
class Choice:
    """The result of `choose_k`.

    best_k: the chosen number of clusters.
    on_edge: whether it is the first or the last candidate.
    table: `k`, `ch`, `inertia`, `seconds` and the criterion's `score` of every candidate.
    start: the k-means++ start that all candidates share.
    """

    best_k: int
    on_edge: bool
    criterion: str
    table: list[dict[str, float]]
    start: Start

    def warning(self) -> str:
        """The message for a choice that is `on_edge`."""
        return (
            f"K = {self.best_k} is the {'first' if self.best_k == self.table[0]['k'] else 'last'} "
            f"of the candidates, so {self.criterion} has no maximum among them: widen "
            "--k_candidates, or choose another --k_criterion"
        )


def choose_k(
    points: np.ndarray, candidates: Sequence[int], criterion: str = "ch", seed: int = 0
) -> Choice:
    """Clusters the points with every candidate K and chooses one by the criterion.

    All candidates share one k-means++ start: its first k points start k clusters.

    Args:
      points: float32 [N, D], in memory or memory-mapped.
      candidates: Numbers of clusters, increasing, from 2.
      criterion: One of CRITERIA.
      seed: Random seed of k-means++, the samples and the halves.

    Raises:
      UserError: a candidate is not below the number of points.
    """
    if candidates[-1] >= len(points):
        raise UserError(
            f"--k_candidates: the last, {candidates[-1]}, must be below the {len(points)} points"
        )
    began = time.monotonic()
    start = kmeans_plus_plus(points, max(candidates), seed)
    shared = (time.monotonic() - began) / len(candidates)
    score = CRITERIA[criterion]
    table, errors = [], []
    for k in candidates:
        began = time.monotonic()
        found = kmeans(points, k, seed, tolerance=TOLERANCE, start=start, with_distances=False)
        value, error = score(points, found, seed)
        table.append(
            {
                "k": k,
                "ch": calinski_harabasz(found, len(points)),
                "inertia": found.inertia,
                "seconds": shared + time.monotonic() - began,
                "score": value,
            }
        )
        errors.append(error)
    scores = np.array([row["score"] for row in table])
    best = int(np.argmax(scores))
    if criterion == "gap":
        enough = np.flatnonzero(scores[:-1] >= scores[1:] - np.array(errors)[1:])
        best = int(enough[0]) if len(enough) else len(scores) - 1
    if criterion == "stability":
        best = int(np.flatnonzero(scores >= scores.max() - STABLE)[-1])
    on_edge = best in (0, len(candidates) - 1)
    return Choice(int(candidates[best]), on_edge, criterion, table, start)


def parse_candidates(text: str, name: str = "k_candidates") -> tuple[int, ...]:
    """'a:b:n' → n evenly spaced numbers from a to b; 'a,b,c' → (a, b, c). name: name of the flag.

    Raises:
      UserError: `text` has neither form, or the numbers do not increase.
    """
    try:
        if ":" in text:
            first, last, count = (int(word) for word in text.split(":"))
            candidates = tuple(int(k) for k in np.linspace(first, last, count).round())
        else:
            candidates = tuple(int(word) for word in text.split(","))
    except ValueError:
        raise UserError(
            f"--{name}={text}: must be first:last:count, or a comma-separated list"
        ) from None
    if not candidates or candidates[0] < 2 or (np.diff(candidates) <= 0).any():
        raise UserError(f"--{name}={text}: must be increasing numbers, from 2")
    return candidates


def calinski_harabasz(found: Clusters, n: int) -> float:
    """CH of eq. 2 for k clusters of n points: tr(B) / tr(W) · (n - k) / (k - 1)."""
    k, within = len(found.centroids), found.scatter - found.between
    if within <= 0:
        return float("inf")
    return found.between / within * (n - k) / (k - 1)


Score = Callable[[np.ndarray, Clusters, int], tuple[float, float]]


def _ch(points, found, seed):
    del seed
    return calinski_harabasz(found, len(points)), 0.0


def _silhouette(points, found, seed):
    chosen = _sample(points, SAMPLE, seed)
    labels = found.labels[chosen]
    kinds = len(np.unique(labels))
    if not 1 < kinds < len(labels):
        return -1.0, 0.0
    return float(silhouette_score(points[chosen], labels)), 0.0


def _gap(points, found, seed):
    """Gap(k) and its standard error s_k, from the log inertia of a sample."""
    k = len(found.centroids)
    x = np.asarray(points[_sample(points, SAMPLE, seed)], np.float64)
    k = min(k, len(x) - 1)
    own = np.log(max(kmeans(x.astype(np.float32), k, seed).inertia, 1e-30))
    mean = x.mean(0)
    _, _, axes = np.linalg.svd(x - mean, full_matrices=False)
    turned = (x - mean) @ axes.T
    low, high = turned.min(0), turned.max(0)
    logs = []
    for number in range(REFERENCES):
        rng = np.random.default_rng([seed, number])
        reference = rng.uniform(low, high, turned.shape).astype(np.float32)
        logs.append(np.log(kmeans(reference, k, seed).inertia))
    return float(np.mean(logs) - own), float(np.std(logs) * np.sqrt(1 + 1 / REFERENCES))


def _stability(points, found, seed):
    k, sample = len(found.centroids), np.asarray(points[_sample(points, HALVES, seed)])
    order = np.random.default_rng(seed).permutation(len(sample))
    if k > len(sample) // 2:
        return -1.0, 0.0
    labels = []
    for half in (order[::2], order[1::2]):
        clustered = kmeans(sample[np.sort(half)], k, seed, tolerance=TOLERANCE)
        labels.append(assign(sample, clustered.centroids))
    return float(adjusted_rand_score(*labels)), 0.0


def _sample(points, size: int, seed) -> np.ndarray:
    if len(points) <= size:
        return np.arange(len(points))
    return np.sort(np.random.default_rng(seed).choice(len(points), size, replace=False))


CRITERIA: dict[str, Score] = {
    "ch": _ch,
    "silhouette": _silhouette,
    "gap": _gap,
    "stability": _stability,
}
