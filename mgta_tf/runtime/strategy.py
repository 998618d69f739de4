"""Devices: the CPU, one GPU, several GPUs, or several hosts."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime import hosts, preemption

POLICIES = {"off": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

CPU_INFO = "/proc/cpuinfo"
CPU_FEATURES = {"avx512_bf16": "AVX512_BF16", "amx_bf16": "AMX"}  # name in CPU_INFO: usual name
GPU_CAPABILITY = (8, 0)  # the first with bfloat16 matrix products


@dataclasses.dataclass(frozen=True)
class DeviceConfig:
    """Devices."""

    mixed_precision: str = flag(
        "off",
        "Precision of convolutions and matrix products in training steps and in encoding for "
        "labels. Weights, losses, batch norm statistics and k-means stay in float32; float16 uses "
        "loss scaling. auto: bfloat16 on a CPU with AVX512_BF16 or AMX and on GPUs of compute "
        "capability 8.0 or higher, else off. Not measured on a GPU.",
        choices=tuple(POLICIES),
        auto="auto",
    )
    threads_per_operation: int = flag(
        0,
        "CPU threads that share an operation (TensorFlow's intra_op_parallelism_threads); as many "
        "operations as there are cores run at the same time. 0: all cores. auto: 1 for a small "
        "encoder on two cores, whose operations are too short to be shared, else 0.",
        minimum=0,
        auto="auto",
        advanced=True,
    )
    jit_compile: bool = flag(
        False,
        "XLA compilation of the forward and backward pass; supports a single device. Not "
        "measured on a GPU.",
        advanced=True,
    )
    profile_steps: int = flag(
        0,
        "Steps to trace for TensorBoard's profiler, starting with the third step after the "
        "start; 0 traces none.",
        minimum=0,
        advanced=True,
    )


def fast_precision() -> tuple[str, str]:
    """What `--mixed_precision=auto` is on this machine: (one of POLICIES, the reason)."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = map(tf.config.experimental.get_device_details, gpus)
        capability = min(each.get("compute_capability", (0, 0)) for each in details)
        fast = capability >= GPU_CAPABILITY
        reason = "GPU of compute capability {}.{}".format(*capability)
    else:
        flags = cpu_info("flags").split()
        names = [name for word, name in CPU_FEATURES.items() if word in flags]
        fast = bool(names)
        reason = f"CPU with {' and '.join(names) or 'neither AVX512_BF16 nor AMX'}"
    return ("bfloat16", f"bfloat16: {reason}") if fast else ("off", f"float32: {reason}")


def cpu_info(key: str) -> str:
    """The value of a line of CPU_INFO, for the first core; '' on systems other than Linux."""
    try:
        with open(CPU_INFO, encoding="utf-8") as file:
            pairs = (line.partition(":") for line in file)
            return next((value.strip() for name, _, value in pairs if name.strip() == key), "")
    except OSError:
        return ""


@contextlib.contextmanager
def precision(mixed_precision: str) -> Iterator[None]:
    """Layers built inside this context compute in this precision."""
    if mixed_precision == "off":
        yield
        return
    tf.keras.mixed_precision.set_global_policy(POLICIES[mixed_precision])
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(None)  # Keras' default


def share_operations(threads: int) -> None:
    """Sets the number of CPU threads of an operation, unless it is 0 or TensorFlow runs already.

    TensorFlow cannot change it in a running process, such as a notebook that has used TensorFlow.
    """
    if threads:
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)


def make_strategy(parts: int, flag: str, least: int = 1) -> tf.distribute.Strategy:
    """A strategy over the hosts of `TF_CONFIG`, else over all visible GPUs, else over the CPU.

    Args:
      parts: Number of parts of a batch that the replicas share equally. A part is a cluster, so
        that every anchor has its positives on its own device, or an image.
      flag: Name of the flag that sets `parts`.
      least: Smallest number of parts for a replica.

    Raises:
      UserError: `parts` is not a multiple of the replicas, or is too small.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    resolver = hosts.resolver()
    if resolver:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
        preemption.stop_together()
    else:
        devices = [device.name for device in tf.config.list_logical_devices("GPU")]
        strategy = tf.distribute.MirroredStrategy(devices or ["CPU:0"])
    replicas = strategy.num_replicas_in_sync
    if parts % replicas:
        raise UserError(f"--{flag}={parts}: must be a multiple of the {replicas} devices")
    if parts < least * replicas:
        raise UserError(
            f"--{flag}={parts}: must be at least {least * replicas}, {least} for each of the "
            f"{replicas} devices"
        )
    if replicas > 1:
        print(f"{replicas} devices, {parts // replicas} of --{flag}={parts} on each", flush=True)
    return strategy
