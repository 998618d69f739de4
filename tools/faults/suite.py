"""Starts runs, waits for them, stops them and compares their results."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from typing import Any

import tensorflow as tf

from mgta_tf import config as config_lib
from mgta_tf.errors import UserError
from mgta_tf.runtime import files
from mgta_tf.training import guidance
from tools.faults import two_workers

NET = {
    "image_size": 32,
    "width": 0.0625,
    "blocks": (1, 1, 1, 1),
    "optimizer": "sgd",  # builds its graph in half the time of Adam
    "clip_norm": 10.0,
    "deterministic": True,
}
RUN = {
    **NET,
    "mixed_precision": "off",  # the same where flags are a command line and where they are a config
    "data_source": "shapes",
    "shapes_count": 96,
    "labels": "clusters",
    "decoder": "mirror",
    "iae_epochs": 6,
    "rounds": 3,
    "epochs_per_round": 2,
    "final_epochs": 6,
    "num_clusters": 6,
    "clusters_per_batch": 2,
    "images_per_cluster": 8,
    "log_every_steps": 4,
    "checkpoint_every_steps": 2,
}
SUPERVISED = {
    **NET,
    "data_source": "shapes",
    "shapes_count": 96,
    "epochs": 8,
    "batch_size": 16,
    "checkpoint_every_steps": 3,
}
HOSTS = {**RUN, "rounds": 1, "clusters_per_batch": 4, "images_per_cluster": 4}  # of two devices
LIFE = 900.0  # seconds after which a process that should have ended counts as hung

Row = dict[str, Any]  # tries, survived, bytes_lost, and further values
Rows = dict[str, Row]  # by name


@dataclasses.dataclass(frozen=True)
class Suite:
    """Folder of the runs, extent of the tests, random generator, and the rows so far."""

    scratch: str
    short: bool
    random: random.Random
    before: Rows

    def tries(self, long: int, short: int = 1) -> int:
        return short if self.short else long

    def folder(self, name: str) -> str:
        """Path of a new folder, which does not exist yet."""
        path = os.path.join(self.scratch, name)
        shutil.rmtree(path, ignore_errors=True)
        return path

    def undisturbed(self, name: str, flags: dict[str, Any]) -> dict[str, bytes]:
        """The result of an undisturbed run with these flags, which is run once."""
        path = os.path.join(self.scratch, name)
        if not os.path.exists(f"{path}.done"):
            finish(path, flags)
            with open(f"{path}.done", "w", encoding="ascii"):
                pass
        return ending(path)


def command(workdir: str, flags: dict[str, Any]) -> list[str]:
    """The command line of a run."""
    module = "mgta_tf.supervised" if "epochs" in flags else "mgta_tf.train"
    return [sys.executable, "-m", module, *config_lib.to_arguments({**flags, "workdir": workdir})]


def begin(workdir: str, flags: dict[str, Any]) -> subprocess.Popen[str]:
    return _start(command(workdir, flags))


def begin_hosts(words: list[str]) -> list[subprocess.Popen[str]]:
    """The same command on two hosts of 127.0.0.1; the first is the chief."""
    return [_start(words, TF_CONFIG=each) for each in two_workers.tf_configs()]


def _start(words: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for a run: (exit status, last line of its output)."""
    try:
        output = process.communicate(timeout=LIFE)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return -1, "hung"
    return process.returncode, (output.strip().splitlines() or [""])[-1]


def finish(workdir: str, flags: dict[str, Any]) -> None:
    """Runs, or resumes, to the end."""
    status, line = end(begin(workdir, flags))
    if status:
        raise UserError(f"{workdir}: ended with {status}: {line}")


def positions(workdir: str) -> list[tuple[int, int, int]]:
    """(number, turn, step) of the checkpoints, oldest first."""
    found = []
    for path in glob.glob(os.path.join(workdir, "checkpoints", "ckpt-*.json")):
        try:
            with open(path, encoding="utf-8") as file:
                about = json.load(file)
        except (OSError, ValueError):  # deleted, or damaged by us
            continue
        number = int(os.path.basename(path)[len("ckpt-") : -len(".json")])
        found.append((number, about["turn"], about["step"]))
    return sorted(found)


def wait_for_checkpoints(workdir: str, count: int, process: subprocess.Popen[str]) -> bool:
    """Waits until `count` more checkpoints have been written; False if the run ends before."""
    first = max([0, *(number for number, _, _ in positions(workdir))])
    while max([0, *(number for number, _, _ in positions(workdir))]) < first + count:
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def stage_of(workdir: str, flags: dict[str, Any]) -> str:
    """The current stage of a run, by its newest checkpoint."""
    if "epochs" in flags:
        return "supervised"
    config = config_lib.from_dict(guidance.GuidanceConfig, flags)
    schedule = list(guidance.turns(config))
    turn = max([(0, 0, 0), *positions(workdir)])[1]
    return schedule[turn].stage if turn < len(schedule) else "done"


def ending(workdir: str) -> dict[str, bytes]:
    """The result of a run, by name: tensors, labels, and the rows of its summary."""
    found: dict[str, bytes] = {}
    paths = [tf.train.latest_checkpoint(os.path.join(workdir, "checkpoints"))]
    paths += [os.path.join(workdir, "checkpoints", name) for name in ("iae", "supervised")]
    for path in paths:
        if not os.path.exists(f"{path}.index"):
            continue
        reader = tf.train.load_checkpoint(path)
        for name, dtype in reader.get_variable_to_dtype_map().items():
            if dtype != tf.string:  # the position has seconds in it, and the graph object ids
                key = f"{os.path.basename(path).partition('-')[0]}/{name}"
                found[key] = reader.get_tensor(name).tobytes()
    for path in glob.glob(os.path.join(workdir, "labels", "*.npz")):
        for name, values in files.arrays(path).items():
            found[f"{os.path.basename(path)}/{name}"] = values.tobytes()
    with open(os.path.join(workdir, "summary.json"), encoding="utf-8") as file:
        summary = json.load(file)
    for number, stage in enumerate(summary["stages"]):
        found[f"stage {number}"] = json.dumps(_without_clocks(stage), sort_keys=True).encode()
    return found


def _without_clocks(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    equal = {k: v for k, v in value.items() if not k.endswith("seconds") and k != "peak_memory_mb"}
    return {key: _without_clocks(item) for key, item in equal.items()}


def bytes_lost(one: dict[str, bytes], other: dict[str, bytes]) -> int:
    """Number of bytes in which two results differ."""
    names = one.keys() | other.keys()
    pairs = ((one.get(name, b""), other.get(name, b"")) for name in names)
    return sum(max(len(a), len(b)) for a, b in pairs if a != b)


def checksum(values: dict[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(values):
        whole.update(name.encode() + values[name])
    return whole.hexdigest()[:16]
