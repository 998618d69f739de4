"""The chief by TF_CONFIG, and stopping all hosts. `make two-workers` trains on two of them."""

import json
import os
import signal
import subprocess
import sys

import pytest
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.runtime import hosts
from mgta_tf.runtime.workdir import open_workdir
from mgta_tf.training.config import SupervisedConfig
from tools.faults import suite


def config(task, **cluster):
    return json.dumps({"cluster": cluster, "task": task})


TWO = ["127.0.0.1:1", "127.0.0.1:2"]


@pytest.mark.parametrize(
    ("tf_config", "several", "chief"),
    [
        ("", False, True),
        (config({"type": "worker", "index": 0}, worker=TWO[:1]), False, True),
        (config({"type": "worker", "index": 0}, worker=TWO), True, True),
        (config({"type": "worker", "index": 1}, worker=TWO), True, False),
        (config({"type": "chief", "index": 0}, chief=TWO[:1], worker=TWO[1:]), True, True),
        (config({"type": "worker", "index": 0}, chief=TWO[:1], worker=TWO[1:]), True, False),
    ],
)
def test_the_chief_is_the_first(monkeypatch, tf_config, several, chief):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    assert (hosts.resolver() is not None, hosts.is_chief()) == (several, chief)
    assert hosts.count() == (2 if several else 1)


@pytest.mark.parametrize("tf_config", ["{", config({}, worker=TWO)])
def test_a_wrong_tf_config_is_refused(monkeypatch, tf_config):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(UserError, match="TF_CONFIG"):
        hosts.resolver()


def test_a_single_host_sends_nothing(monkeypatch):
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
    assert workdir.checkpoints == str(tmp_path / "run" / "checkpoints")  # to resume from
    for path in (workdir.summary, workdir.own_checkpoints, workdir.tensorboard, workdir.skipped):
        assert not path.startswith(str(tmp_path / "run"))


def test_only_the_chief_takes_the_lock(monkeypatch, tmp_path):
    """Other hosts may open the folder that the chief has locked; a second chief may not."""
    folder = str(tmp_path / "run")
    program = (
        "import sys, time\n"
        "from mgta_tf.runtime.workdir import open_workdir\n"
        "from mgta_tf.training.config import SupervisedConfig\n"
        "open_workdir(sys.argv[1], SupervisedConfig())\n"
        "print('locked', flush=True)\n"
        "time.sleep(600)\n"
    )
    chief = config({"type": "worker", "index": 0}, worker=TWO)
    environment = {**os.environ, "TF_CONFIG": chief}
    process = subprocess.Popen(
        [sys.executable, "-c", program, folder], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout.readline() == "locked\n"
        monkeypatch.setenv("TF_CONFIG", config({"type": "worker", "index": 1}, worker=TWO))
        assert open_workdir(folder, SupervisedConfig()).path == folder
        monkeypatch.setenv("TF_CONFIG", chief)
        with pytest.raises(UserError, match=f"process {process.pid} on"):
            open_workdir(folder, SupervisedConfig())
    finally:
        process.kill()
        process.communicate()


STOPS = """
import sys, time
from mgta_tf.runtime import hosts, preemption, strategy
preemption.install()
several = strategy.make_strategy(2, "global_batch")
try:
    for step in range(2000):
        if step == 3:
            print("ready", flush=True)
        time.sleep(0.02)
        if hosts.any_of(several, bool(preemption.received_signal())):
            print(f"saved {step}", flush=True)
            hosts.stop_if_signalled(several)
except preemption.Stopped as stopped:
    print(stopped, flush=True)
    sys.exit(stopped.exit_status)
"""


@pytest.mark.parametrize(
    ("host", "number", "status"), [(0, signal.SIGINT, 130), (1, signal.SIGTERM, 143)]
)
def test_a_signal_to_one_host_stops_all_of_them_at_the_same_step(host, number, status):
    """TensorFlow takes over SIGTERM when hosts connect, so our handler must be installed again."""
    processes = suite.begin_hosts([sys.executable, "-c", STOPS])
    try:
        for process in processes:
            lines = iter(process.stdout.readline, "")
            assert any(line == "ready\n" for line in lines)
        processes[host].send_signal(number)
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [status, status]
    steps = [next(line for line in out.splitlines() if line.startswith("saved")) for out in outputs]
    assert steps[0] == steps[1]
    assert all("stopped" in out for out in outputs)
