"""A workdir belongs to one process until that process ends."""

import fcntl
import subprocess
import sys

import pytest

from mgta_tf.errors import UserError
from mgta_tf.runtime import lock as lock_lib

HOLD = """
import sys, time
from mgta_tf.runtime.lock import lock
lock(sys.argv[1]); lock(sys.argv[1])
print("mine", flush=True)
time.sleep(60)
"""


def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "mine\n"
    return process


def test_a_lock_is_held_until_its_process_is_killed(tmp_path):
    path = str(tmp_path / "lock")
    owner = holder(path)
    with pytest.raises(UserError, match=rf"--workdir={tmp_path}: process {owner.pid} on "):
        lock_lib.lock(path)
    owner.kill()
    owner.communicate()
    lock_lib.lock(path)
    lock_lib.lock(path)  # the same process may lock again


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", none)
    lock_lib.lock(str(tmp_path / "lock"))
    assert "this file system has no locks (Function not implemented)" in capsys.readouterr().out
