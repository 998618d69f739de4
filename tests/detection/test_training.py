"""The command as a user gives it, through Model Garden's own trainer, on four drawn images."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mgta_tf import detect
from mgta_tf.detection import training
from mgta_tf.detection.config import CacheConfig, DetectConfig, DetectRunConfig
from mgta_tf.errors import UserError
from mgta_tf.models import artifact


def with_run(config, **flags):
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **flags))


def weights_of(workdir):
    """The newest checkpoint's weights by the name of their layer and variable."""
    reader = tf.train.load_checkpoint(os.path.join(workdir, "checkpoints"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith("model/") and "OPTIMIZER" not in name
    }


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """A run that was killed at step 60 and resumed: (config, workdir, detection.json)."""
    workdir = str(tmp_path_factory.mktemp("run") / "w")
    config = with_run(small, workdir=workdir)
    after_loop = training.Detector._after_loop

    def killed(self, outputs):
        after_loop(self, outputs)
        if self.step == 60:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Detector, "_after_loop", killed)
        with pytest.raises(KeyboardInterrupt):
            detect.main(config)
    detect.main(config)
    with open(os.path.join(workdir, "detection.json")) as file:
        return config, workdir, json.load(file)


def test_four_images_are_learnt_by_heart_across_a_kill(trained, capsys):
    config, workdir, found = trained
    assert found["ap50_voc07"] >= 90
    assert found["ap50_area"] >= 90
    assert found["coco_ap50"] >= 90
    assert found["per_class"]["bird"] >= 90
    assert found["per_class"]["cat"] is None
    assert found["diverged"] is False
    assert found["seconds_per_step"] > 0
    assert found["steps"] == 200
