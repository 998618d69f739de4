"""Seconds from the shell to the first step, and peak memory until then."""

from __future__ import annotations

import contextlib
import functools
import glob
import io
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

from mgta_tf.data import shapes, tfrecords
from mgta_tf.errors import UserError
from tools.bench import rows
from tools.bench.config import BenchConfig
from tools.bench.nets import write_images
from tools.bench.scaling import fit_line
from tools.bench.timing import measured

SMALL = ("--image_size=32", "--width=0.25", "--blocks=2,2,2,2", "--checkpoint_every_steps=1")
MGTA = ("--num_clusters=20", "--labels=clusters", "--decoder=mirror", "--iae_epochs=100")
# The default recipe, with as many epochs as it chooses for a million images. Images are read as
# they are needed, as a million of them at 64 px are.
VIEWS = ("--final_epochs=20", "--cache_budget_mb=0")
IMAGENET = 1_281_167  # images
SHARES = (0.1, 0.25, 0.5, 1.0)  # of --start_images
IN_FOLDER = 1280  # images of a class, and records of a file
DISTINCT = 64  # pictures; files with the same one differ in their last bytes
POLL = 0.05  # seconds between two looks for a checkpoint
SECONDS, BYTES = 60.0, 200.0  # targets: a second run at IMAGENET, per image


def start(config: BenchConfig) -> list[dict]:
    """The start of the small model on 1,024 files, and its laws up to --start_images of a kind."""
    laws_of = (on_many(config, kind) for kind in WRITERS)
    return [on_few_files(config), *itertools.chain.from_iterable(laws_of)]


def on_few_files(config: BenchConfig) -> dict:
    """Seconds to the first step of the paper's method on --images files."""
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        images = os.path.join(folder, "images")
        os.mkdir(images)
        write_images(images, config.images, 64)
        for number in range(min(3, config.repeats)):
            workdir = os.path.join(folder, f"run{number}")
            seconds.append(start_once(images, workdir, *MGTA)[0])
    mine = statistics.median(seconds)
    row = rows.row("start, small model", mine, None, "s", mine / 30, 1.0, below=True)
    return measured(row, {"ours": seconds})


def on_many(config: BenchConfig, kind: str) -> list[dict]:
    """First and second runs on growing folders of a kind of WRITERS.

    Lines are fitted to their seconds and peak memory.
    """
    counts = [round(config.start_images * share) for share in SHARES]
    found: dict[str, list[tuple[float, float]]] = {"first": [], "second": []}
    with _folder(config.start_folder) as folder:
        images, made = os.path.join(folder, kind), 0
        for count in counts:
            WRITERS[kind](images, made, count)
            made = count
            with tempfile.TemporaryDirectory(dir=folder) as runs:
                flags = (*VIEWS, f"--check_file={runs}/checked.npz")
                for name, points in found.items():
                    points.append(start_once(images, os.path.join(runs, name), *flags))
                    seconds, memory = points[-1]
                    print(
                        f"{count:,} {kind}, {name} run: {seconds:.1f} s to the first step, "
                        f"peak memory {memory / 2**20:.0f} MiB",
                        flush=True,
                    )
    return laws(kind, counts, found)


def laws(kind: str, counts: list[int], found: dict[str, list[tuple[float, float]]]) -> list[dict]:
    """The rows of lines through (seconds, bytes) of the first and the second runs by images."""
    lines = {
        f"{name}_{what}": fit_line(np.array(counts), [point[place] for point in points])
        for name, points in found.items()
        for place, what in enumerate(("seconds", "bytes"))
    }
    for name, (fixed, slope, error) in lines.items():
        law = f"{fixed:.4g} + {slope:.4g} per image; largest error {error:.0%}"
        print(f"{kind}, {name}: {law}", flush=True)
    fixed, slope, _ = lines["second_seconds"]
    seconds = fixed + slope * IMAGENET
    name = f"start, second run on {IMAGENET:,} {kind}, extrapolated"
    of_time = rows.row(name, seconds, None, "s", seconds / SECONDS, 1.0, below=True)
    each = max(lines[f"{name}_bytes"][1] for name in found)
    name = f"memory per image until the first step, {kind}"
    of_memory = rows.row(name, each, None, "bytes", each / BYTES, 1.0, below=True)
    facts = {"images": counts, "laws": lines, "points": found}
    return [{**measured(of_time, {}), **facts}, measured(of_memory, {})]


@contextlib.contextmanager
def _folder(given: str) -> Iterator[str]:
    """The folder of --start_folder, which is kept, or a temporary one."""
    if given:
        os.makedirs(given, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def write_files(folder: str, first: int, last: int) -> None:
    """Small JPEG files `first` … `last` - 1 in class folders."""
    for number, content in _contents(first, last):
        name = f"n{number // IN_FOLDER:08d}"
        place = os.path.join(folder, name)
        if number == first or number % IN_FOLDER == 0:
            os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, f"{name}_{number}.JPEG"), "wb") as file:
            file.write(content)


def write_records(folder: str, first: int, last: int) -> None:
    """The images of `write_files`, with their classes and names, in TFRecords of IN_FOLDER each."""
    os.makedirs(folder, exist_ok=True)
    for begin in range(first, last, IN_FOLDER):
        with tf.io.TFRecordWriter(os.path.join(folder, f"{begin:08d}.tfrecord")) as writer:
            for number, content in _contents(begin, min(begin + IN_FOLDER, last)):
                label = number // IN_FOLDER
                name = f"n{label:08d}"
                path = f"{name}/{name}_{number}.JPEG"
                example = tfrecords.make_example(content, path, label, name)
                writer.write(example.SerializeToString())


WRITERS = {"files": write_files, "TFRecords": write_records}


def _contents(first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """(number, JPEG) of the images `first` … `last` - 1, no two with the same content."""
    for number in range(first, last):
        # Decoders ignore what follows the end of a JPEG.
        yield number, _pictures()[number % DISTINCT] + number.to_bytes(8, "big")


@functools.cache
def _pictures() -> list[bytes]:
    pictures = []
    for number in range(DISTINCT):
        buffer = io.BytesIO()
        Image.fromarray(shapes.single_object(number, 0)).save(buffer, "JPEG", quality=90)
        pictures.append(buffer.getvalue())
    return pictures


def start_once(images: str, workdir: str, *flags: str) -> tuple[float, float]:
    """Starts mgta_tf.train, and kills it when it has saved a checkpoint of its first step.

    Returns:
      (seconds until then, peak memory in bytes).

    Raises:
      UserError: the run ended before.
    """
    command = [sys.executable, "-m", "mgta_tf.train", f"--data_dir={images}"]
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, f"--workdir={workdir}", *SMALL, *flags], stdout=said, stderr=said
        )
        while not (saved := glob.glob(os.path.join(workdir, "checkpoints", "ckpt-*.json"))):
            if process.poll() is not None:
                break
            time.sleep(POLL)
        seconds = time.monotonic() - began
        if not saved:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-3:]
            raise UserError(f"start: the run ended before its first step: {' | '.join(last)}")
        process.kill()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = -signal.SIGKILL  # it has been waited for
    return seconds, usage.ru_maxrss * 1024.0
