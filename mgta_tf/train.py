"""Pre-trains an encoder on two views of each image, or by MGTA, as in the paper (paper.flagfile).

  python -m mgta_tf.train --data_dir=PHOTOS --workdir=runs/mine
  python -m mgta_tf.train --data_dir=PHOTOS --workdir=runs/mine --minutes=30
  python -m mgta_tf.train --flagfile=flags/paper.flagfile --data_dir=PHOTOS --workdir=runs/paper

An interrupted run resumes: rerun the same command.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import mgta_tf
from mgta_tf import cli
from mgta_tf import config as config_lib
from mgta_tf.data.sources import Source
from mgta_tf.data.store import open_images
from mgta_tf.runtime.workdir import open_workdir
from mgta_tf.training import auto, guidance, labeller, preflight, quick_probe, trainer
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.guidance import Turn
from mgta_tf.training.labeller import Labelling
from mgta_tf.training.session import Session
from mgta_tf.training.visualizer import Visualizer

Labeller = Callable[[Session, Turn, np.ndarray], Labelling]


def main(flags: dict[str, Any]) -> None:
    """Entry point: replaces `auto` flags by values that suit images and machine, then trains."""
    config, source = auto.config_of_run(flags, began=mgta_tf.STARTED)
    train(config, source=source, began=mgta_tf.STARTED)


def train(
    config: TrainConfig,
    label: Labeller = labeller.label,
    source: Source | None = None,
    began: float | None = None,
) -> Session:
    """Runs MGTA (§3.4, §4.2): stage 1, the rounds of GLP and TMP, and stage 3.

    Args:
      config: All flags of the run.
      label: Makes the pseudo labels of a turn's images; experiments may pass another function.
      source: Images to use in place of `config.data`.
      began: Start time of the command by `time.monotonic`; None means now.

    Returns:
      The finished session.

    Raises:
      UserError: unusable images or flags, damaged checkpoints, training that failed, or a full
        disk.
    """
    began = time.monotonic() if began is None else began
    workdir = open_workdir(config.run.workdir, config)
    store = open_images(
        config.data,
        config.augment.image_size,
        workdir.skipped,
        check=functools.partial(preflight.check, config),
        source=source,
        remembered=workdir.checked,
    )
    session = Session.open(config, workdir, store, began)
    visualizer = Visualizer(session)
    with session.progress:
        _take_turns(session, visualizer, label)
    session.close()
    return session


def _take_turns(session: Session, visualizer: Visualizer, label: Labeller) -> None:
    """The algorithm: §3.4 and §4.2 as one sequence of turns, each a GLP or a TMP."""
    config, store = session.config, session.store
    n1, n2 = session.nets
    quick_probe.write_baselines(session)
    for number, turn in session.remaining_turns():
        images = guidance.images_of(turn, len(store), config.guidance, config.run.seed)
        if turn.process == "GLP":  # §3.2: a net encodes the images; their clusters become labels
            labelling = label(session, turn, images)
            session.keep_labels(turn, images, labelling.labels, labelling.clusters)
            row = visualizer.show_labelling(number, images, labelling)
        else:  # TMP, §3.3: a net trains, after stage 1 with labels
            labels = guidance.labels_of(turn, images, session.labels, config.guidance)
            training = trainer.train(session, number, images, labels, visualizer.show_point)
            if turn.stage == "iae":
                n2.copy_weights(n1)
            row = visualizer.show_training(number, training)
        session.finish(number, row)


if __name__ == "__main__":
    cli.run(main, TrainConfig, config_lib.leaves)
