"""One owner of a run's folder."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from typing import IO

from mgta_tf.errors import UserError

_locks: dict[str, IO[str]] = {}  # by path; held until the process ends


def lock(path: str) -> None:
    """Makes this process the only one that writes into a run's folder, as long as it lives.

    The lock is POSIX's, on `path`: the system drops it when the process dies, however it dies, so
    that none is ever stale, and NFS hands it to the server, so that it counts on every host. Where
    a file system has no locks the run prints a note and continues without.

    Raises:
      UserError: another process has it.
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
        print(f"{path}: no locks here ({error.strerror}); see that no other run writes into it")
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    _locks[path] = file
