"""Files of arrays that spare later runs work.

One that is damaged, or cannot be written, costs the work again and never the run.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from mgta_tf.runtime import files, hosts

MAX_BYTES = 8 * 2**30  # size of a file; a million images take 30 to 60 MB
T = TypeVar("T")


def load(
    path: str, names: Sequence[str], make: Callable[[Any, dict[str, np.ndarray]], T], work: str
) -> T | None:
    """What `make` makes of a file; None if there is no file, or it is damaged.

    Args:
      path: The file; '' is none.
      names: Arrays that it must contain.
      make: Gets `about` and the arrays by name; an exception means that they are damaged.
      work: What is done again, for the message: "the images are checked".
    """
    if not os.path.exists(path):
        return None
    try:
        with files.opened(path, MAX_BYTES) as file:
            stored = files.arrays(file, "about", *names)
            return make(json.loads(stored["about"].tobytes()), stored)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        print(f"{path}: damaged ({error}); {work} again", flush=True)
        return None


def save(path: str, about: Any, arrays: dict[str, Any], work: str) -> bool:
    """Replaces a file, on the chief only. Returns whether it did.

    A place that cannot be written to is reported. Two runs may share the file: the later one to
    save wins.

    Args:
      path: The file; '' is none.
      about: What the arrays depend on, as JSON has it.
      arrays: The arrays by name.
      work: As for `load`.
    """
    if not path or not hosts.is_chief():
        return False
    own = f"{path}.{os.getpid()}"
    try:
        with files.replacing(own) as file:
            np.savez(file, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)
        os.replace(own, path)
    except OSError as error:
        for left in (own, f"{own}.partial"):
            with contextlib.suppress(OSError):
                os.remove(left)
        print(
            f"{path}: cannot be written ({error.strerror}); {work} again by the next run",
            flush=True,
        )
        return False
    return True
