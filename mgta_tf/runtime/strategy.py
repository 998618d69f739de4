"""Devices: one GPU, many, or the CPU."""

from __future__ import annotations

import tensorflow as tf

from mgta_tf.errors import UserError


def make_strategy(clusters_per_batch: int) -> tf.distribute.MirroredStrategy:
    """A MirroredStrategy over all visible GPUs, or over the CPU.

    A batch is dealt out to the replicas in whole clusters, so that every anchor finds its positives
    on its own device.

    Raises:
      UserError: P is no multiple of the number of replicas.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    strategy = tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices("GPU")] or ["CPU:0"]
    )
    replicas = strategy.num_replicas_in_sync
    if clusters_per_batch % replicas:
        raise UserError(
            f"--clusters_per_batch={clusters_per_batch}: must be a multiple of the {replicas} "
            "devices, each of which takes whole clusters"
        )
    return strategy
