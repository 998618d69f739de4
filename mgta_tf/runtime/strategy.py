"""Devices: one GPU, many, those of many hosts, or the CPU."""

from __future__ import annotations

import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.runtime import hosts


def make_strategy(parts: int, flag: str, least: int = 1) -> tf.distribute.Strategy:
    """A MirroredStrategy over all visible GPUs, or over the CPU; over the hosts of `TF_CONFIG`.

    Args:
      parts: What a batch is dealt out to the replicas in: whole clusters, so that every anchor
        finds its positives on its own device; or images.
      flag: The flag that says so.
      least: How many parts a replica needs.

    Raises:
      UserError: the replicas cannot have equally many parts, or have too few.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    resolver = hosts.resolver()
    if resolver:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    else:
        devices = [device.name for device in tf.config.list_logical_devices("GPU")]
        strategy = tf.distribute.MirroredStrategy(devices or ["CPU:0"])
    replicas = strategy.num_replicas_in_sync
    if parts % replicas:
        raise UserError(f"--{flag}={parts}: must be a multiple of the {replicas} devices")
    if parts < least * replicas:
        raise UserError(f"--{flag}={parts}: each of the {replicas} devices needs {least} or more")
    if replicas > 1:
        print(f"{replicas} devices: each has {parts // replicas} of --{flag}={parts}", flush=True)
    return strategy
