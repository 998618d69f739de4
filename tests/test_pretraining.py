"""mgta_tf.pretrain: the training command from Python."""

import json
import os
import signal

import numpy as np
import pytest
from small import DATA_AND_NET

import mgta_tf
from mgta_tf import export
from mgta_tf.data.in_memory import source_of
from mgta_tf.data.shapes import single_object
from mgta_tf.data.store import load_store
from mgta_tf.errors import UserError
from mgta_tf.runtime import checkpoints, preemption

NET = {name: DATA_AND_NET[name] for name in ("image_size", "width", "blocks")}
FLAGS = {**NET, "final_epochs": 4, "clusters_per_batch": 8, "checkpoint_every_steps": 3}


@pytest.fixture(scope="module")
def images():
    return np.stack([single_object(number, seed=0)[:32, :32] for number in range(48)])


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    return mgta_tf.pretrain(images, workdir=tmp_path_factory.mktemp("run") / "w", **FLAGS)


def test_a_run_from_an_array_gives_its_encoder(run, images, tmp_path):
    assert run.summary["num_images"] == 48
    assert run.summary["data_fingerprint"] == load_store(source_of(images), size=32).fingerprint()
    assert run.summary["stages"][-1]["steps"] == 48 * 4 // 16
    encoder = run.encoder()
    assert encoder.facts.image_size == 32
    table = mgta_tf.embed(encoder, images)
    assert table.names == [str(number) for number in range(48)]
    assert np.ptp(table.vectors, axis=0).max() > 0
    # mgta_tf.export writes the same encoder.
    output = str(tmp_path / "saved_model")
    export.main(export.ExportConfig(workdir=run.workdir, output=output))
    exported = mgta_tf.embed(mgta_tf.load_encoder(output), images)
    np.testing.assert_array_equal(exported.vectors, table.vectors)
    with pytest.raises(UserError, match="net 'n3': must be n1, n2, iae or untrained"):
        run.encoder("n3")


def test_ctrl_c_saves_and_the_same_call_resumes(run, images, tmp_path, monkeypatch):
    """A run interrupted in its third step ends with the weights of an uninterrupted one."""
    before = signal.getsignal(signal.SIGINT)
    saves, steps = checkpoints.Checkpoints.save, []

    def save(self, position):
        saves(self, position)
        steps.append(position.step)
        if steps == [3]:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(checkpoints.Checkpoints, "save", save)
    with pytest.raises(KeyboardInterrupt):
        mgta_tf.pretrain(images, workdir=tmp_path / "w", **FLAGS, deterministic=False)
    assert steps == [3]
    assert signal.getsignal(signal.SIGINT) is before
    resumed = mgta_tf.pretrain(images, workdir=tmp_path / "w", **FLAGS)
    assert steps[-1] == 0  # the end of the turn
    found = mgta_tf.embed(resumed.encoder(), images).vectors
    np.testing.assert_allclose(found, mgta_tf.embed(run.encoder(), images).vectors, rtol=1e-4)
    # Other images are refused.
    with pytest.raises(UserError, match="images"):
        mgta_tf.pretrain(images[::-1], workdir=tmp_path / "w", **FLAGS)


def test_a_second_ctrl_c_stops_at_once():
    with preemption.caught(), preemption.deferred():
        os.kill(os.getpid(), signal.SIGINT)  # is only remembered
        assert preemption.received_signal() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert preemption.received_signal() is None


def test_flags_are_those_of_the_command(tmp_path):
    for flags, message in (
        ({"widht": 1}, "Unknown command line flag 'widht'"),
        ({"image_size": 50}, "--image_size=50: must be a multiple of 32"),
        ({"decoder": "glass"}, "decoder=glass"),
        ({"flagfile": "flags/none.flagfile"}, "flags/none.flagfile: No such file"),
        ({}, "/nowhere: no such folder"),
    ):
        with pytest.raises(UserError, match=message):
            mgta_tf.pretrain("/nowhere", workdir=tmp_path / "w", **flags)
    assert not (tmp_path / "w").exists()


def test_the_flagfile_of_a_run_from_python_is_that_of_the_command(run):
    with open(os.path.join(run.workdir, "flags.flagfile"), encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert {"--image_size=32", "--final_epochs=4", "--blocks=1,1,1,1", "--rounds=0"} <= set(lines)
    assert json.dumps(run.summary)
