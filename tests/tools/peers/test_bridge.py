"""Weights to PyTorch and back; a comparison of both encoders if PyTorch is installed."""

import json
import os
import sys

import numpy as np
import pytest

from mgta_tf.errors import UserError
from tools.peers import bridge

TORCH_PYTHON = os.environ.get("MGTA_TORCH_PYTHON", "")


@pytest.fixture(scope="module")
def encoder():
    return bridge.untrained_encoder(1)


def test_pytorch_names_of_variables():
    names = {
        "conv1_conv/kernel:0": "conv1.conv.weight",
        "conv1_bn/gamma:0": "conv1.bn.weight",
        "res2_block1_proj_bn/beta:0": "res2_block1_proj.bn.bias",
        "res4_block2_3_bn/moving_mean:0": "res4_block2_3.bn.running_mean",
        "res5_block1_2_bn/moving_variance:0": "res5_block1_2.bn.running_var",
    }
    assert {name: bridge.torch_name(name) for name in names} == names


def test_weights_go_to_pytorch_and_back(encoder):
    arrays = bridge.to_torch(encoder)
    assert len(arrays) == len(encoder.weights)  # names are unique
    assert arrays["conv1.conv.weight"].shape == (16, 3, 7, 7)
    kernel = encoder.get_layer("res3_block1_2_conv").kernel.numpy()
    assert arrays["res3_block1_2.conv.weight"][5, 7, 0, 2] == kernel[0, 2, 7, 5]
    other = bridge.untrained_encoder(2)
    bridge.from_torch(other, arrays)
    for ours, theirs in zip(encoder.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_a_python_without_pytorch_is_named(tmp_path):
    missing = str(tmp_path / "python")
    with pytest.raises(UserError, match=f"--torch_python={missing}: No such file"):
        bridge.in_torch(missing, "train", {}, str(tmp_path))
    with pytest.raises(UserError, match=r"torch_methods\.py failed: ModuleNotFound"):
        bridge.in_torch(sys.executable, "train", {}, str(tmp_path))


def test_only_a_finished_training_of_the_same_job_is_reused(tmp_path):
    report, folder = tmp_path / "train.out", str(tmp_path)
    job = {"flags": {"batch": 32}, "seed": 1}
    assert bridge.finished(folder, job) is None
    (tmp_path / "train.json").write_text(json.dumps({**job, "report": str(report)}))
    assert bridge.finished(folder, job) is None
    report.write_text('{"steps": 7}')
    assert bridge.finished(folder, job) == {"steps": 7}
    assert bridge.finished(folder, {**job, "seed": 2}) is None


@pytest.mark.skipif(
    not TORCH_PYTHON,
    reason="PyTorch has an environment of its own: set MGTA_TORCH_PYTHON to its interpreter",
)
def test_both_frameworks_have_the_same_encoder(tmp_path):
    compared = dict(bridge.differences(TORCH_PYTHON, str(tmp_path)))
    assert len(compared) == 17  # five endpoints of three sizes, augmented images, after training
    assert max(compared.values()) < bridge.SAME, compared
