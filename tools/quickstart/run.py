"""`make quickstart`: encoders trained on digits in random colors, evaluated, and shown.

  python -m tools.quickstart.run

An untrained encoder, the auto-encoder of stage 1 (IAE), the default of `mgta_tf.train` (two views
alone) and one trained with labels. An interrupted quickstart resumes: rerun the same command.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any, NamedTuple

import numpy as np

import mgta_tf
from mgta_tf import cli, export, report, supervised, train
from mgta_tf.config import flag
from mgta_tf.evaluation.labelled import Labelled
from mgta_tf.export import ExportConfig, net_of_run
from mgta_tf.flagfiles import find
from mgta_tf.report import ReportConfig
from mgta_tf.runtime.files import write_json
from mgta_tf.runtime.progress import counting, duration
from mgta_tf.runtime.workdir import Workdir, load_config
from mgta_tf.training.config import SupervisedConfig, TrainConfig
from tools.quickstart import evaluation, pictures

TITLES = {
    "thumbnail": "4×4 thumbnail",
    "pixels": "raw pixels",
    "random": "untrained encoder",
    "iae": "IAE (reconstruction)",
    "default": "default (two views alone)",
    "supervised": "labels and softmax",
}


@dataclasses.dataclass(frozen=True)
class QuickstartConfig:
    """The quickstart."""

    workdir: str = flag("runs/quickstart", "Output folder; a quickstart in it is resumed.")
    seed: int = flag(1, "Random seed of weights and batches.", minimum=0)


@dataclasses.dataclass(frozen=True)
class Runs:
    """The three runs, each with a workdir of its own: the default's holds the others'."""

    default: TrainConfig
    iae: TrainConfig
    supervised: SupervisedConfig

    @classmethod
    def of(cls, config: QuickstartConfig) -> Runs:
        """As flags/quickstart*.flagfile say, in the folder and with the seed of `config`."""

        def loaded(flagfile: str, config_class: type, workdir: str) -> Any:
            run = load_config(find(f"flags/{flagfile}.flagfile"), config_class)
            own = dataclasses.replace(run.run, workdir=workdir, seed=config.seed)
            return dataclasses.replace(run, run=own)

        folder = config.workdir
        return cls(
            loaded("quickstart", TrainConfig, folder),
            loaded("quickstart_iae", TrainConfig, os.path.join(folder, "iae")),
            loaded("quickstart_supervised", SupervisedConfig, os.path.join(folder, "supervised")),
        )


class Measured(NamedTuple):
    """found: what `quickstart.json` says. parts: the digits to fit and to test. features: by the
    names of TITLES, float32 [N, D] of each part.
    """

    found: dict[str, Any]
    parts: list[Labelled]
    features: dict[str, list[np.ndarray]]


def main(config: QuickstartConfig) -> None:
    runs = Runs.of(config)
    measured = measure(runs)
    show(runs, measured)
    print(f"\n{as_text(measured.found)}\n\n{look_at(config.workdir)}")
    print(f"{duration(time.monotonic() - mgta_tf.STARTED)} in all")


def measure(runs: Runs) -> Measured:
    """Trains the encoders and evaluates them, and in their place thumbnails and raw pixels."""
    train.train(runs.default)
    train.train(runs.iae)
    supervised.train(runs.supervised)
    parts = evaluation.sets(runs.default.augment.image_size)
    found, features = dict[str, Any](), dict[str, list[np.ndarray]]()
    with counting(len(TITLES)) as progress:
        for name, title in TITLES.items():
            progress.say(f"evaluating: {title}")
            features[name] = features_of(runs, name, parts)
            found[name] = evaluation.top1(parts, features[name])
            progress.advance(1)
    found.update(
        metric=evaluation.METRIC,
        confidence=evaluation.CONFIDENCE,
        num_train=len(parts[0].targets),
        num_test=len(parts[1].targets),
        seed=runs.default.run.seed,
        ordered=evaluation.ordered(found),
        separated=evaluation.separated(found),
    )
    write_json(os.path.join(runs.default.run.workdir, "quickstart.json"), found)
    return Measured(found, parts, features)


def features_of(runs: Runs, name: str, parts: list[Labelled]) -> list[np.ndarray]:
    """What a line of the table is evaluated on: float32 [N, D] of each part."""
    of_images = {"thumbnail": evaluation.thumbnails, "pixels": evaluation.pixels}
    if name in of_images:
        return [of_images[name](part) for part in parts]
    net, facts = net_of_run(*encoders(runs)[name])
    return [evaluation.embeddings(net, facts, part) for part in parts]


def encoders(runs: Runs) -> dict[str, tuple[Workdir, str]]:
    """Which net of which run each encoder of the table is."""
    default, iae, labelled = (
        Workdir(run.run.workdir) for run in (runs.default, runs.iae, runs.supervised)
    )
    return {
        "random": (default, "untrained"),
        "iae": (iae, "iae"),
        "default": (default, "n2"),
        "supervised": (labelled, "n2"),
    }


def show(runs: Runs, measured: Measured) -> None:
    """Writes the SavedModel, the pictures and the report."""
    folder = runs.default.run.workdir
    saved_model = os.path.join(folder, "saved_model")
    if not os.path.exists(os.path.join(saved_model, "saved_model.pb")):
        export.main(ExportConfig(workdir=folder, output=saved_model))
    net, facts = net_of_run(*encoders(runs)["iae"])
    train_part, test_part = measured.parts
    path = os.path.join(folder, "reconstructions.png")
    pictures.reconstructions(net, facts, test_part, path)
    default, untrained = (measured.features[name][0] for name in ("default", "random"))
    path = os.path.join(folder, "clusters.png")
    pictures.clusters(default, untrained, train_part, path)
    report.main(ReportConfig(workdir=folder))


def as_text(found: dict[str, Any]) -> str:
    """The table, and whether the order holds."""
    lines = [
        "Handwritten digits (scikit-learn's, 8×8 pixels, enlarged) in random colors on noise.",
        f"Linear SVMs on frozen embeddings: {found['num_train']} digits to fit, {found['num_test']}"
        " others to test.",
        "Top-1 in percent and its 95 % interval over a bootstrap of the test images. Chance is 10.",
        "",
    ]
    for name, title in TITLES.items():
        one = found[name]
        lines.append(f"  {title:28s}{one['value']:5.1f}   {one['low']:.1f} to {one['high']:.1f}")
    order = " < ".join(evaluation.ORDER)
    if found["separated"]:
        verdict = f"{order}: no two of their intervals overlap."
    elif found["ordered"]:
        verdict = f"{order}: the order holds, but intervals overlap."
    else:
        verdict = f"{order}: this order does not hold in this run."
    return "\n".join([*lines, "", verdict])


def look_at(folder: str) -> str:
    return f"""Look at
  {folder}/reconstructions.png   digits above, what the IAE makes of them below
  {folder}/clusters.png          clusters of the default encoder's embeddings
  {folder}/report.html           the run on one page
  {folder}/quickstart.json       the table above
  {folder}/saved_model/          the encoder, for tf.saved_model.load
  tensorboard --logdir={folder}/tensorboard
Next: your own photographs, README.md, "Install and train"."""


if __name__ == "__main__":
    cli.run(main, QuickstartConfig)
