"""Curves while a turn runs; pictures and statistics when it has ended.

Files for the report: `pictures/*.jpg` holds the same images reconstructed after every TMP, and the
images nearest to and farthest from the centroids of representative clusters after every GLP.
`pictures/members.npz` holds thumbnails and coordinates of some images of every cluster of the
newest GLP.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from mgta_tf.clustering import curve, members
from mgta_tf.clustering.choose import Choice
from mgta_tf.clustering.clusters import NOISE, Clusters
from mgta_tf.config import format_value, to_dict, to_flagfile
from mgta_tf.data import sampler
from mgta_tf.runtime import files, pictures
from mgta_tf.runtime.tensorboard import GROUPS, TensorBoardWriter, tag_of
from mgta_tf.runtime.workdir import NEUTRAL
from mgta_tf.training import galleries, quick_probe, wording
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.guidance import Turn
from mgta_tf.training.labeller import Labelling
from mgta_tf.training.losses import hardest_distances
from mgta_tf.training.session import Session, title
from mgta_tf.training.trainer import Training

SHOWN_IMAGES = 8  # originals and reconstructions
SHOWN_BATCHES = 4  # last batches of a turn, for its histograms
LOSSES = ("reconstruction_loss", "triplet_loss")
EVALUATED = ("probe_map", "probe_top1", "probe_knn")


class Visualizer:
    """Shows the turns of a run in TensorBoard, as pictures, and as notes on the terminal."""

    def __init__(self, session: Session):
        self._session, store = session, session.store
        self._writer = TensorBoardWriter(session.workdir.tensorboard)
        chosen = sampler.evenly(len(store), SHOWN_IMAGES)
        self._images = store.batch(chosen)  # the same ones after every turn
        self._warned: set[str] = set()  # troubles of the triplet loss that have been noted
        config, lines = session.config, []
        self._writer.text("flags", f"```\n{to_flagfile(config)}```")
        model = session.nets[0].model
        for net in filter(None, (model.encoder, model.decoder)):
            net.summary(line_length=100, print_fn=lambda line: lines.append(line))
        self._writer.text("networks", "```\n" + "\n".join(lines) + "\n```")
        self._writer.hparams(_changed_flags(config))
        for net, step, row in _earlier_labellings(session):
            self._writer.recall(net, step, row)

    # -------------------------------------------------------------------------------------- A TMP

    def show_point(self, number: int, step: int, point: dict[str, float]) -> None:
        """Shows the mean metrics of the steps up to `step`; notes what is wrong with them."""
        session, turn = self._session, self._session.timeline.turns[number]
        progress, steps = session.progress, session.timeline.steps[number]
        if point["skipped"]:
            progress.note(
                f"{title(session, turn)}, step {step}: {point['skipped']:.0f} of the last steps "
                "were skipped: their loss or gradient was not finite"
            )
        self._warn(number, step, point)
        speed = progress.speed() * session.config.batch.size
        rate = session.timeline.learning_rate(number)(step - 1)
        shown = {**point, "lambda": turn.lambda1, "rate": rate, "images_per_second": speed}
        self._writer.metrics(_net(turn), session.timeline.global_step(number, step), shown)
        epoch = min(int(step * turn.epochs / steps) + 1, turn.epochs)
        parts = wording.loss(point, turn.lambda1, session.config.loss.reconstruction_weight)
        progress.say(f"epoch {epoch} of {turn.epochs} · {speed:.0f} images/s · {parts}")

    def _warn(self, number: int, step: int, point: dict[str, float]) -> None:
        """Notes a triplet loss at its margin, once per run: a collapse at once, else half-way."""
        session, turn = self._session, self._session.timeline.turns[number]
        late = 2 * step >= session.timeline.steps[number]
        text = wording.trouble(point, session.config.loss, late) if turn.lambda1 else ""
        if text and text.split(":")[0] not in self._warned:
            session.progress.note(f"warning: {title(session, turn)}, step {step}: {text}")
            self._warned.add(text.split(":")[0])

    def show_training(self, number: int, trained: Training) -> dict[str, Any]:
        """Shows a TMP that has ended, and evaluates its net if --probe_every_rounds says so.

        Returns:
          The row of the history: the trainer's, with the results of the probe and `show_seconds`.
        """
        session, turn = self._session, self._session.timeline.turns[number]
        step = session.timeline.end(number)
        probed = quick_probe.of_turn(session, turn)
        self._writer.scalars(_net(turn), step, {tag_of(name): v for name, v in probed.items()})
        session.progress.begin("show", "making pictures")
        began = time.monotonic()
        if session.config.model.decoder != "none":
            self._reconstructions(turn, step)
        if turn.round:
            self._distances(turn, step, trained)
        if turn.stage == "final" and session.config.guidance.labels == "none":
            galleries.save_groups(session, turn)
        row = {**trained.row, **probed, "show_seconds": time.monotonic() - began}
        results = {f"result/{name}": row[name] for name in (*LOSSES, *EVALUATED) if name in row}
        self._writer.scalars("run", step, results)
        self._writer.flush()
        return row

    def _reconstructions(self, turn: Turn, step: int) -> None:
        """Input images, with their reconstructions below."""
        pairs = self._session.nets[turn.net].reconstruct(self._images)
        large = [pictures.enlarge(images, pictures.TILE) for images in pairs]
        self._writer.images(
            _net(turn), step, "6_pictures/reconstruction", pictures.rows(large)[None]
        )
        workdir = self._session.workdir
        for path, images in zip(
            (workdir.originals, workdir.reconstruction(turn.round, turn.net)), pairs
        ):
            row = pictures.strip(pictures.shrink(images, pictures.TILE))
            files.write_bytes(path, pictures.jpeg(row))

    def _distances(self, turn: Turn, step: int, trained: Training) -> None:
        """Histograms over the turn's last batches, not augmented: norms and hardest distances."""
        session, batches = self._session, trained.plan[-SHOWN_BATCHES:]
        found = session.nets[turn.net].encode(session.feed, batches.ravel(), "embedding")
        embeddings = np.stack(list(found))  # [batches, P*K, D]
        norms = np.linalg.norm(embeddings, axis=-1, keepdims=True)
        self._writer.histogram(_net(turn), step, "3_embedding/norm_of_images", norms.ravel())
        embeddings = galleries.as_compared(embeddings, session.config.loss)
        labels = trained.label_of[batches]
        pairs = [hardest_distances(e, own) for e, own in zip(embeddings, labels)]
        for index, name in enumerate(("hardest_positive", "hardest_negative")):
            values = np.concatenate([pair[index] for pair in pairs])
            if len(values):
                self._writer.histogram(_net(turn), step, f"3_embedding/{name}_of_images", values)

    # -------------------------------------------------------------------------------------- A GLP

    def show_labelling(self, number: int, images: np.ndarray, found: Labelling) -> dict[str, Any]:
        """Shows a GLP that has ended. Returns the row of the history, with `show_seconds`.

        images: int32 [n], indices of the labelled images.
        """
        if found.clusters is None or found.features is None:
            return found.row  # this host is not the chief, which clustered
        session, turn = self._session, self._session.timeline.turns[number]
        session.progress.begin("gallery", "making pictures")
        step, began = session.timeline.global_step(number), time.monotonic()
        self._clusters(turn, step, found.row, found.clusters, found.choice)
        shown = members.representative(found.clusters.labels, found.clusters.distances)
        rows = galleries.rows_of(session.store, images, shown)
        for one in shown:
            picture = galleries.picture_of(session.store, images, one)
            self._writer.images(_net(turn), step, f"6_pictures/cluster_{one.kind}", picture[None])
        path = session.workdir.gallery(turn.round, turn.net)
        files.write_bytes(path, pictures.jpeg(np.concatenate(rows), quality=80))
        galleries.save_members(
            turn, session.store, session.workdir, images, found.features, found.clusters
        )
        _note_labelling(session, turn, found.row, found.choice)
        self._writer.flush()
        return {
            **found.row,
            "representative": [one.about() for one in shown],
            "show_seconds": time.monotonic() - began,
        }

    def _clusters(
        self, turn: Turn, step: int, row: dict[str, Any], found: Clusters, choice: Choice | None
    ) -> None:
        """Statistics of a clustering, its histograms, and CH(k) where K was chosen."""
        net = _net(turn)
        self._writer.metrics(net, step, _statistics(row))
        known = found.labels != NOISE
        sizes = np.bincount(found.labels[known])
        sums = np.bincount(found.labels[known], found.distances[known])
        self._writer.histogram(net, step, "2_clusters/size", sizes)
        self._writer.histogram(net, step, "2_clusters/mean_distance", sums / sizes)
        for line in choice.table if choice else []:
            values = {
                f"2_clusters/k_of_round_{turn.round:02d}/{key}": line[key]
                for key in line
                if key != "k"
            }
            self._writer.scalars(net, int(line["k"]), values)


def _note_labelling(
    session: Session, turn: Turn, row: dict[str, Any], choice: Choice | None
) -> None:
    """Notes for a cluster that is too large, and for the K that was chosen."""
    note, where = session.progress.note, title(session, turn)
    limit = session.config.cluster.max_cluster_fraction
    if row["largest_fraction"] > limit:
        note(
            f"collapse? {where}: one cluster holds {row['largest_fraction']:.0%} of the images, "
            f"more than --max_cluster_fraction={limit}"
        )
    if choice is None:
        return
    picture = session.workdir.k_curve(turn.round, turn.net)
    curve.draw(choice, picture)
    note(f"{where} · K = {choice.best_k} by {choice.criterion}: {picture}")
    if choice.on_edge:
        note(f"{where} · {choice.warning()}")


def _changed_flags(config: TrainConfig) -> dict[str, bool | int | float | str]:
    """The flags that decide the run and differ from their defaults, as HParams takes them."""
    defaults = to_dict(type(config)())
    changed = {
        name: value
        for name, value in to_dict(config).items()
        if name not in NEUTRAL and value != defaults[name]
    }
    return {
        n: v if isinstance(v, (bool, int, float)) else format_value(v) for n, v in changed.items()
    }


def _earlier_labellings(session: Session) -> Iterator[tuple[str, int, dict[str, float]]]:
    """(writer, step, statistics) of the GLPs before the command, as `Visualizer` has shown them."""
    skipped = session.position.turn - len(session.history)  # stage 1, with --iae_checkpoint
    for number, row in enumerate(session.history, skipped):
        if row["process"] == "GLP":
            yield f"net{row['net']}", session.timeline.global_step(number), _statistics(row)


def _statistics(row: dict[str, Any]) -> dict[str, float]:
    """The statistics of clusters in a GLP's row of the history that TensorBoard shows."""
    return {name: row[name] for name in GROUPS["2_clusters"] if row.get(name) is not None}


def _net(turn: Turn) -> str:
    """The TensorBoard writer of the turn's net."""
    return f"net{turn.net + 1}"
