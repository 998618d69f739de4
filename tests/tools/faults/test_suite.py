"""A disturbed run ends like an undisturbed one; the comparison counts bytes."""

import signal

from mgta_tf import config as config_lib
from mgta_tf import train
from mgta_tf.training.config import TrainConfig
from tools.faults import suite

SHORT = {**suite.RUN, "iae_epochs": 4, "rounds": 0, "final_epochs": 0, "deterministic": False}


def test_a_killed_and_terminated_run_ends_like_an_undisturbed_one(tmp_path):
    """SIGKILL while it trains, SIGTERM after it has resumed."""
    undisturbed, workdir = str(tmp_path / "undisturbed"), str(tmp_path / "w")
    train.train(config_lib.from_dict(TrainConfig, {**SHORT, "workdir": undisturbed}))
    process = suite.begin(workdir, SHORT)
    assert suite.wait_for_checkpoints(workdir, 3, process)
    process.kill()
    assert suite.end(process)[0] == -signal.SIGKILL
    flags = {**SHORT, "checkpoint_every_steps": 0}
    process = suite.begin(workdir, flags)
    while not any("resuming in" in line for line in iter(process.stdout.readline, "")):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    status, line = suite.end(process)
    assert (status, "stopped by SIGTERM" in line) == (143, True)
    train.train(config_lib.from_dict(TrainConfig, {**SHORT, "workdir": workdir}))
    expected, found = suite.ending(undisturbed), suite.ending(workdir)
    assert suite.bytes_lost(expected, found) == 0
    assert len(expected) > 100
    assert suite.checksum(expected) == suite.checksum(found)


def test_differences_are_counted_in_bytes():
    one = {"a": b"1234", "b": b"xy", "c": b"same"}
    assert suite.bytes_lost(one, {"a": b"1235", "c": b"same", "d": b"z"}) == 4 + 2 + 1
    assert suite.bytes_lost(one, dict(one)) == 0
    assert suite.checksum(one) != suite.checksum({**one, "a": b"1235"})
