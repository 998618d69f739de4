"""Profiles a training step or an encoding: fraction of the time by TensorFlow operation.

  python -m tools.bench.profile_ops --net=full --job=step
  python -m tools.bench.profile_ops --net=small --job=encode --endpoint=res4
  python -m tools.bench.profile_ops --net=small --job=step --precision=bfloat16

TensorFlow's profiler traces a few runs, one operation at a time, so that times add up; each runs on
--threads. The last lines show the GFLOP/s of a matrix product on those threads and of the net's
convolutions and matrix products, and the possible speed-up if all other operations took no time.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import glob
import itertools
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.data.pipeline import Feed
from tools.bench import nets
from tools.bench.decoders import DECODERS
from tools.bench.model_table import gigaflops
from tools.bench.timing import timed

GROUPS = {  # prefix of an operation type, without that of oneDNN → group
    "Conv2D": "convolutions",
    "FusedConv2D": "convolutions",
    "MatMul": "products (1×1 transposed convolutions)",
    "FusedBatchNorm": "batch norm",
    "ResourceApply": "optimizer",
    "Relu": "ReLU, sums",
    "Add": "ReLU, sums",
}
WORK = ("convolutions", GROUPS["MatMul"])
REST = "the rest"


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """The profile."""

    net: str = flag(
        "full", "Net: full size at 64 px, or the small model at 32.", choices=("full", "small")
    )
    job: str = flag("step", "Job to profile.", choices=("step", "encode"))
    precision: str = flag("off", "Precision, as --mixed_precision.", choices=("off", "bfloat16"))
    decoder: str = flag("mirror", "Decoder of the net.", choices=DECODERS)
    endpoint: str = flag("embedding", "Endpoint of the encoding.", choices=("embedding", "res4"))
    slowest: int = flag(3, "Number of the slowest operations to list.", minimum=0)
    threads: int = flag(1, "Threads of an operation; operations run one by one.", minimum=1)
    runs: int = flag(4, "Times that it runs under the profiler.", minimum=1)


def main(config: ProfileConfig) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(config.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    _, shape = nets.NETS[config.net]
    strategy, net = nets.make_learner(**shape, precision=config.precision, decoder=config.decoder)
    if config.job == "step":
        once = nets.bare_step(net, **shape)
    else:
        once = encoding(strategy, net, config.endpoint, **shape)
    seconds = traced(once, config.runs)
    total = sum(seconds.values())
    for group, share in shares(seconds, group_of).items():
        print(f"{share:6.1%}  {group}")
    rest = {name: spent for name, spent in seconds.items() if group_of(name) == REST}
    for kind, share in itertools.islice(shares(rest, type_of).items(), config.slowest):
        print(f"{share * sum(rest.values()) / total:6.1%}  of it {kind}")
    slow = {name: spent for name, spent in seconds.items() if is_slow(name)}
    for name in sorted(slow, key=lambda name: -slow[name])[: config.slowest]:
        print(f"{slow[name] / total:6.1%}  not by oneDNN: {name}")
    x = tf.random.stateless_uniform((2000, 2000), seed=(0, 0))
    x = tf.cast(x, tf.float32 if config.precision == "off" else tf.bfloat16)
    product = min(timed(lambda: tf.matmul(x, x)[0, 0].numpy()) for _ in range(5))
    print(
        f"a 2000×2000 product runs at {2 * 2000**3 / 1e9 / product:.0f} GFLOP/s with these threads"
    )
    work = sum(spent for name, spent in seconds.items() if group_of(name) in WORK)
    if config.job == "step":
        flops = 3 * gigaflops(net.model, shape["size"]) * shape["batch"] * config.runs
        print(
            f"convolutions and products run at {flops / work:.0f}, the step at {flops / total:.0f}"
        )
    print(f"{1e3 * total / config.runs:.1f} ms; {total / work:.2f} times as fast without the rest")


def encoding(strategy, net, endpoint: str, size: int, batch: int, **_) -> Callable[[], Any]:
    """The features of one batch of images in memory."""
    feed = Feed(nets.InMemory(nets.random_images(batch, size)), batch, strategy)
    once = functools.partial(nets.encode_all, net, feed, np.arange(batch), endpoint)
    once()
    return once


def traced(once: Callable[[], Any], runs: int) -> dict[str, float]:
    """Seconds of every operation, "node:type", under TensorFlow's profiler."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space = xplane_pb2.XSpace()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(runs):
                once()
        (path,) = glob.glob(os.path.join(folder, "**", "*.xplane.pb"), recursive=True)
        with open(path, "rb") as file:
            space.ParseFromString(file.read())
    seconds: dict[str, float] = collections.defaultdict(float)
    for plane in space.planes:
        lines = (line for line in plane.lines if line.name.startswith("tf_Compute"))
        for event in itertools.chain.from_iterable(line.events for line in lines):
            name = plane.event_metadata[event.metadata_id].name
            if ":" in name and "::" not in name and not name.startswith("ExecutorState"):
                seconds[name] += event.duration_ps / 1e12
    return dict(seconds)


def type_of(name: str) -> str:
    return name.rpartition(":")[2].removeprefix("_Mkl").removeprefix("Native").removeprefix("_")


def group_of(name: str) -> str:
    return next((GROUPS[start] for start in GROUPS if type_of(name).startswith(start)), REST)


def is_slow(name: str) -> bool:
    """Whether an operation is a convolution without oneDNN."""
    return group_of(name) == "convolutions" and "_Mkl" not in name


def shares(seconds: dict[str, float], key: Callable[[str], str]) -> dict[str, float]:
    """The fraction of the time of each kind of operation, largest first. key: kind by name."""
    found: dict[str, float] = collections.defaultdict(float)
    for name, spent in seconds.items():
        found[key(name)] += spent
    total = sum(found.values())
    return {kind: found[kind] / total for kind in sorted(found, key=lambda kind: -found[kind])}


if __name__ == "__main__":
    cli.run(main, ProfileConfig)
