"""What a run shows of itself when a turn has ended: on TensorBoard, and in pictures that it keeps.

Kept for the report, and to look at: `pictures/*.jpg`, the same images reconstructed after every
TMP, and the two ends of telling clusters after every GLP; `pictures/members.npz`, of the newest
GLP only: some images of every cluster with thumbnails and coordinates.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.linalg
import tensorflow as tf

from mgta_tf.clustering import members as members_lib
from mgta_tf.clustering.choose import Choice
from mgta_tf.clustering.clusters import NOISE, Clusters
from mgta_tf.data.store import ImageStore
from mgta_tf.runtime import files, pictures, projector
from mgta_tf.runtime.tensorboard import TensorBoardWriter
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.training.guidance import Turn
from mgta_tf.training.losses import hardest_distances

SHOWN_IMAGES = 8  # originals and reconstructions
MEMBERS = 2000  # images in `members.npz` and in the projector
COORDINATES = 50  # principal components of their features: what t-SNE wants at most
RESULTS = ("reconstruction_loss", "triplet_loss", "probe_map", "probe_top1", "probe_knn")
PROBED = ("map", "top1", "knn20")  # by mgta_tf.probe, later


class Show:
    """Shows turns that have ended. seconds: that it has taken since the last `take_seconds`."""

    def __init__(self, workdir: Workdir, store: ImageStore, board: TensorBoardWriter):
        self._workdir, self._store, self._board = workdir, store, board
        self._seconds = 0.0
        chosen = np.linspace(0, len(store) - 1, min(SHOWN_IMAGES, len(store)), dtype=np.int64)
        self.images = store.batch(chosen)  # the same ones after every turn

    def take_seconds(self) -> float:
        """What showing has cost since this was asked last."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._seconds += time.monotonic() - began

    def start(self, flagfile: str, hparams: dict[str, Any], model: tf.keras.Model) -> None:
        """The text tab: flags and networks; and the flags for the HParams tab."""
        self._board.text("flags", f"```\n{flagfile}```")
        lines: list[str] = []
        for net in (model.encoder, model.decoder):
            net.summary(line_length=100, print_fn=lambda line: lines.append(line))
        self._board.text("networks", "```\n" + "\n".join(lines) + "\n```")
        self._board.hparams(hparams, [f"result/{name}" for name in (*RESULTS, *PROBED)])

    # ---------------------------------------------------------------------------- A TMP has ended

    def reconstructions(self, turn: Turn, step: int, pairs: tuple[np.ndarray, np.ndarray]) -> None:
        """Images as the net reads them above what it makes of them: uint8 [n, S, S, 3] each."""
        with self._timed():
            net = f"net{turn.net + 1}"
            self._board.images(net, step, "reconstruction", np.concatenate(pairs, axis=1))
            paths = self._workdir.originals, self._workdir.reconstruction(turn.round, turn.net)
            for path, images in zip(paths, pairs):
                row = pictures.strip(pictures.shrink(images, pictures.TILE))
                files.write_bytes(path, pictures.jpeg(row))

    def distances(
        self,
        turn: Turn,
        step: int,
        embeddings: np.ndarray,
        labels: np.ndarray,
        normalize: bool,
    ) -> None:
        """Histograms of P×K batches: embedding norms, hardest positives and negatives.

        embeddings: float32 [batches, P·K, D]. labels: int32 [batches, P·K]. normalize: as the loss
        does before it measures distances.
        """
        with self._timed():
            net = f"net{turn.net + 1}"
            norms = np.linalg.norm(embeddings, axis=-1, keepdims=True)
            self._board.histogram(net, step, "histogram/embedding_norm", norms.ravel())
            if normalize:
                embeddings = embeddings / np.maximum(norms, 1e-12)
            pairs = [hardest_distances(e, own) for e, own in zip(embeddings, labels)]
            for number, name in enumerate(("hardest_positive", "hardest_negative")):
                values = np.concatenate([pair[number] for pair in pairs])
                if len(values):
                    self._board.histogram(net, step, f"histogram/{name}", values)

    def result(self, step: int, row: dict[str, Any]) -> None:
        """What the HParams tab compares runs by: the newest turn's losses and probe."""
        self._board.scalars(
            "run", step, {f"result/{name}": row[name] for name in RESULTS if name in row}
        )

    # ---------------------------------------------------------------------------- A GLP has ended

    def clusters(
        self, turn: Turn, step: int, row: dict[str, Any], found: Clusters, choice: Choice | None
    ) -> None:
        """The numbers of a clustering, its histograms, and CH(k) where K was chosen."""
        with self._timed():
            net = f"net{turn.net + 1}"
            scalars = {f"clusters/{k}": v for k, v in row.items() if isinstance(v, (int, float))}
            self._board.scalars(net, step, scalars)
            known = found.labels != NOISE
            sizes = np.bincount(found.labels[known])
            sums = np.bincount(found.labels[known], found.distances[known])
            self._board.histogram(net, step, "clusters/size", sizes)
            self._board.histogram(net, step, "clusters/mean_distance", sums / sizes)
            for line in choice.table if choice else []:
                values = {
                    f"k/round_{turn.round:02d}/{key}": line[key] for key in line if key != "k"
                }
                self._board.scalars(net, int(line["k"]), values)

    def members(
        self, turn: Turn, step: int, images: np.ndarray, features: np.ndarray, found: Clusters
    ) -> list[dict[str, Any]]:
        """The galleries, the projector, and `members.npz`. Returns what the galleries show.

        images: [n] indices in the store. features: float32 [n, D]. found: their clusters.
        """
        with self._timed():
            shown = members_lib.telling(found.labels, found.distances)
            self._galleries(turn, step, images, shown)
            rows = members_lib.sample(found.labels, found.distances, MEMBERS)
            self._keep_members(turn, images, rows, features, found)
        return [
            {
                "kind": one.kind,
                "cluster": one.cluster,
                "images": one.images,
                "mean_distance": one.mean_distance,
            }
            for one in shown
        ]

    def _galleries(self, turn: Turn, step: int, images, shown: list[members_lib.Telling]) -> None:
        rows = []
        for one in shown:
            tiles = [self._tiles(images[part]) for part in (one.nearest, one.farthest)]
            rows.append(pictures.two_ends(tiles[0], tiles[1], members_lib.SHOWN))
            self._board.images(f"net{turn.net + 1}", step, f"gallery/{one.kind}", rows[-1][None])
        path = self._workdir.gallery(turn.round, turn.net)
        files.write_bytes(path, pictures.jpeg(np.concatenate(rows), quality=80))

    def _tiles(self, index: np.ndarray) -> np.ndarray:
        if not len(index):
            return np.zeros((0, 1, 1, 3), np.uint8)
        return pictures.shrink(self._store.batch(index), pictures.TILE)

    def _keep_members(self, turn: Turn, images, rows, features, found: Clusters) -> None:
        """`members.npz`, and the same for TensorBoard's projector."""
        index = images[rows]
        thumbnails = pictures.shrink(self._store.batch(index), pictures.THUMBNAIL)
        sprites = pictures.jpeg(pictures.sheet(thumbnails), quality=80)
        coordinates = principal_coordinates(features[rows], COORDINATES)
        truth, names = self._store.labels, self._store.class_names
        kept = {
            "round": turn.round,
            "net": turn.net + 1,
            "index": index.astype(np.int32),
            "label": found.labels[rows],
            "distance": found.distances[rows],
            "coordinates": coordinates.astype(np.float16),
            "name": np.array([self._store.names[i] for i in index], dtype=np.str_),
            "size": np.bincount(found.labels[found.labels != NOISE]),
            "thumbnail": thumbnails.shape[1],
            "sprites": np.frombuffer(sprites, np.uint8),
        }
        if truth is not None:
            kept.update(truth=truth[index], class_names=np.array(names, dtype=np.str_))
        with files.replacing(self._workdir.members) as file:
            np.savez(file, **kept)
        columns = {"name": kept["name"], "cluster": kept["label"]}
        if truth is not None:
            columns["class"] = [names[number] for number in truth[index]]
        projector.write(
            os.path.join(self._workdir.tensorboard, "run"),
            f"round_{turn.round:02d}_net{turn.net + 1}",
            coordinates,
            columns,
            sprites,
            thumbnails.shape[1],
        )


def principal_coordinates(features: np.ndarray, count: int) -> np.ndarray:
    """The first `count` principal components of features, or as many as there are.

    float32 [n, D] → float32 [n, ≤ count], by only so many eigenvectors of the covariance: this runs
    after every GLP, and scikit-learn's PCA takes seconds.
    """
    points = features.astype(np.float32) - features.mean(0, dtype=np.float64).astype(np.float32)
    last = points.shape[1] - 1
    count = min(count, *points.shape)
    _, axes = scipy.linalg.eigh(points.T @ points, subset_by_index=[last - count + 1, last])
    return points @ axes[:, ::-1]
