"""Several hosts, one run: who writes, and how all come to the same decision.

The hosts are those of `TF_CONFIG`, TensorFlow's own convention: each runs the same command, and
all see the workdir. The first is the chief. It alone writes there; the others save what TensorFlow
makes every host save into folders of their own.
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
    """What `TF_CONFIG` says, where it names several hosts.

    Raises:
      UserError: it is no JSON of that form.
    """
    if not os.environ.get("TF_CONFIG"):
        return None
    try:
        found = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        hosts = sum(len(tasks) for tasks in found.cluster_spec().as_dict().values())
        if hosts > 1 and (not found.task_type or found.task_id is None):
            raise ValueError("no task with type and index")
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"TF_CONFIG: {error}; docs/scaling.md shows one") from None
    return found if hosts > 1 else None


def count() -> int:
    """How many hosts share the run."""
    found = resolver()
    return sum(map(len, found.cluster_spec().as_dict().values())) if found else 1


def is_chief() -> bool:
    """Whether this host writes the workdir: the only one, the chief, or worker 0 where none is."""
    found = resolver()
    if found is None or found.task_type == "chief":
        return True
    return found.task_id == 0 and "chief" not in found.cluster_spec().jobs


def from_chief(strategy: tf.distribute.Strategy, make: Callable[[], Any]) -> Any:
    """`make()`, called on the chief alone; what JSON keeps of its result reaches every host.

    It travels as a sum over all devices, to which only the chief adds anything. Where a signal ends
    `make`, every host leaves.
    """
    if resolver() is None:
        return make()
    said = b""
    if is_chief():
        with contextlib.suppress(preemption.Stopped):
            said = json.dumps(plain(make())).encode()
    length = int(_sum(strategy, np.array([len(said)], np.int32))[0])
    if not length:
        stop_if_signalled(strategy)
    sent = np.zeros(length, np.int32)
    sent[: len(said)] = np.frombuffer(said, np.uint8)
    return json.loads(_sum(strategy, sent).astype(np.uint8).tobytes())


def any_of(strategy: tf.distribute.Strategy, mine: bool) -> bool:
    """Whether one of the hosts says so: the same answer on all."""
    if resolver() is None:
        return mine
    return bool(_sum(strategy, np.array([mine], np.int32))[0])


def stop_if_signalled(strategy: tf.distribute.Strategy) -> None:
    """`preemption.stop_if_signalled` on every host, if a signal has come to one of them.

    To be called on all at the same step, after each has saved.
    """
    if resolver() is None:
        preemption.stop_if_signalled()
        return
    mine = [preemption.received_signal() == number for number in preemption.SIGNALS]
    for number, heard in zip(preemption.SIGNALS, _sum(strategy, np.array(mine, np.int32))):
        if heard:
            raise preemption.Stopped(number)


def _sum(strategy: tf.distribute.Strategy, mine: np.ndarray) -> np.ndarray:
    """The sum of the hosts' int32 [n]."""
    return _adder(strategy)(tf.constant(mine)).numpy()


@functools.lru_cache(maxsize=1)
def _adder(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """The graph that adds them, traced once: every step asks `any_of`."""
    per_host = len(strategy.extended.worker_devices)

    def add(value):
        replica = tf.distribute.get_replica_context()
        first = replica.replica_id_in_sync_group % per_host == 0  # of its host
        own = tf.where(first, value, tf.zeros_like(value))
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, own)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
    def total(value):
        return strategy.experimental_local_results(strategy.run(add, args=(value,)))[0]

    return total
