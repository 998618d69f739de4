"""Checkpoints that are damaged, and a disk that is full."""

import types

import pytest
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.runtime.checkpoints import Checkpoints


def learners():
    keras = tf.keras
    found = []
    for _ in range(2):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        optimizer = keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)
        found.append(types.SimpleNamespace(model=model, optimizer=optimizer))
    return found


def set_all(nets, value):
    for net in nets:
        for variable in net.model.variables:
            variable.assign(tf.fill(variable.shape, value))


@pytest.fixture
def three(tmp_path):
    """Three checkpoints, of weights 1, 2 and 3."""
    nets = learners()
    checkpoints = Checkpoints(str(tmp_path), nets, keep=3)
    for value in (1.0, 2.0, 3.0):
        set_all(nets, value)
        checkpoints.save(int(value), 7, [{"seconds": value}])
    return tmp_path


def restored(folder):
    nets = learners()
    position = Checkpoints(str(folder), nets, keep=3).restore()
    return position, [float(v.numpy().flat[0]) for net in nets for v in net.model.variables]


def test_the_newest_is_taken_with_its_position(three):
    assert restored(three) == ((3, 7, [{"seconds": 3.0}]), [3.0] * 4)


def test_without_any_a_run_begins(tmp_path):
    assert restored(tmp_path)[0] == (0, 0, [])


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_one_falls_back_to_the_one_before_and_says_so(three, part, damage, capsys):
    path = three / f"ckpt-3.{part}"
    content = bytearray(path.read_bytes())
    content = content[: len(content) // 2] if damage == "cut" else content
    if damage == "flipped":
        content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))
    assert restored(three) == ((2, 7, [{"seconds": 2.0}]), [2.0] * 4)
    assert "ckpt-3: damaged" in capsys.readouterr().out


def test_when_all_are_damaged_it_stops(three):
    for path in three.glob("ckpt-*.index"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="every checkpoint in it is damaged"):
        restored(three)


def test_a_full_disk_keeps_those_before(three, monkeypatch):
    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "x; No space left on device")

    nets = learners()
    checkpoints = Checkpoints(str(three), nets, keep=3)
    monkeypatch.setattr(tf.train.CheckpointManager, "save", full)
    with pytest.raises(UserError, match=r"No space left on device.*those before it are whole"):
        checkpoints.save(4, 0, [])
    assert restored(three)[0][0] == 3
