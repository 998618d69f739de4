"""SIGTERM and SIGINT: finish the current step, save, then stop.

After `defer()`, a signal is only recorded, and `stop_if_signalled()` raises `Stopped` once the
state has been saved. Otherwise nothing would be lost, and the signal raises `Stopped` at once. With
several hosts it is always recorded, because all hosts stop together (`hosts.stop_if_signalled`).

A second SIGINT ends the process at once. A thread watches for it, because Python runs signal
handlers in the main thread only, and only when a long computation in C++ has returned.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from mgta_tf.runtime.progress import write

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The process was asked to stop, and its state has been saved.

    Not an Exception, so that no `except Exception` catches it.
    """

    def __init__(self, number: int):
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        super().__init__(f"stopped{by}")
        self.exit_status = 128 + number  # 130 or 143, as in a shell


_installed = False
_received: int | None = None
_deferred = False
_together = False  # with other hosts


def install() -> None:
    """Handles both signals for the rest of the process. To be called from the main thread."""
    _set_handlers()
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()


@contextlib.contextmanager
def caught() -> Iterator[None]:
    """`install` for a block inside another program, such as a notebook; restores its handlers.

    A second signal raises KeyboardInterrupt at once. Python runs handlers in the main thread only;
    in other threads this does nothing.
    """
    global _received
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handle_as_guest) for number in SIGNALS}
    _received = None
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received = None
        release()


def _handle_as_guest(number: int, frame: Any) -> None:
    if _received is not None:
        raise KeyboardInterrupt
    _handle(number, frame)


def _set_handlers() -> None:
    global _installed
    _installed = True
    for number in SIGNALS:
        signal.signal(number, _handle)


def received_signal() -> int | None:
    """The signal that has been recorded, if any."""
    return _received


def stop_if_signalled() -> None:
    """Raises `Stopped` if a signal has been recorded. Call it when the state has been saved."""
    if _received is not None:
        raise Stopped(_received)


def stop_together() -> None:
    """For the rest of the process, signals are only recorded: all hosts stop at the same step.

    Call it after the hosts are connected: TensorFlow then replaces the handler of SIGTERM by its
    own, and this function sets ours again.
    """
    global _together
    _together = True
    if _installed:
        _set_handlers()


def defer() -> None:
    """Until `release`, signals are only recorded, for the next `stop_if_signalled`."""
    global _deferred
    _deferred = True


def release() -> None:
    """Ends `defer`: the state has been saved, so a signal may stop the process at once."""
    global _deferred
    _deferred = False


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """`defer` and `release` around a block."""
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
        stop_if_signalled()
    elif first:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        write(f"{name}: finishing the step, then saving; a second Ctrl-C stops at once")


def _watch(read: int) -> None:
    interrupts = 0
    while True:
        interrupts += os.read(read, 1)[0] == signal.SIGINT
        if interrupts == 2:
            os._exit(128 + signal.SIGINT)
