"""Estimates of the disk space and memory of a run, printed before its first step."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import sys

from mgta_tf.models.encoder import ModelConfig

# Resident memory measured on a CPU, in bytes: a process that has imported TensorFlow; and the graph
# of a training step, for each residual block of the encoder and of the decoder.
TENSORFLOW = 600 * 2**20
GRAPH_OF_BLOCK = 14 * 2**20


@dataclasses.dataclass(frozen=True)
class Needs:
    """Estimated bytes: one checkpoint, and disk and memory by purpose."""

    checkpoint: int
    disk: dict[str, int]
    memory: dict[str, int]


def estimate(
    learners: list,
    model: ModelConfig,
    batch: int,
    image_size: int,
    keep: int,
    images: int,
    features: int = 0,
    labels: int = 0,
) -> Needs:
    """Estimates the disk space and memory of a run.

    Args:
      learners: The nets, each with a model and an optimizer.
      model: Configuration of the nets.
      batch: Images per step.
      image_size: Pixels per side.
      keep: Number of checkpoints to keep; there is one more while one is written.
      images: Bytes of the images held in memory.
      features: Bytes of the features of a GLP held in memory.
      labels: Bytes of all label files.
    """
    variables = [v for one in learners for v in (*one.model.variables, *one.optimizer.variables)]
    weights = sum(v.dtype.size * v.shape.num_elements() for v in variables)
    gradients = sum(4 * v.shape.num_elements() for v in learners[0].model.trainable_variables)
    return Needs(
        weights,
        {"checkpoints": (keep + 1) * weights, "labels": labels},
        {
            "TensorFlow": TENSORFLOW,
            "graphs": len(learners) * halves(model) * sum(model.blocks) * GRAPH_OF_BLOCK,
            "images": images,
            "features": features,
            "nets": weights + gradients,
            "a step": activations(model, batch, image_size),
        },
    )


def activations(model: ModelConfig, batch: int, image_size: int) -> int:
    """Bytes that the forward pass of a training step keeps for the backward pass, in float32.

    For every convolution: its output, and that of batch norm and ReLU. A decoder mirrors the
    encoder.
    """
    values = model.channels(64) * (image_size / 2) ** 2
    for stage, blocks in enumerate(model.blocks, 2):
        width = model.channels(64 * 2 ** (stage - 2))
        values += blocks * (1 + 1 + 4) * width * (image_size / 2**stage) ** 2
    return round(halves(model) * 2 * 4 * batch * values)


def halves(model: ModelConfig) -> int:
    """2 for a net with encoder and decoder, 1 for an encoder alone."""
    return 1 if model.decoder == "none" else 2


def estimate_line(needs: Needs, folder: str) -> str:
    """The estimate and the available resources in one line."""
    disk, memory = sum(needs.disk.values()), sum(needs.memory.values())
    free, available = shutil.disk_usage(folder).free, _available()
    parts = ", ".join(f"{name} {_size(value)}" for name, value in needs.memory.items() if value)
    line = (
        f"needs about {_size(disk)} of disk (checkpoints of {_size(needs.checkpoint)}; "
        f"{_size(free)} free) and {_size(memory)} of memory ({parts})"
    )
    short = ["disk"] if disk > free else []
    if available:
        line += f"; {_size(available)} available"
        short += ["memory"] if memory > available else []
    return line + (f". There may not be enough {' or '.join(short)}" if short else "")


def _size(size: float) -> str:
    return f"{size / 2**20:.0f} MB" if size < 2**30 else f"{size / 2**30:.1f} GB"


def _available() -> int:
    """Bytes of available memory; 0 where the system does not report it."""
    if not os.path.exists("/proc/meminfo"):
        return 0
    with open("/proc/meminfo", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields.get("MemAvailable", "0 kB").split()[0]) * 1024


def peak_memory_mb() -> float:
    """Peak resident memory of this process, MiB."""
    if os.path.exists("/proc/self/status"):  # getrusage counts the parent's, from before exec
        with open("/proc/self/status", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
