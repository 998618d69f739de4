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
    """Runs MGTA (§3.4, §4.2): stage 1, the rounds of GLP and TMP, and stage 3.

    Args:
      config: All flags of the run.
      label: Makes the pseudo labels of a turn's images; an experiment may pass another function.

    Returns:
      The finished session.

    Raises:
      UserError: unusable images, flags that do not fit the images, or a disk that is full.
    """
    workdir = open_workdir(config.run.workdir, config)
    store = open_images(
        config.data,
        config.augment.image_size,
        workdir.skipped,
        check=functools.partial(preflight.check, config),
    )
    session = Session.open(config, workdir, store)
    visualizer = Visualizer(session)
    n1, n2 = session.nets

    # The algorithm: §3.4 and §4.2 as one sequence of turns, each a GLP or a TMP.
    for number, turn in session.remaining_turns():
        images = guidance.images_of(turn, len(store), config.guidance, config.run.seed)
        if turn.process == "GLP":  # §3.2: one net encodes the images, k-means labels them
            labelling = label(session, turn, images)
            session.keep_labels(turn, images, labelling.labels, labelling.clusters)
            row = visualizer.show_labelling(number, images, labelling)
        else:  # TMP, §3.3: the other net trains with these labels
            labels = guidance.labels_of(turn, images, session.labels, config.guidance)
            training = trainer.train(session, number, images, labels, visualizer.show_point)
            if turn.stage == "iae":
                n2.copy_weights(n1)
            row = visualizer.show_training(number, training)
        session.finish(number, row)
    session.close()
    return session


if __name__ == "__main__":
    cli.run(main, TrainConfig)
