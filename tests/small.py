"""The smallest run with all stages, which the tests of commands share."""

import contextlib
from unittest import mock

import pytest

from mgta_tf import config as config_lib
from mgta_tf.runtime.checkpoints import Checkpoints
from mgta_tf.training.config import TrainConfig

DATA_AND_NET = {
    "data_source": "shapes",
    "shapes_count": 96,
    "image_size": 32,
    "width": 0.0625,
    "blocks": (1, 1, 1, 1),
}
FLAGS = {
    **DATA_AND_NET,
    "decoder": "mirror",
    "labels": "clusters",
    "iae_epochs": 1,
    "rounds": 1,
    "epochs_per_round": 1,
    "final_epochs": 1,
    "num_clusters": "auto",
    "k_candidates": "5,6",
    "clusters_per_batch": 4,
    "images_per_cluster": 4,
    "log_every_steps": 2,
    "probe_every_rounds": 1,
}


def config_of(workdir, **flags):
    return config_lib.from_dict(TrainConfig, {**FLAGS, "workdir": str(workdir), **flags})


@contextlib.contextmanager
def killed_at(reached):
    """The run within must end, killed after the first checkpoint at which `reached(position)`."""
    saves = Checkpoints.save

    def save_and_die(self, position):
        saves(self, position)
        if reached(position):
            raise KeyboardInterrupt

    with mock.patch.object(Checkpoints, "save", save_and_die), pytest.raises(KeyboardInterrupt):
        yield
