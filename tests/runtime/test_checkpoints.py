"""Damaged checkpoints, kills while saving, and a full disk."""

import gc
import json
import signal
import types

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.runtime import checkpoints as checkpoints_lib
from mgta_tf.runtime import preemption
from mgta_tf.runtime.checkpoints import Cadence, Checkpoints, Position


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


LABELS = {0: np.arange(5, dtype=np.int32), None: np.full(3, -1, np.int32)}


@pytest.fixture
def three(tmp_path):
    """Three checkpoints, of weights 1, 2 and 3."""
    nets = learners()
    checkpoints = Checkpoints(str(tmp_path), nets, keep=3)
    for value in (1.0, 2.0, 3.0):
        set_all(nets, value)
        log = {"first": {"loss": value}}
        checkpoints.save(Position(int(value), 7, [{"seconds": value}], log, LABELS, "these"))
    return tmp_path


def restored(folder, data="these"):
    nets = learners()
    position = Checkpoints(str(folder), nets, keep=3).restore(data)
    return position, [float(v.numpy().flat[0]) for net in nets for v in net.model.variables]


def assert_restores(folder, value):
    position, weights = restored(folder)
    assert (position.turn, position.step, position.history) == (value, 7, [{"seconds": value}])
    assert position.log == {"first": {"loss": value}}
    assert position.labels.keys() == LABELS.keys()
    for half, labels in LABELS.items():
        np.testing.assert_array_equal(position.labels[half], labels)
    assert weights == [value] * 4


def test_the_newest_is_restored_with_its_position(three):
    assert_restores(three, 3.0)
    assert tf.train.latest_checkpoint(three) == str(three / "ckpt-3")


def test_a_run_without_checkpoints_starts_from_scratch(tmp_path):
    assert restored(tmp_path)[0] == Position(data="these")


def test_a_run_killed_in_its_first_save_starts_from_scratch(tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(checkpoints_lib, "_write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            Checkpoints(str(tmp_path), learners(), keep=1).save(Position(1, 7))
    assert (tmp_path / "ckpt-1.index").exists()
    assert not checkpoints_lib.exist(str(tmp_path))
    assert restored(tmp_path)[0] == Position(data="these")


def test_checkpoints_of_an_earlier_version_are_not_overwritten(three):
    for path in three.glob("ckpt-*.json"):
        path.unlink()
    assert checkpoints_lib.exist(str(three))
    with pytest.raises(UserError, match="another version"):
        restored(three)


def test_the_newest_are_kept_and_leftovers_of_a_kill_deleted(three):
    (three / "ckpt-9_temp").mkdir()
    (three / "ckpt-9_temp" / "part").write_bytes(b"x")
    (three / "ckpt-9.index").write_bytes(b"x")  # without a manifest: unfinished
    (three / "iae.index").write_bytes(b"x")
    assert_restores(three, 3.0)
    Checkpoints(str(three), learners(), keep=2).save(Position(4, 0))
    left = {path.name.partition(".")[0] for path in three.iterdir()}
    assert left == {"ckpt-3", "ckpt-4", "iae", "checkpoint"}


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001", "json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "gone"])
def test_a_damaged_checkpoint_is_reported_and_the_previous_one_restored(
    three, part, damage, capsys
):
    path = three / f"ckpt-3.{part}"
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 3] ^= 0xFF
    path.write_bytes({"cut": content[: len(content) // 2], "emptied": b""}.get(damage, content))
    if damage == "gone":
        path.unlink()
    assert_restores(three, 2.0)
    unfinished = part == "json" and damage == "gone"
    assert ("ckpt-3: damaged" in capsys.readouterr().out) != unfinished


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b'model_checkpoint_path: "elsewhere"'])
def test_tensorflows_own_list_is_not_needed(three, content):
    (three / "checkpoint").write_bytes(content)
    assert_restores(three, 3.0)
    (three / "checkpoint").unlink()
    assert_restores(three, 3.0)


def test_damage_is_found_before_tensorflow_reads(three, monkeypatch):
    path = three / "ckpt-3.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    read = []
    whole = tf.train.Checkpoint.read
    monkeypatch.setattr(
        tf.train.Checkpoint, "read", lambda self, path: read.append(path) or whole(self, path)
    )
    assert_restores(three, 2.0)
    assert read == [str(three / "ckpt-2")]


def test_a_damaged_checkpoint_does_not_replace_a_good_one(three):
    (three / "ckpt-3.json").write_bytes(b"{}")
    checkpoints = Checkpoints(str(three), learners(), keep=2)
    checkpoints.restore("these")
    checkpoints.save(Position(4, 0))
    assert {path.stem for path in three.glob("ckpt-*.json")} == {"ckpt-2", "ckpt-4"}


def test_a_manifest_has_size_checksum_and_position(three):
    manifest = json.loads((three / "ckpt-2.json").read_text())
    assert (manifest["turn"], manifest["step"]) == (2, 7)
    assert set(manifest["files"]) == {"ckpt-2.index", "ckpt-2.data-00000-of-00001"}
    assert manifest["files"]["ckpt-2.index"]["bytes"] == (three / "ckpt-2.index").stat().st_size


def test_other_images_are_refused(three):
    with pytest.raises(UserError, match="images are not those"):
        restored(three, data="others")


def test_weights_that_are_not_finite_are_not_saved(three):
    nets = learners()
    set_all(nets, float("inf"))
    with pytest.raises(UserError, match=r"weights of net 1 are not finite.*--learning_rate"):
        Checkpoints(str(three), nets, keep=3).save(Position(4, 0))
    assert_restores(three, 3.0)


def test_a_run_stops_if_all_checkpoints_are_damaged(three):
    for path in three.glob("ckpt-*.index"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="every checkpoint in it is damaged"):
        restored(three)


def test_a_full_disk_keeps_the_earlier_checkpoints(three, monkeypatch):
    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "x; No space left on device")

    nets = learners()
    checkpoints = Checkpoints(str(three), nets, keep=3)
    for owner, name in ((tf.train.Checkpoint, "write"), (checkpoints_lib, "_write_manifest")):
        with monkeypatch.context() as broken:
            broken.setattr(owner, name, full)
            with pytest.raises(
                UserError, match=r"No space left on device.*the earlier ones are intact"
            ):
                checkpoints.save(Position(4, 0))
        assert not list(three.glob("ckpt-4*"))  # the unfinished checkpoint is deleted
        assert_restores(three, 3.0)


def test_saving_leaks_no_memory(tmp_path):
    """TensorFlow leaks about 100 bytes per eager read: 5 MB here, if saving read eagerly."""

    def resident_kb():
        gc.collect()
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    layers = [tf.keras.layers.Dense(4) for _ in range(120)]
    model = tf.keras.Sequential([tf.keras.Input((4,)), *layers])
    learner = types.SimpleNamespace(model=model, optimizer=tf.keras.optimizers.SGD())
    checkpoints = Checkpoints(str(tmp_path), [learner], keep=1)
    for number in range(85):
        if number == 5:
            before = resident_kb()
        checkpoints.save(Position(number, 0))
    assert resident_kb() - before < 1500


def test_when_a_checkpoint_is_due(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints_lib.time, "monotonic", lambda: now[0])
    cadence = Cadence(every_steps=4, every_secs=10.0)
    due = []
    for step in range(1, 14):
        now[0] += 3.0
        if cadence.due(step):
            due.append(step)
            cadence.saved()
    assert due == [4, 8, 12]
    cadence, now[0], due = Cadence(0, 10.0), 0.0, []
    cadence._last = 0.0
    for step in range(1, 14):
        now[0] += 3.0
        if cadence.due(step):
            due.append(step)
            cadence.saved()
    assert due == [4, 8, 12]  # after 12, 24, 36 seconds
    monkeypatch.setattr(preemption, "received_signal", lambda: signal.SIGTERM)
    assert cadence.due(13)


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("cut", [True, False])
def test_damaged_checkpoints_are_removed_from_tensorflows_list(tmp_path, part, cut, capsys):
    def damage(number):
        path = tmp_path / f"ckpt-{number}.{part}"
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 0xFF
        path.write_bytes(content[: len(content) // 2] if cut else content)

    state = tf.train.Checkpoint(weights=tf.Variable(tf.ones(100)))
    manager = tf.train.CheckpointManager(state, str(tmp_path), max_to_keep=3)
    for _ in range(3):
        manager.save()
    checkpoints_lib.drop_damaged(str(tmp_path))
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-3")
    for number in (2, 3):
        damage(number)
    checkpoints_lib.drop_damaged(str(tmp_path))
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-1")
    assert "ckpt-3: damaged" in capsys.readouterr().out
    damage(1)
    with pytest.raises(UserError, match="every checkpoint in it is damaged"):
        checkpoints_lib.drop_damaged(str(tmp_path))
