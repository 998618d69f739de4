"""The first questions about a run: did it learn, what did it find, what next."""

from __future__ import annotations

import dataclasses
import math
import os
import shlex
from collections.abc import Callable
from typing import Any

from mgta_tf.evaluation import online
from mgta_tf.reporting.record import Record
from mgta_tf.training import wording
from mgta_tf.training.losses import LossConfig

PROBED = {
    "probe_knn": "20-NN accuracy",
    "probe_top1": "Linear SVM accuracy",
    "probe_map": "Linear SVM mAP",
}
FELL = 0.9  # a loss counts as fallen if it ends below this fraction of its start


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure beside what it is compared with, as text; '' where that is not known.

    higher: whether more is better. before: of the untrained net, or at the first steps.
    """

    name: str
    now: str
    before: str
    chance: str
    higher: bool


@dataclasses.dataclass(frozen=True)
class Answer:
    """kind: 'good', 'open' or 'bad'. text: a sentence or two."""

    kind: str
    text: str


def figures(run: Record) -> list[Figure]:
    """Everything that is measured of the net, each beside its values untrained and by chance."""
    found = []
    for name, key in (
        ("Reconstruction loss", "reconstruction_loss"),
        ("Triplet loss", "triplet_loss"),
    ):
        span = span_of(run, key)
        if span:
            first = f"{span[0]:.4g} at the first steps"
            found.append(Figure(name, f"{span[1]:.4g}", first, "", higher=False))
    probed = [row for row in run.stages if row.get("probe_knn") is not None]
    if probed:
        untrained, chance = (run.baselines.get(of, {}) for of in ("untrained", "chance"))
        for key, name in PROBED.items():
            values = (probed[-1].get(key), untrained.get(key), chance.get(key))
            found.append(_of_evaluation(f"{name}, own images", *values))
    found += _of_clusters(run)
    for name, result in run.probes.items():
        others = result.get("baselines") or {}
        for key, what in (("map", "mAP"), ("top1", "accuracy")):
            if result.get(key) is not None:
                untrained, chance = (others.get(of) or {} for of in ("untrained", "chance"))
                values = (result[key], untrained.get(key), chance.get(key))
                found.append(_of_evaluation(f"{name}: SVM {what}", *values))
    return found


def _of_clusters(run: Record) -> list[Figure]:
    """The newest clusters' agreement with the classes.

    NMI depends on the number of images, so it is beside that of the untrained net only where both
    are of as many.
    """
    untrained = run.baselines.get("untrained", {})
    found = []
    for row in run.labellings[-1:]:
        same = row["images"] == untrained.get("clustered")
        for key, chance in (("nmi", row.get("nmi_chance")), ("ari", 0.0)):
            now, before = row.get(f"{key}_truth"), untrained.get(f"{key}_truth")
            if now is not None:
                before = before if same or key == "ari" else None
                name = f"{key.upper()} of the clusters with the classes"
                found.append(_of_evaluation(name, now, before, chance, text=share))
    return found


def _of_evaluation(
    name: str,
    now: float | None,
    untrained: float | None = None,
    chance: float | None = None,
    text: Callable[[float | None], str] | None = None,
) -> Figure:
    text = text or percent
    return Figure(name, text(now), text(untrained), text(chance), higher=True)


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} %"


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def span_of(run: Record, key: str) -> tuple[float, float] | None:
    """A loss at its first steps and at the end; None if it is unknown or was not trained with.

    With hard negatives, the triplet loss is that of the first round: later batches are harder.
    """
    rows = [row for row in run.stages if row.get(key)]
    if key == "triplet_loss" and run.flags.get("labels") == "hard_negatives":
        rows = rows[:1]
    if not rows or not (rows[0].get("first") or {}).get(key):
        return None
    return rows[0]["first"][key], rows[-1][key]


def learned(run: Record, agreement: dict[str, float] | None) -> Answer:
    """Did it learn? By its evaluations, else its neighbors, else its losses.

    agreement: of the nearest neighbors with the classes (`neighbors.agreement`).
    """
    if not run.stages:
        none = "The net is untrained: the run has no epochs."
        return Answer("open", none if run.finished else "No training has ended yet.")
    last = run.stages[-1]
    trouble = trouble_of(run, last)
    probed = [row for row in run.stages if row.get("probe_knn") is not None]
    untrained = run.baselines.get("untrained", {}).get("probe_knn")
    if probed and untrained is not None:
        measured = probed[-1]["probe_knn"], untrained
        answer = _by_neighbors(*measured, last_images(run))
        return Answer(answer.kind, f"{answer.text} But {trouble}.") if trouble else answer
    if trouble:
        return Answer("bad", f"No: {trouble}.")
    # Classes that thumbnails show no better than chance may be folders of anything.
    if agreement and agreement["thumbnail"] > 1.1 * agreement["chance"]:
        before = run.baselines.get("untrained", {}).get("neighbors")
        for value, than in (
            (agreement["thumbnail"], "those of 4×4 pixel thumbnails do"),
            (before, "before training"),
        ):
            if value is not None and agreement["encoder"] < value:
                return Answer(
                    "open",
                    "Not visibly: its nearest neighbors have the class of their query no more "
                    f"often than {than}.",
                )
        if before is not None:
            return Answer(
                "good",
                f"Yes: {agreement['encoder']:.0f} % of the nearest neighbors have the class of "
                f"their query, and {before:.0f} % before training.",
            )
    key = "accuracy" if run.supervised else "triplet_loss"
    span = span_of(run, key) or span_of(run, "reconstruction_loss")
    if span is None:
        return Answer("open", "It has no losses to compare yet.")
    began, ended = span
    better = ended > began if run.supervised else ended < FELL * began
    what = "training accuracy" if run.supervised else "loss"
    text = f"{'Yes' if better else 'Hardly'}: its {what} went from {began:.3g} to {ended:.3g}."
    if not run.supervised and not agreement:
        text += " How useful its features are only labelled images can tell: see What next."
    return Answer("good" if better else "open", text)


def last_images(run: Record) -> int:
    """Images that the quick evaluation tests on: half of those that it reads."""
    return max(1, min(online.IMAGES, run.summary.get("num_images", online.IMAGES)) // 2)


def _by_neighbors(now: float, untrained: float, images: int) -> Answer:
    """By the 20-NN accuracy in percent; `images` it was tested on, which give its spread."""
    spread = 196 * math.sqrt(max(now / 100 * (1 - now / 100), 1e-4) / images)
    words = f"20-NN accuracy is {now:.1f} %, and {untrained:.1f} % before training"
    if now > untrained + spread:
        return Answer("good", f"Yes: {words}.")
    if now < untrained - spread:
        return Answer("bad", f"No, it became worse: {words}.")
    return Answer(
        "open", f"Not visibly: {words}, a difference within ±{spread:.1f} of {images} test images."
    )


def trouble_of(run: Record, row: dict[str, Any]) -> str:
    """What is wrong with the embedding at the end of a turn, as far as it is known; else ''."""
    known = {"triplet_active", "hardest_positive", "hardest_negative", "pair_distance"}
    if not row.get("triplet_loss") or not known <= row.keys():
        return ""
    names = {field.name for field in dataclasses.fields(LossConfig)}
    config = LossConfig(**{name: value for name, value in run.flags.items() if name in names})
    return wording.trouble({"embedding_norm": 1.0, **row}, config)


def found(run: Record, agreement: dict[str, float] | None) -> list[str]:
    """What did it find? Sentences.

    agreement: of the nearest neighbors with the classes (`neighbors.agreement`).
    """
    sentences = []
    for row in run.labellings[-1:]:
        text = f"{row['num_clusters']} clusters of {row['smallest']} to {row['largest']} images"
        if row.get("nmi_truth") is not None:
            chance = row.get("nmi_chance")
            by_chance = "" if chance is None else f" (by chance {chance:.3f})"
            text += f"; NMI with the classes {row['nmi_truth']:.3f}{by_chance}"
        sentences.append(f"{text}.")
    if agreement:
        untrained = run.baselines.get("untrained", {}).get("neighbors")
        before = "" if untrained is None else f"of the untrained net {untrained:.0f} %, "
        sentences.append(
            f"{agreement['encoder']:.0f} % of the nearest neighbors have the class of their "
            f"query; {before}of 4×4 pixel thumbnails {agreement['thumbnail']:.0f} %, by chance "
            f"{agreement['chance']:.0f} %."
        )
    return sentences


def next_steps(run: Record) -> list[tuple[str, str]]:
    """What next? (what it is for, the command)."""
    path, flags = shlex.quote(run.workdir.path), run.flags
    command = "supervised" if run.supervised else "train"
    if not run.finished:
        resume = f"python -m mgta_tf.{command} --flagfile={shlex.quote(run.workdir.flagfile)}"
        return [("Resume the run where it stopped.", resume)]
    exported = run.summary.get("saved_model")
    model = exported or os.path.join(run.workdir.path, "saved_model")
    steps = []
    if not exported:
        export = f"python -m mgta_tf.export --workdir={path} --output={shlex.quote(model)}"
        export += "" if run.stages else " --untrained"
        steps.append(("Export the encoder as a SavedModel.", export))
    data = f"--data_dir={shlex.quote(flags['data_dir'] or 'PHOTOS')}"
    uses = f"--saved_model={shlex.quote(model)} {data}"
    steps.append(
        ("Find similar photographs.", f"python -m mgta_tf.search {uses} --query=PHOTO.jpg")
    )
    steps.append(
        (
            "Write a vector for every photograph.",
            f"python -m mgta_tf.embed {uses} --output=vectors.csv",
        )
    )
    if not run.probes:
        output = shlex.quote(os.path.join(run.workdir.path, "probe.json"))
        labelled = f"--saved_model={shlex.quote(model)} --dataset=folder --data_dir=LABELLED"
        steps.append(
            (
                "Evaluate the features on labelled photographs, beside chance and no training.",
                f"python -m mgta_tf.probe {labelled} --output={output}",
            )
        )
    return steps
