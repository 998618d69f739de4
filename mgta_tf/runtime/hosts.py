"""Training on several hosts: which host writes files, and how all make the same decisions.

The hosts are given by `TF_CONFIG`, as usual in TensorFlow. Each runs the same command and sees the
same workdir. Only the first, the chief, writes into it; the others write the files that TensorFlow
requires of every host into temporary folders.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.runtime import preemption
from mgta_tf.runtime.files import plain


def resolver() -> tf.distribute.cluster_resolver.ClusterResolver | None:
    """The hosts of `TF_CONFIG`; None unless it names several.

    Raises:
      UserError: `TF_CONFIG` is not valid.
    """
    if not os.environ.get("TF_CONFIG"):
        return None
    try:
        found = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        hosts = sum(len(tasks) for tasks in found.cluster_spec().as_dict().values())
        if hosts > 1 and (not found.task_type or found.task_id is None):
            raise ValueError("no task with type and index")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"TF_CONFIG: {error}; docs/scaling.md has an example") from None
    return found if hosts > 1 else None


def count() -> int:
    """How many hosts share the run."""
    found = resolver()
    return sum(map(len, found.cluster_spec().as_dict().values())) if found else 1


def is_chief() -> bool:
    """Whether this host writes the workdir: the only host, the chief, or worker 0 if none is."""
    found = resolver()
    if found is None or found.task_type == "chief":
        return True
    return found.task_id == 0 and "chief" not in found.cluster_spec().jobs


def from_chief(strategy: tf.distribute.Strategy, make: Callable[[], Any]) -> Any:
    """Calls `make()` on the chief only, and returns its result, as JSON, on every host.

    It is sent as a sum over all devices to which only the chief contributes. If a signal ends
    `make`, every host stops.
    """
    if resolver() is None:
        return make()
    message = b""
    if is_chief():
        with contextlib.suppress(preemption.Stopped):
            message = json.dumps(plain(make())).encode()
    length = int(_sum(strategy, np.array([len(message)], np.int32))[0])
    if not length:
        stop_if_signalled(strategy)
    sent = np.zeros(length, np.int32)
    sent[: len(message)] = np.frombuffer(message, np.uint8)
    return json.loads(_sum(strategy, sent).astype(np.uint8).tobytes())


def any_of(strategy: tf.distribute.Strategy, mine: bool) -> bool:
    """Whether `mine` is true on any host; the same answer on all."""
    if resolver() is None:
        return mine
    return bool(_sum(strategy, np.array([mine], np.int32))[0])


def stop_if_signalled(strategy: tf.distribute.Strategy) -> None:
    """Stops all hosts, as `preemption.stop_if_signalled` does, if one of them has had a signal.

    To be called on all hosts at the same step, after saving.
    """
    if resolver() is None:
        preemption.stop_if_signalled()
        return
    mine = [preemption.received_signal() == number for number in preemption.SIGNALS]
    for number, hosts in zip(preemption.SIGNALS, _sum(strategy, np.array(mine, np.int32))):
        if hosts:
            raise preemption.Stopped(number)


def _sum(strategy: tf.distribute.Strategy, mine: np.ndarray) -> np.ndarray:
    """Sum of an int32 [n] over the hosts."""
    return _adder(strategy)(tf.constant(mine)).numpy()


@functools.lru_cache(maxsize=1)
def _adder(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """The graph of `_sum`, traced once, because every step calls `any_of`."""
    per_host = len(strategy.extended.worker_devices)

    def add(value):
        replica = tf.distribute.get_replica_context()
        first = replica.replica_id_in_sync_group % per_host == 0  # one device per host adds
        own = tf.where(first, value, tf.zeros_like(value))
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, own)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def total(value):
        return strategy.experimental_local_results(strategy.run(add, args=(value,)))[0]

    return total
