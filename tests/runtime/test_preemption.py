"""SIGTERM and SIGINT in a process that has something to finish."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from mgta_tf.runtime import preemption
preemption.install()
def ready():
    print("ready", flush=True)
try:
    if sys.argv[1] == "deferred":
        with preemption.deferred():
            ready()
            for step in range(50):
                time.sleep(0.05)
                if preemption.received_signal():
                    print("saved", flush=True)
                    preemption.stop_if_signalled()
    elif sys.argv[1] == "busy":
        with preemption.deferred():
            ready()
            while True:  # never checks for a signal
                time.sleep(0.05)
    else:
        ready()
        time.sleep(10)
    print("end")
except Exception:
    print("swallowed")
except preemption.Stopped as stopped:
    print(stopped)
    sys.exit(stopped.exit_status)
"""


def run(mode, *signals):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    for place, number in enumerate(signals, 1):
        process.send_signal(number)
        if place < len(signals):  # signals sent at once would merge
            assert "second Ctrl-C" in process.stderr.readline()
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


SIGNALS = [
    (signal.SIGTERM, 143, "SIGTERM", "stopped by SIGTERM\n"),
    (signal.SIGINT, 130, "Ctrl-C", "stopped\n"),
]


@pytest.mark.parametrize(("number", "status", "name", "line"), SIGNALS)
def test_the_step_is_finished_and_saved(number, status, name, line):
    found, out, err = run("deferred", number)
    assert (found, out) == (status, f"saved\n{line}")
    assert err.startswith(f"{name}: finishing the step, then saving")


@pytest.mark.parametrize(("number", "status", "name", "line"), SIGNALS)
def test_a_process_with_nothing_to_save_stops_at_once(number, status, name, line):
    del name
    assert run("idle", number) == (status, line, "")


def test_a_second_interrupt_stops_at_once():
    assert run("busy", signal.SIGINT, signal.SIGINT)[:2] == (130, "")


COMMAND = """
import dataclasses, signal
from mgta_tf import cli
from mgta_tf.runtime import preemption

@dataclasses.dataclass(frozen=True)
class Config:
    pass

def main(config):
    raise preemption.Stopped(signal.SIGINT)

cli.run(main, Config)
"""


def test_ctrl_c_is_not_reported_as_an_error():
    done = subprocess.run(
        [sys.executable, "-c", COMMAND], capture_output=True, text=True, check=False
    )
    assert done.stderr == "mgta_tf: stopped; rerun the same command to resume\n"
    assert done.returncode == 130
