"""The estimate of disk and memory, by hand for a small net."""

import types

import pytest
import tensorflow as tf

from mgta_tf.models.encoder import ModelConfig
from mgta_tf.training import needs


def test_the_estimate_matches_sums_computed_by_hand(tmp_path):
    model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(3)])
    optimizer = tf.keras.optimizers.SGD(momentum=0.9)
    optimizer.build(model.trainable_variables)
    learner = types.SimpleNamespace(model=model, optimizer=optimizer)
    config = ModelConfig(width=1.0, blocks=(1, 1, 1, 1), decoder="mirror")
    found = needs.estimate(
        [learner, learner], config, batch=2, image_size=32, keep=3, images=1000, labels=70
    )
    # 9 weights and 9 momenta of 4 bytes, the number of steps of 8
    assert found.checkpoint == 2 * (4 * 18 + 8)
    assert found.disk == {"checkpoints": 4 * found.checkpoint, "labels": 70}
    values = 64 * 16**2 + 6 * (64 * 8**2 + 128 * 4**2 + 256 * 2**2 + 512)
    assert found.memory["a step"] == 2 * 2 * 4 * 2 * values
    assert found.memory["nets"] == found.checkpoint + 4 * 9
    assert found.memory["graphs"] == 2 * 4 * 28 * 2**20  # two nets of four blocks
    line = needs.estimate_line(found, str(tmp_path))
    assert line.startswith("needs about 0 MB of disk (checkpoints of 0 MB; ")
    assert "images" in line
    assert "features" not in line


@pytest.mark.parametrize(("disk", "memory"), [(2**60, 1), (1, 2**60), (2**60, 2**60)])
def test_insufficient_resources_are_reported(tmp_path, disk, memory):
    line = needs.estimate_line(
        needs.Needs(1, {"checkpoints": disk}, {"a step": memory}), str(tmp_path)
    )
    short = [name for name, size in (("disk", disk), ("memory", memory)) if size > 1]
    assert line.endswith(f"There may not be enough {' or '.join(short)}")
