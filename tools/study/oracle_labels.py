"""mgta_tf.train with oracle labels: how pure must labels be for guidance to help?

  python -m tools.study.oracle_labels --right=0.5 --data_dir=tiny-imagenet-100 --workdir=runs/oracle

It takes the flags of mgta_tf.train. A net learns from classes in place of clusters: from the right
class for a share of the images, from a random class for the others. This is not self-supervised; it
tells whether guidance fails because of its labels or for another reason.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from absl import flags

from mgta_tf import cli, train
from mgta_tf.clustering import diagnostics
from mgta_tf.data.sources import open_source
from mgta_tf.errors import UserError
from mgta_tf.training import labeller
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.guidance import Turn
from mgta_tf.training.labeller import Labelling
from mgta_tf.training.session import Session

RIGHT = flags.DEFINE_float(
    "right",
    1.0,
    "Share of the images whose label is their class, drawn once for all rounds.",
    lower_bound=0.0,
    upper_bound=1.0,
)


def oracle_labels(classes: np.ndarray, right: float, seed: int) -> np.ndarray:
    """Labels of which a share is right; the others are drawn among all classes.

    Args:
      classes: int [N], from 0.
      right: the share, 0 to 1. Two images with the same label are of the same class with a
        probability of `right`², and by chance otherwise.
      seed: of the images with right labels, and of the labels of the others.

    Returns:
      int32 [N].
    """
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(classes))[round(right * len(classes)) :]
    labels = np.array(classes, np.int32)
    labels[wrong] = rng.integers(classes.max() + 1, size=len(wrong))
    return labels


def label(session: Session, turn: Turn, images: np.ndarray) -> Labelling:
    """Clusters as `labeller.label` does, then replaces the labels by oracle labels.

    So a collapsed net still stops the run. Label files and galleries show the clusters; agreement
    with the classes in the history is that of the oracle labels.
    """
    all_classes = session.store.labels
    assert all_classes is not None  # `main` refuses images without classes
    found = labeller.label(session, turn, images)
    classes = all_classes[images]
    labels = oracle_labels(all_classes, RIGHT.value, session.config.run.seed)[images]
    nmi, ari = diagnostics.agreement(classes, labels)
    purity = diagnostics.purity(classes, labels)
    row = {**found.row, "nmi_truth": nmi, "ari_truth": ari, "purity": purity}
    return dataclasses.replace(found, labels=labels, row=row)


def main(config: TrainConfig) -> None:
    if open_source(config.data).labels is None:  # refused at the start, not after stage 1
        where = config.data.data_dir
        raise UserError(f"--data_dir={where}: no class labels found; use one sub-folder per class")
    train.train(config, label)


if __name__ == "__main__":
    cli.run(main, TrainConfig)
