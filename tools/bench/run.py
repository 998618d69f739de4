"""Measures the speed of this package and of its peers, in turns.

  python tools/bench.py all --torch_python=TORCH_VENV/bin/python --json=bench.json
  python tools/bench.py step --torch_python=TORCH_VENV/bin/python

Benchmarks: step (a training step, also relative to a matrix product), decoders (time of a step
against its floating-point operations), threads (a step with other thread pools, or in another
arrangement on the cores), epoch (P×K epochs from files against the bare step), encode, precision
(encoding in bfloat16: speed and agreement), sampler, labels (fraction of a round), memory, start
(from the shell to the first step, on 1,024 files and on up to --start_images), scaling (laws over
image size and number of images). Each prints a line of JSON per row: medians and spreads of
seconds, versions, threads, ratio, target.

Peers: --torch_python is the interpreter of an environment made by requirements-bench-torch.txt;
requirements-bench.txt describes tensorflow-similarity. Rows of a missing peer are skipped, with a
message. `python -m tools.docs.performance` writes the table of docs/performance.md.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from mgta_tf import cli
from mgta_tf.errors import UserError
from tools.bench import rows
from tools.bench.config import BenchConfig

RUNS = {  # name: module of this folder, function
    "step": ("step", "step"),
    "decoders": ("decoders", "decoders"),
    "threads": ("threads", "threads"),
    "epoch": ("files", "epoch"),
    "encode": ("files", "encode"),
    "precision": ("precision", "precision"),
    "sampler": ("batches", "sample"),
    "labels": ("rounds", "labels"),
    "memory": ("rounds", "memory"),
    "start": ("start", "start"),
    "scaling": ("scaling", "scaling"),
}
NAME = ""  # name of the benchmark, from the command line
ENTRY = str(pathlib.Path(__file__).resolve().parents[1] / "bench.py")


def main(config: BenchConfig) -> None:
    if NAME == "all":
        rows.finish(run_all(), config.json)
        return
    # TensorFlow is imported here, not for --help.
    module, function = RUNS[NAME]
    found = getattr(importlib.import_module(f"tools.bench.{module}"), function)(config)
    for row in found:
        print(json.dumps(row), flush=True)
    rows.finish(found, config.json)


def run_all() -> list[dict]:
    """Runs every benchmark in a separate process, because memory is measured."""
    found = []
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "rows.json")
            rest = [word for word in sys.argv[1:] if not word.startswith("--json")]
            command = [sys.executable, ENTRY, name, *rest, f"--json={path}"]
            print(f"== {name}", flush=True)
            if subprocess.run(command, check=False).returncode:
                raise UserError(f"'{name}' failed; its message is above")
            with open(path, encoding="utf-8") as file:
                found += json.load(file)
    return found


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in (*RUNS, "all", "--help", "--help=all"):
        cli.fail(f"name a benchmark first: {', '.join(RUNS)} or all", status=2)
    if not sys.argv[1].startswith("--help"):
        NAME = sys.argv.pop(1)
    cli.run(main, BenchConfig)
