"""Who is the chief by TF_CONFIG. `make two-workers` starts two processes and trains."""

import json

import pytest
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.runtime import hosts
from mgta_tf.runtime.workdir import open_workdir


def config(task, **cluster):
    return json.dumps({"cluster": cluster, "task": task})


TWO = ["127.0.0.1:1", "127.0.0.1:2"]


@pytest.mark.parametrize(
    ("said", "several", "chief"),
    [
        ("", False, True),
        (config({"type": "worker", "index": 0}, worker=TWO[:1]), False, True),
        (config({"type": "worker", "index": 0}, worker=TWO), True, True),
        (config({"type": "worker", "index": 1}, worker=TWO), True, False),
        (config({"type": "chief", "index": 0}, chief=TWO[:1], worker=TWO[1:]), True, True),
        (config({"type": "worker", "index": 0}, chief=TWO[:1], worker=TWO[1:]), True, False),
    ],
)
def test_the_chief_is_the_first(monkeypatch, said, several, chief):
    monkeypatch.setenv("TF_CONFIG", said)
    assert (hosts.resolver() is not None, hosts.is_chief()) == (several, chief)


@pytest.mark.parametrize("said", ["{", config({}, worker=TWO)])
def test_a_wrong_tf_config_is_one_line(monkeypatch, said):
    monkeypatch.setenv("TF_CONFIG", said)
    with pytest.raises(UserError, match="TF_CONFIG"):
        hosts.resolver()


def test_alone_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    result = object()
    strategy = tf.distribute.get_strategy()
    assert hosts.from_chief(strategy, lambda: result) is result
    assert hosts.any_of(strategy, True) is True
    assert hosts.any_of(strategy, False) is False


def test_only_the_chief_writes_the_workdir(monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", config({"type": "worker", "index": 1}, worker=TWO))
    workdir = open_workdir(str(tmp_path / "run"), None)
    assert not (tmp_path / "run").exists()
    assert workdir.checkpoints == str(tmp_path / "run" / "checkpoints")  # to go on from
    for path in (workdir.summary, workdir.own_checkpoints, workdir.tensorboard, workdir.skipped):
        assert not path.startswith(str(tmp_path / "run"))
