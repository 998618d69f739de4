"""Exports an encoder as a SavedModel, for which `tf.saved_model.load` is enough.

python -m mgta_tf.export --workdir=runs/quickstart --output=runs/quickstart/saved_model
python -m mgta_tf.export --workdir=runs/quickstart --output=/tmp/random --untrained
"""

from __future__ import annotations

import dataclasses
import json
import os

import tensorflow as tf

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.models import artifact
from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.runtime.checkpoints import load_net, load_net_of_run
from mgta_tf.runtime.eta import Work
from mgta_tf.runtime.files import write_json
from mgta_tf.runtime.progress import Progress
from mgta_tf.runtime.workdir import Workdir, load_config
from mgta_tf.training.config import SupervisedConfig, TrainConfig

NAMES = {
    "iae": "encoder of stage 1 (IAE)",
    "n1": "encoder of net 1",
    "n2": "trained encoder",
    "supervised": "encoder trained with labels",
    "untrained": "untrained encoder",
}


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Export."""

    workdir: str = flag("", "Folder of the run.")
    output: str = flag("", "Folder for the SavedModel; must be new or empty.")
    net: str = flag(
        "n2",
        "Net to export: the auto-encoder of stage 1, N1, or N2, the result of the method "
        "(§4.2). Runs of mgta_tf.supervised have a single net.",
        choices=("iae", "n1", "n2"),
    )
    untrained: bool = flag(
        False, "Random weights in place of trained ones: the first row of Table 2."
    )


def main(config: ExportConfig) -> None:
    if not config.output:
        raise UserError("--output is required: a folder for the SavedModel")
    if os.path.isdir(config.output) and os.listdir(config.output):
        raise UserError(f"--output={config.output} is not empty; choose another folder")
    workdir = Workdir(config.workdir)
    with Progress([Work("export", 1)]) as progress:
        progress.say("building the net and loading its weights")
        autoencoder, facts = net_of_run(workdir, "untrained" if config.untrained else config.net)
        progress.say("writing the SavedModel")
        artifact.save(autoencoder, facts, config.output)
    net = facts.net
    if net in ("n2", "supervised") and os.path.exists(workdir.summary):
        with open(workdir.summary, encoding="utf-8") as file:
            summary = json.load(file)
        write_json(workdir.summary, {**summary, "saved_model": config.output})
    decoder = " and decoder" if autoencoder.decoder else ""
    print(f"{config.output}: {NAMES[net]}{decoder}, for images of {facts.image_size} px")


def net_of_run(workdir: Workdir, net: str) -> tuple[tf.keras.Model, artifact.Facts]:
    """A net of a run, and the facts that are exported with it.

    Args:
      workdir: Workdir of the run.
      net: 'n1', 'n2', 'iae' or 'untrained'; a run of mgta_tf.supervised has a single trained net.

    Raises:
      UserError: the run has not saved it.
    """
    supervised = os.path.exists(f"{workdir.supervised}.index")
    trained = load_config(workdir.flagfile, SupervisedConfig if supervised else TrainConfig)
    tf.keras.utils.set_random_seed(trained.run.seed)
    autoencoder = build_autoencoder(trained.model)
    if supervised and net != "untrained":
        net = "supervised"
        load_net(autoencoder.encoder, workdir.supervised)  # the decoder has not been trained
    elif net == "iae":
        load_net(autoencoder, workdir.iae)
    elif net in ("n1", "n2"):
        load_net_of_run(autoencoder, workdir.checkpoints, index=int(net[1]) - 1)
    elif net != "untrained":
        raise UserError(f"net {net!r}: must be n1, n2, iae or untrained")
    augment = trained.augment
    return autoencoder, artifact.Facts(
        trained.model, augment.normalization, augment.image_size, net
    )


if __name__ == "__main__":
    cli.run(main, ExportConfig)
