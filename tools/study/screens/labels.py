"""Labels of a screen: oracle labels, clusters, or pairs of mutual nearest neighbors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA

from mgta_tf.evaluation import features as features_lib
from tools.study.oracle_labels import oracle_labels
from tools.study.screens.recipe import Recipe

DIMENSIONS = 64  # of the features that are clustered, by PCA


def make(
    recipe: Recipe,
    features: np.ndarray,
    classes: np.ndarray,
    seed: int,
    free: np.ndarray | None = None,
) -> np.ndarray:
    """Labels by a recipe: int32 [N], -1 where an image has none.

    Args:
      features: float32 [N, D], one row per photograph; not read for "oracle" and "free".
      classes: int32 [N], which only an oracle reads.
      free: [N, D], another net's features, which only "free" and "agree" read.
    """
    if recipe.labels == "oracle":
        return oracle_labels(classes, float(np.sqrt(recipe.purity)), seed)
    if recipe.labels in ("free", "agree"):
        assert free is not None
        others = of_features(recipe, free, seed)
        if recipe.labels == "free":
            return others
        return common(of_features(recipe, features, seed), others)
    return of_features(recipe, features, seed)


def of_features(recipe: Recipe, features: np.ndarray, seed: int) -> np.ndarray:
    """Clusters of features [N, D], or pairs of them: int32 [N]."""
    pca = PCA(DIMENSIONS, whiten=recipe.whiten, random_state=seed)
    reduced = features_lib.normalize(pca.fit_transform(features).astype(np.float32))
    if recipe.labels == "pairs":
        return mutual_neighbors(reduced)
    k_means = MiniBatchKMeans(recipe.num_clusters, batch_size=2048, n_init=3, random_state=seed)
    return k_means.fit_predict(reduced).astype(np.int32)


def common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels [N] of what two labellings agree on: images are mates if they are in both.

    -1 where an image has no such mate.
    """
    _, labels, sizes = np.unique(
        np.stack([first, second], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    labels = labels.reshape(-1)  # NumPy 2.0 returns a column
    return np.where(sizes[labels] > 1, labels, -1).astype(np.int32)


def renamed(labels: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Labels [N] under the names of earlier ones, so that most images keep theirs.

    k-means numbers its clusters at random, and a softmax over them would have to start again. The
    assignment is the best one (Hungarian method); -1 stays -1.
    """
    number = int(max(labels.max(), before.max())) + 1
    known = (labels >= 0) & (before >= 0)
    table = np.zeros((number, number))
    np.add.at(table, (labels[known], before[known]), 1)
    _, names = linear_sum_assignment(-table)
    return np.where(labels >= 0, names[labels], -1).astype(np.int32)


def mutual_neighbors(features: np.ndarray) -> np.ndarray:
    """A label for every two images that are each other's nearest: unit features [N, D] → [N]."""
    nearest = np.empty(len(features), np.int64)
    for start in range(0, len(features), 1024):
        rows = np.arange(start, min(start + 1024, len(features)))
        similarity = features[rows] @ features.T
        similarity[np.arange(len(rows)), rows] = -np.inf
        nearest[rows] = similarity.argmax(axis=1)
    labels = np.full(len(features), -1, np.int32)
    first = np.flatnonzero(nearest[nearest] == np.arange(len(features)))
    first = first[first < nearest[first]]
    labels[first] = labels[nearest[first]] = np.arange(len(first))
    return labels


def pair_purity(labels: np.ndarray, classes: np.ndarray) -> float:
    """Probability that two images with the same label are of one class; NaN without such pairs."""
    known = labels >= 0
    table = np.zeros((labels.max() + 1, classes.max() + 1))
    np.add.at(table, (labels[known], classes[known]), 1)
    total = table.sum(axis=1)
    pairs = (total * (total - 1)).sum()
    return float((table * (table - 1)).sum() / pairs) if pairs else float("nan")


def batches_with_mates(
    labels: np.ndarray, size: int, mates: int, seed: int
) -> Callable[[int], np.ndarray]:
    """A function of the step that draws `size` images, `mates` of each label drawn.

    Labels are drawn in proportion to their number of images, without those that have too few.
    Images without a label are never drawn.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]
    members = [images for images in members if len(images) >= mates]
    share = np.array([len(images) for images in members], float)

    def draw(step: int) -> np.ndarray:
        rng = np.random.default_rng([seed, 1, step])
        number = size // mates
        chosen = rng.choice(
            len(members), number, replace=len(members) < number, p=share / share.sum()
        )
        return np.concatenate([rng.choice(members[c], mates, replace=False) for c in chosen])

    return draw
