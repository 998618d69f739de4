"""Files of arrays that spare later runs work.

One that is damaged, or cannot be written, costs the work again and never the run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from mgta_tf.runtime import files, hosts

MAX_BYTES = 8 * 2**30  # size of a file; a million images take 30 to 60 MB
T = TypeVar("T")


def load(
    path: str, names: Sequence[str], make: Callable[[dict[str, np.ndarray]], T], work: str
) -> T | None:
    """What `make` makes of the arrays of a file; None if there is no file, or it is damaged.

    Args:
      path: The file; '' is none.
      names: Arrays that it must contain.
      make: Gets the arrays by name; an exception means that they are damaged.
      work: What is done again, for the message: "the images are checked".
    """
    if not os.path.exists(path):
        return None
    try:
        with files.opened(path, MAX_BYTES) as file:
            return make(files.arrays(file, *names))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        print(f"{path}: damaged ({error}); {work} again", flush=True)
        return None


def save(path: str, arrays: dict[str, Any], work: str) -> bool:
    """Replaces a file, on the chief only. Returns whether it did.

    A place that cannot be written to is reported; `work` is as for `load`. Two runs may share the
    file: the later one to save wins.
    """
    if not path or not hosts.is_chief():
        return False
    own = f"{path}.{os.getpid()}"
    try:
        with files.replacing(own) as file:
            np.savez(file, **arrays)
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
