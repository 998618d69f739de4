"""PyTorch in a separate process, for benchmarks in turns."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from tools.bench.config import BenchConfig
from tools.bench.worker import Worker

JOBS = pathlib.Path(__file__).with_name("torch_jobs.py")


def torch_worker(config: BenchConfig, job: str, **arguments: Any) -> Worker:
    """A job of tools/bench/torch_jobs.py."""
    return Worker([config.torch_python, str(JOBS), job, json.dumps(arguments)])


def without_torch(config: BenchConfig, what: str) -> bool:
    if not config.torch_python:
        print(f"{what}: no --torch_python, so nothing to compare with", flush=True)
    return not config.torch_python
