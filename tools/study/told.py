"""mgta_tf.train with labels that are told: how right must they be for guidance to help?

  python -m tools.study.told --right=0.5 --data_dir=tiny-imagenet-100 --workdir=runs/told

Everything is as in mgta_tf.train, of which it takes the flags; but a TMP gets the image's class for
a share of the images, and a random class for the others, in place of the clusters. So it is no
self-supervised method: it tells apart whether guidance fails for its labels or for something else.
"""

from __future__ import annotations

import numpy as np
from absl import flags

from mgta_tf import cli, clustering, train
from mgta_tf.data.store import ImageStore
from mgta_tf.errors import UserError
from mgta_tf.run import Run
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.training.guidance import Turn

RIGHT = flags.DEFINE_float(
    "right",
    1.0,
    "Share of the images whose label is their class. Decided once, for all rounds.",
    lower_bound=0.0,
    upper_bound=1.0,
)


def told(classes: np.ndarray, right: float, seed: int) -> np.ndarray:
    """Labels of which a share is right; the others are drawn among all classes.

    Args:
      classes: int [N], from 0.
      right: the share, 0 to 1; two images of one label then are of one class with a probability of
        `right`², and else by chance.
      seed: of which images, and of what they are told.

    Returns:
      int32 [N].
    """
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(len(classes))[round(right * len(classes)) :]
    labels = np.array(classes, np.int32)
    labels[wrong] = rng.integers(classes.max() + 1, size=len(wrong))
    return labels


class ToldRun(Run):
    """A run that clusters as ever, and then forgets the clusters for what it is told.

    So a net that has collapsed still ends the run; the files and pictures of labels are of the
    clusters, the summary's agreement with the classes is of what is told.

    Raises:
      UserError: the images have no classes.
    """

    def __init__(
        self,
        config: train.TrainConfig,
        workdir: Workdir,
        store: ImageStore,
        schedule: list[Turn],
    ):
        if store.labels is None:
            raise UserError(f"--data_dir={config.data.data_dir}: no classes in it to tell")
        super().__init__(config, workdir, store, schedule)
        self._classes = store.labels
        self._told = told(store.labels, RIGHT.value, config.run.seed)

    def cluster(self, turn: Turn, images: np.ndarray, features: np.ndarray) -> np.ndarray:
        """As `Run.cluster`, but what is told: int32 [n]."""
        super().cluster(turn, images, features)
        classes, labels = self._classes[images], self._told[images]
        nmi, ari = clustering.agreement(classes, labels)
        purity = clustering.purity(classes, labels)
        self.history[-1].update(nmi_truth=nmi, ari_truth=ari, purity=purity)
        return labels


def main(config: train.TrainConfig) -> None:
    train.Run = ToldRun  # type: ignore[misc]
    train.main(config)


if __name__ == "__main__":
    cli.run(main, train.TrainConfig)
