"""Pre-trains two auto-encoders that guide each other by pseudo labels (MGTA).

  python -m mgta_tf.train --flagfile=flags/quickstart.flagfile --workdir=runs/quickstart
  python -m mgta_tf.train --data_dir=PHOTOS --workdir=runs/mine --num_clusters=100

An interrupted run resumes: rerun the same command.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from mgta_tf import cli
from mgta_tf.data.store import open_images
from mgta_tf.runtime.workdir import open_workdir
from mgta_tf.training import guidance, labeller, preflight, trainer
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.guidance import Turn
from mgta_tf.training.labeller import Labelling
from mgta_tf.training.session import Session
from mgta_tf.training.visualizer import Visualizer

Labeller = Callable[[Session, Turn, np.ndarray], Labelling]


def main(config: TrainConfig) -> None:
    train(config)


def train(config: TrainConfig, label: Labeller = labeller.label) -> Session:
    """Trains N1 and N2 from the images to the last checkpoint.

    Args:
      config: Everything that decides the run.
      label: Makes the pseudo labels of a turn's images; an experiment may pass another.

    Returns:
      The session at its end.

    Raises:
      UserError: the input, the flags or the disk are at fault.
    """
    workdir = open_workdir(config.run.workdir, config)
    store = open_images(
        config.data,
        config.augment.image_size,
        workdir.skipped,
        check=functools.partial(preflight.check, config),
    )
    session = Session.open(config, workdir, store)
    view = Visualizer(session)
    nets, labels = session.nets, session.labels

    # The algorithm: §3.4 and §4.2 as one sequence of GLPs and TMPs.
    for number, turn in session.turns_left():
        images = guidance.images_of(turn, len(store), config.guidance, config.run.seed)
        if turn.process == "GLP":
            found = label(session, turn, images)
            session.keep_labels(turn, images, found.labels, found.clusters)
            row = view.labelling(number, images, found)
        else:
            targets = guidance.labels_of(turn, images, labels, config.guidance)
            trained = trainer.train(session, number, images, targets, view.point)
            if turn.stage == "iae":
                nets[1].copy_weights(nets[0])
            row = view.training(number, trained)
        session.finish(number, row)
    session.close()
    return session


if __name__ == "__main__":
    cli.run(main, TrainConfig)
