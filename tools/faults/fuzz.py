"""Feeds damaged files to every reader of the package, in subprocesses that may crash.

A reader may refuse its input with `UserError` or `BadImage`. Any other error is a crash. A reader
also fails if it takes over HANG_SECONDS, or MEMORY bytes more than its process had before.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import shutil
import time
import traceback
from typing import Any

import hypothesis
from hypothesis import strategies as st

from mgta_tf.data.images import BadImage
from mgta_tf.errors import UserError
from tools.faults.readers import READERS, write

HANG_SECONDS = 30.0  # reading an intact file takes less than a hundredth of this
MEMORY = 2 * 2**30
BLOCK = 200  # examples between two checks of the time


@st.composite
def damaged(draw: Any, seeds: list[bytes]) -> bytes:
    """One of the files, altered in one to eight places."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(("flip", "set", "number", "cut", "drop", "repeat", "splice")))
        if kind == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and data:
            data[place] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x2E, 0x2F)))
        elif kind == "number":
            width = draw(st.sampled_from((1, 2, 4, 8)))
            number = draw(st.integers(0, 256**width - 1))
            order = draw(st.sampled_from(("little", "big")))
            data[place : place + width] = number.to_bytes(width, order)
        elif kind == "cut":
            del data[place:]
        elif kind == "drop":
            del data[place : place + draw(st.integers(1, 64))]
        elif kind == "repeat":
            part = data[place : place + draw(st.integers(1, 64))]
            data[place:place] = part * draw(st.integers(1, 8))
        else:
            other = draw(st.sampled_from(seeds))
            begin = draw(st.integers(0, len(other)))
            data[place:place] = other[begin : begin + draw(st.integers(1, 256))]
    return bytes(data)


def fuzz(name: str, seconds: float, folder: str, seed: int = 0) -> dict[str, int]:
    """Feeds damaged files to one reader for `seconds`; returns executions, crashes and hangs.

    The input of a crash or a hang stays in `folder`.
    """
    context = multiprocessing.get_context("spawn")
    count, end = context.Value("q", 0), time.monotonic() + seconds
    crashes = hangs = 0
    while (left := end - time.monotonic()) > 0:
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
        os.makedirs(os.path.join(folder, name))
        seed += 1_000_000
        child = context.Process(target=_child, args=(name, left, folder, seed, count))
        before = count.value
        child.start()
        seen, since = before, time.monotonic()
        while child.is_alive():
            child.join(1.0)
            if count.value != seen or count.value == before:  # it is still being started
                seen, since = count.value, time.monotonic()
            elif time.monotonic() - since > HANG_SECONDS:
                child.kill()
                child.join()
                hangs += 1
                _keep(folder, name, f"hang_{hangs}")
                break
        else:
            if child.exitcode:
                crashes += 1
                _keep(folder, name, f"crash_{crashes}")
        if hangs + crashes >= 5:
            break
    return {"executions": count.value, "crashes": crashes, "hangs": hangs}


def _keep(folder: str, name: str, what: str) -> None:
    last = os.path.join(folder, f"{name}.last")
    if os.path.exists(last):
        os.replace(last, os.path.join(folder, f"{name}.{what}"))


def _child(name: str, seconds: float, folder: str, seed: int, count: Any) -> None:
    seeds, read = READERS[name](os.path.join(folder, name))
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    last, end = os.path.join(folder, f"{name}.last"), time.monotonic() + seconds

    def once(data: bytes) -> None:
        write(last, data)
        count.value += 1
        with contextlib.suppress(UserError, BadImage):
            read(data)

    settings = hypothesis.settings(
        max_examples=BLOCK,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        while time.monotonic() < end:
            seed += 1
            hypothesis.seed(seed)(settings(hypothesis.given(damaged(seeds))(once)))()
    except Exception:
        with open(os.path.join(folder, f"{name}.txt"), "a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        os._exit(1)
    os._exit(0)
