"""A training step with other thread pools, or divided differently among the cores.

  python -m tools.bench.thread_jobs '{"way": "one device per core", "net": "small"}'

A process of `tools/bench.py step` and `threads`, because TensorFlow's thread pools are fixed when
it starts.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tensorflow as tf

from mgta_tf.training.summary import versions
from tools.bench.nets import INNER, NETS, bare_step, make_learner
from tools.bench.worker import Worker, serve

keras = tf.keras
CORES = os.cpu_count() or 1

DEFAULT, ONE_THREAD = "TensorFlow's default", "one thread per operation"
SIDE_BY_SIDE = "two nets side by side"
CALLER = "TF_ONEDNN_THREADPOOL_USE_CALLER_THREAD"

# name: (threads of an operation, operations at once, CALLER); 0 is TensorFlow's default
WAYS = {
    DEFAULT: (0, 0, 0),
    "caller computes a part": (0, 0, 1),
    "one operation at a time": (0, 1, 0),
    ONE_THREAD: (1, CORES, 0),
    "one device per core": (1, CORES, 0),
    "one device per core with its own batch norm": (1, CORES, 0),
    "batch split in the graph": (1, CORES, 0),
    SIDE_BY_SIDE: (1, CORES, 0),
}
# At full size TensorFlow's memory optimizer gives the temporary variables of both graphs the same
# names, and two threads that run them at once end in an AlreadyExistsError.
NOT_AT_FULL_SIZE = (SIDE_BY_SIDE,)


def thread_worker(way: str, net: str, **options: Any) -> Worker:
    """A worker with a job of this module; it ignores the user's own settings of thread pools."""
    own = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    environment["PYTHONPATH"] = str(pathlib.Path(__file__).parents[2])
    arguments = json.dumps({"way": way, "net": net, **options})
    return Worker([sys.executable, "-m", "tools.bench.thread_jobs", arguments], environment)


def main() -> None:
    arguments = json.loads(sys.argv[1])
    threads, operations, caller = WAYS[arguments["way"]]
    os.environ[CALLER] = str(caller)  # TensorFlow reads it at the first operation of oneDNN
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(operations)
    serve(versions(), job(**arguments), steps_of(arguments["net"]))


def job(way: str, net: str, **options: Any) -> Callable[[], Any]:
    """`steps_of(net)` training steps of a net of NETS. options: other values of its shape."""
    shape, steps = {**NETS[net][1], **options}, steps_of(net)
    if way == SIDE_BY_SIDE:
        return side_by_side([a_step(**shape) for _ in range(2)], steps // 2)
    if way.startswith("one device per core"):
        once = on_devices(**shape, sync_batch_norm=way == "one device per core")
    else:
        once = (split_step if way == "batch split in the graph" else a_step)(**shape)
    return lambda: [once() for _ in range(steps)]


def steps_of(net: str) -> int:
    """Steps of one measurement: an even number."""
    return 2 * max(1, INNER[net] // 2)


def a_step(**shape: Any) -> Callable[[], None]:
    return bare_step(make_learner(**shape)[1], **shape)


def on_devices(**shape: Any) -> Callable[[], None]:
    """A step on one device per core; with `sync_batch_norm` it equals that on a single device."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration()] * CORES
    tf.config.set_logical_device_configuration(cpu, devices)
    strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(CORES)])
    _, net = make_learner(**shape, strategy=strategy)
    return bare_step(net, **shape, strategy=strategy)


def split_step(**shape: Any) -> Callable[[], None]:
    """A step whose graph computes the two halves of the batch side by side."""
    _, net = make_learner(**shape)
    net.model = in_halves(net.model)
    return bare_step(net, **shape)


def in_halves(model: tf.keras.Model) -> tf.keras.Model:
    """The model applied to each half of a batch; batch norm takes the statistics of a half."""
    images = keras.Input((None, None, 3), name="images")
    first, second = (model(half) for half in tf.split(images, 2))
    joined = {name: tf.concat([first[name], second[name]], 0) for name in first}
    return keras.Model(images, joined)


def side_by_side(steps: list[Callable[[], None]], times: int) -> Callable[[], Any]:
    """`times` steps of each net; all nets train at the same time."""
    pool = ThreadPoolExecutor(len(steps))
    return lambda: list(pool.map(lambda once: [once() for _ in range(times)], steps))


if __name__ == "__main__":
    main()
