"""One owner of a folder, as long as it lives."""

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


def test_it_is_refused_while_the_owner_lives_and_free_when_it_was_killed(tmp_path):
    path = str(tmp_path / "lock")
    owner = holder(path)
    with pytest.raises(UserError, match=rf"--workdir={tmp_path}: process {owner.pid} on "):
        lock_lib.lock(path)
    owner.kill()
    owner.communicate()
    lock_lib.lock(path)
    lock_lib.lock(path)  # the same process may come again


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", none)
    lock_lib.lock(str(tmp_path / "lock"))
    assert "this file system has no locks (Function not implemented)" in capsys.readouterr().out
