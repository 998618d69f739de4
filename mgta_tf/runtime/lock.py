"""A lock on the folder of a run."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from typing import IO

from mgta_tf.errors import UserError

_locks: dict[str, IO[str]] = {}  # by path; held until the process ends


def lock(path: str) -> None:
    """Locks the folder of a run until this process ends, so that no other process writes into it.

    It is a POSIX lock on the file `path`. The system releases it when the process dies, so it is
    never stale; on NFS it holds on all hosts. On a file system without locks, the run prints a note
    and continues without.

    Raises:
      UserError: another process holds the lock.
    """
    if path in _locks:
        return
    file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (closing it would end the lock)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.seek(0)
            raise UserError(
                f"--workdir={os.path.dirname(path)}: {file.read(200).strip() or 'another process'} "
                "is writing into it; wait until it ends, or choose another folder"
            ) from None
        print(
            f"{path}: this file system has no locks ({error.strerror}); make sure that no other "
            "run writes into the folder"
        )
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    _locks[path] = file
