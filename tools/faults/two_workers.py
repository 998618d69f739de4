"""Trains with two processes on 127.0.0.1 that find each other by TF_CONFIG, and checks the result.

  python -m tools.faults.two_workers --workdir=runs/two_workers

In stage 1, two workers must have the losses of one worker up to a tolerance. Later stages are not
compared with one worker, because pseudo labels of such small nets depend on rounding. The optimizer
is SGD, because Adam amplifies rounding of small gradients. Only the chief writes the workdir, with
the same files as one worker. When one worker is killed, the other stops with one line. Restarted,
both end with the losses and labels of two undisturbed workers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np

from mgta_tf import cli
from mgta_tf import config as config_lib
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime import files

FLAGS = dict(
    mixed_precision="off",  # the tolerance is for float32
    data_source="shapes", shapes_count=96, image_size=32, width=0.0625, blocks="1,1,1,1",
    decoder="mirror", labels="clusters", iae_epochs=2, rounds=1, epochs_per_round=1,
    final_epochs=1, num_clusters=6, global_batch=16,
    images_per_cluster=4, triplet_scope="global", log_every_steps=2, warmup_steps=10,
    optimizer="sgd", learning_rate=0.001, lambda_start=1, lambda_end=1, checkpoint_every_steps=3,
)  # fmt: skip
LOSSES = ("reconstruction_loss", "triplet_loss")


@dataclasses.dataclass(frozen=True)
class TwoWorkersConfig:
    """The check."""

    workdir: str = flag("runs/two_workers", "Folder for the runs; its content is deleted.")
    tolerance: float = flag(
        0.001, "Largest relative difference of a stage's losses, one worker against two.", minimum=0
    )
    timeout: float = flag(900.0, "Time limit of a run in seconds.", minimum=1)


def main(config: TwoWorkersConfig) -> None:
    shutil.rmtree(config.workdir, ignore_errors=True)
    os.makedirs(config.workdir)
    one, two, disturbed = (os.path.join(config.workdir, n) for n in ("one", "two", "disturbed"))
    wait([start(one)], config.timeout)
    wait(start_both(two), config.timeout)
    check(
        difference(one, two, stages=1) <= config.tolerance,
        "the losses differ by more than --tolerance",
    )
    check(
        sorted(os.listdir(one)) == sorted(os.listdir(two)), "two workers write other files than one"
    )
    print("two workers train like one, and write one workdir", flush=True)

    workers = start_both(disturbed)
    wait_for_checkpoint(disturbed, workers, config.timeout)
    workers[1].send_signal(signal.SIGKILL)
    survivor = workers[0].wait(config.timeout)
    check(survivor != 0, "the surviving worker ended without an error")
    print(f"one worker was killed; the other stopped with status {survivor}", flush=True)
    wait(start_both(disturbed), config.timeout)
    check(difference(two, disturbed, stages=4) == 0, "killing a worker changed the losses")
    check(relabelled(two, disturbed) == 0, "killing a worker changed the pseudo labels")
    print("restarted, both end like two undisturbed workers", flush=True)


def start(workdir: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
    flags = config_lib.to_arguments(FLAGS)
    command = [sys.executable, "-m", "mgta_tf.train", f"--workdir={workdir}", *flags]
    return subprocess.Popen(command, env={**os.environ, **(environment or {})})


def start_both(workdir: str) -> list[subprocess.Popen]:
    """Two workers that know each other's addresses; worker 0 is the chief."""
    return [start(workdir, {"TF_CONFIG": each}) for each in tf_configs()]


def tf_configs() -> list[str]:
    """`TF_CONFIG` of two workers on 127.0.0.1, at free ports."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    tasks = [{"type": "worker", "index": index} for index in range(2)]
    return [json.dumps({"cluster": cluster, "task": task}) for task in tasks]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait(processes: list[subprocess.Popen], timeout: float) -> None:
    """Waits for all processes; stops all when one of them fails."""
    try:
        for process in processes:
            check(process.wait(timeout) == 0, "a run failed; its message is above")
    except subprocess.TimeoutExpired:
        raise UserError(f"a run took longer than --timeout={timeout:g} seconds") from None
    finally:
        for process in processes:
            process.kill()


def wait_for_checkpoint(workdir: str, processes: list[subprocess.Popen], timeout: float) -> None:
    ends = time.monotonic() + timeout
    while not os.path.exists(os.path.join(workdir, "checkpoints", "checkpoint")):
        for process in processes:
            check(process.poll() is None, "a run ended before its first checkpoint")
        check(time.monotonic() < ends, "no checkpoint was written before --timeout")
        time.sleep(0.2)


def difference(one: str, other: str, stages: int) -> float:
    """The largest relative difference of the losses of the first `stages` stages, also printed.

    Raises:
      UserError: the runs do not have the same stages.
    """
    first, second = (losses_of(workdir) for workdir in (one, other))
    check(first.shape == second.shape, f"{other} has other stages than {one}")
    relative = np.abs(first - second) / np.where(first == 0, 1.0, np.abs(first))
    largest = float(relative[:stages].max())
    print(
        f"{other}: losses of stages 1 to {stages} differ from {one}'s by {largest:.4%} at most",
        flush=True,
    )
    return largest


def losses_of(workdir: str) -> np.ndarray:
    """Both losses of every stage, [stages, 2]."""
    with open(os.path.join(workdir, "summary.json"), encoding="utf-8") as file:
        stages = json.load(file)["stages"]
    return np.array([[stage[name] for name in LOSSES] for stage in stages])


def relabelled(one: str, other: str) -> int:
    """Number of pseudo labels of all GLPs that differ."""
    names = os.listdir(os.path.join(one, "labels"))
    pairs = [
        [files.arrays(os.path.join(run, "labels", name))["label"] for run in (one, other)]
        for name in names
    ]
    return sum(int(np.sum(labels != others)) for labels, others in pairs)


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise UserError(otherwise)


if __name__ == "__main__":
    cli.run(main, TwoWorkersConfig)
