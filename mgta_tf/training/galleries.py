"""Pictures of clusters: galleries of representative ones, and samples for report and projector."""

from __future__ import annotations

import os

import numpy as np
import scipy.linalg

from mgta_tf.clustering import members
from mgta_tf.clustering.clusterers import cluster
from mgta_tf.clustering.clusters import NOISE, Clusters
from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.clustering.members import RepresentativeCluster
from mgta_tf.data import sampler
from mgta_tf.data.store import ImageStore
from mgta_tf.errors import UserError
from mgta_tf.runtime import files, pictures, projector
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.training.guidance import Turn
from mgta_tf.training.losses import LossConfig
from mgta_tf.training.session import Session

GROUPS, GROUP = 24, 10  # maximum number of groups, and minimum mean number of images in one
COORDINATES = 50  # principal components of their features, as input of t-SNE


def rows_of(
    store: ImageStore, images: np.ndarray, shown: list[RepresentativeCluster]
) -> list[np.ndarray]:
    """One picture row per cluster: images nearest to its centroid, a gap, the farthest; uint8.

    images: int32 [n], indices of the clustered images.
    """

    def tiles(index: np.ndarray) -> np.ndarray:
        if not len(index):
            return np.zeros((0, 1, 1, 3), np.uint8)
        return pictures.shrink(store.batch(index), pictures.TILE)

    return [
        pictures.two_ends(tiles(images[one.nearest]), tiles(images[one.farthest]), members.SHOWN)
        for one in shown
    ]


def picture_of(store: ImageStore, images: np.ndarray, one: RepresentativeCluster) -> np.ndarray:
    """A cluster as TensorBoard shows it: its nearest images above its farthest, uint8 [H, W, 3].

    images: int32 [n], the indices that were clustered.
    """
    ends = [one.nearest, one.farthest]
    tiles = [pictures.enlarge(store.batch(images[end]), pictures.TILE) for end in ends if len(end)]
    gap = np.full((pictures.GAP, tiles[0].shape[1] * 4, 3), pictures.GRAY, np.uint8)
    blocks = [part for tile in tiles for part in (pictures.rows([tile]), gap)]
    return np.concatenate(blocks[:-1])


def save_members(
    turn: Turn,
    store: ImageStore,
    workdir: Workdir,
    images: np.ndarray,
    features: np.ndarray,
    found: Clusters,
) -> None:
    """Writes a sample of the members of all clusters to `members.npz` and TensorBoard's projector.

    Both hold the newest labels only. images: int32 [n] indices. features: float32 [n, D]. found:
    their clusters.
    """
    rows = members.sample(found.labels, found.distances, members.KEPT)
    index = images[rows]
    thumbnails = pictures.shrink(store.batch(index), pictures.THUMBNAIL)
    sprites = pictures.jpeg(pictures.sheet(thumbnails), quality=80)
    coordinates = principal_coordinates(features[rows], COORDINATES)
    kept = {
        "round": turn.round,
        "net": turn.net + 1,
        "index": index.astype(np.int32),
        "label": found.labels[rows],
        "distance": found.distances[rows],
        "coordinates": coordinates.astype(np.float16),
        "name": np.array([store.names[i] for i in index], dtype=np.str_),
        "size": np.bincount(found.labels[found.labels != NOISE]),
        "thumbnail": thumbnails.shape[1],
        "sprites": np.frombuffer(sprites, np.uint8),
    }
    kind = "cluster" if turn.process == "GLP" else "group"
    columns = {"name": kept["name"], kind: kept["label"]}
    if store.labels is not None:
        truth = store.labels[index]
        kept.update(truth=truth, class_names=np.array(store.class_names, dtype=np.str_))
        columns["class"] = [store.class_names[n] if n >= 0 else "none" for n in truth]
    with files.replacing(workdir.members) as file:
        np.savez(file, **kept)
    projector.write(
        os.path.join(workdir.tensorboard, "run"),
        f"round_{turn.round:02d}_net{turn.net + 1}",
        coordinates,
        columns,
        sprites,
        thumbnails.shape[1],
    )


def save_groups(session: Session, turn: Turn) -> None:
    """Writes `members.npz` of a run without clusters: groups of a sample, found at its end.

    They are for the report and the projector alone: no net has learned from them.
    """
    store, config = session.store, session.config
    chosen = sampler.evenly(len(store), members.KEPT).astype(np.int32)
    encoded = session.nets[turn.net].encode(session.feed, chosen, "embedding")
    features = as_compared(np.concatenate(list(encoded)), config.loss)
    groups = ClusterConfig(num_clusters=max(2, min(GROUPS, len(chosen) // GROUP)))
    try:
        found, _ = cluster(features, groups, config.run.seed)
    except UserError:  # the net has collapsed, as its losses show; there are no groups
        return
    save_members(turn, store, session.workdir, chosen, features, found)


def as_compared(embeddings: np.ndarray, config: LossConfig) -> np.ndarray:
    """Embeddings as the triplet loss compares them: of length 1 with --normalize_embedding.

    float32 […, D] → float32 […, D].
    """
    if not config.normalize_embedding:
        return embeddings
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=-1, keepdims=True), 1e-12)


def principal_coordinates(features: np.ndarray, count: int) -> np.ndarray:
    """The first `count` principal components of features, or as many as there are.

    float32 [n, D] → float32 [n, ≤ count]. Computes only these eigenvectors of the covariance:
    scikit-learn's PCA would add seconds to every GLP.
    """
    points = features.astype(np.float32) - features.mean(0, dtype=np.float64).astype(np.float32)
    last = points.shape[1] - 1
    count = min(count, *points.shape)
    _, axes = scipy.linalg.eigh(points.T @ points, subset_by_index=[last - count + 1, last])
    return points @ axes[:, ::-1]
