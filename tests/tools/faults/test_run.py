"""The short form of the fault suite: a kill, a signal, damaged files; and how it counts."""

import contextlib
import json
import signal

import hypothesis
import pytest

from mgta_tf import config as config_lib
from mgta_tf import train
from mgta_tf.data.images import BadImage
from mgta_tf.errors import UserError
from mgta_tf.training.config import TrainConfig
from tools.faults import readers as fuzz_readers
from tools.faults import run as faults

SHORT = {**faults.RUN, "iae_epochs": 4, "rounds": 0, "final_epochs": 0, "deterministic": False}


def test_a_run_that_is_killed_and_terminated_ends_as_one_that_was_not(tmp_path):
    """SIGKILL while it trains, SIGTERM when it has resumed."""
    quiet, workdir = str(tmp_path / "quiet"), str(tmp_path / "w")
    train.main(config_lib.from_dict(TrainConfig, {**SHORT, "workdir": quiet}))
    process = faults.begin(workdir, SHORT)
    assert faults.wait_for_checkpoints(workdir, 3, process)
    process.kill()
    assert faults.end(process)[0] == -signal.SIGKILL
    flags = {**SHORT, "checkpoint_every_steps": 0}
    process = faults.begin(workdir, flags)
    while not any("resuming in" in line for line in iter(process.stdout.readline, "")):
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    status, said = faults.end(process)
    assert (status, "stopped by SIGTERM" in said) == (143, True)
    train.main(config_lib.from_dict(TrainConfig, {**SHORT, "workdir": workdir}))
    expected, found = faults.ending(quiet), faults.ending(workdir)
    assert faults.bytes_lost(expected, found) == 0
    assert len(expected) > 100
    assert faults.checksum(expected) == faults.checksum(found)


def test_what_differs_is_counted_in_bytes():
    one = {"a": b"1234", "b": b"xy", "c": b"same"}
    assert faults.bytes_lost(one, {"a": b"1235", "c": b"same", "d": b"z"}) == 4 + 2 + 1
    assert faults.bytes_lost(one, dict(one)) == 0
    assert faults.checksum(one) != faults.checksum({**one, "a": b"1235"})


def test_rows_are_kept_between_two_calls(tmp_path, monkeypatch):
    calls = []

    def case(suite):
        calls.append(suite.before)
        yield {"one": {"tries": 3, "survived": 3, "bytes_lost": 0}}

    monkeypatch.setattr(faults, "cases", lambda: {"one": case})
    config = faults.FaultsConfig(output=str(tmp_path / "f.json"))
    for _ in range(2):
        faults.main(faults.Command(config))
    assert calls == [{}]
    row = json.loads((tmp_path / "f.json").read_text())[0]
    assert (row["case"], row["form"], row["tries"]) == ("one", "long", 3)
    with pytest.raises(UserError, match="no such case"):
        faults.main(faults.Command(faults.FaultsConfig(only="two")))


@pytest.mark.parametrize("reader", fuzz_readers.READERS)
def test_damaged_files_are_refused_or_read(reader, tmp_path):
    """A hundred of each kind; `make faults` damages them for an hour, in processes that may die."""
    seeds, read = fuzz_readers.READERS[reader](str(tmp_path))
    examples = 40 if reader in ("checkpoints", "tfrecords", "records") else 150

    @hypothesis.seed(0)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(fuzz_readers.damaged(seeds))
    def once(data):
        with contextlib.suppress(UserError, BadImage):
            read(data)

    once()
    for seed in seeds[:1]:
        read(seed)  # as it should be
