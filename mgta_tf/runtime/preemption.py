"""SIGTERM and SIGINT: the step that runs is finished and its state saved, then the process leaves.

After `defer()` the first signal only leaves a note, which `received()` reads; elsewhere, where
everything of worth is on disk already, it raises `Stopped` at once. With several hosts it always
leaves a note, since they leave together (`hosts.leave`). A second SIGINT ends the process in
whatever it does: a thread sees to that, since Python runs the handlers of its main thread only when
a long computation in C++ returns.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The process has been asked to leave, and may.

    No Exception, so that nothing that guards against errors swallows it.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_status = 128 + number  # 130 and 143, as a shell says it


_installed = False
_received: int | None = None
_deferred = False
_together = False  # with other hosts


def install() -> None:
    """Takes the two signals over, for the rest of the process. From the main thread."""
    _take_over()
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()


def _take_over() -> None:
    global _installed
    _installed = True
    for number in SIGNALS:
        signal.signal(number, _handle)


def received() -> int | None:
    """The signal that has come, and that `leave` is to follow."""
    return _received


def leave() -> None:
    """Raises Stopped if a signal has come: everything that is to be kept has been saved."""
    if _received is not None:
        raise Stopped(_received)


def together() -> None:
    """For the rest of the process a signal waits for the next `leave`, which other hosts join.

    TensorFlow, when it connects hosts, puts a handler of its own in the place of `install`'s, which
    would keep SIGTERM to itself; so this comes after.
    """
    global _together
    _together = True
    if _installed:
        _take_over()


def defer() -> None:
    """Until `release`, a signal waits for the next `leave`."""
    global _deferred
    _deferred = True


def release() -> None:
    """Everything that is to be kept has been saved: a signal need not wait any more."""
    global _deferred
    _deferred = False


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """While this is entered, a signal waits for the next `leave`."""
    defer()
    try:
        yield
    finally:
        release()


def _handle(number: int, frame: Any) -> None:
    global _received
    del frame
    first, _received = _received is None, number
    if not (_deferred or _together):
        leave()
    elif first:
        name = signal.Signals(number).name
        print(
            f"{name}: finishing the step, then saving; a second interrupt leaves at once",
            file=sys.stderr,
            flush=True,
        )


def _watch(read: int) -> None:
    interrupts = 0
    while True:
        interrupts += os.read(read, 1)[0] == signal.SIGINT
        if interrupts == 2:
            os._exit(128 + signal.SIGINT)
