"""PyTorch in a separate process, for benchmarks in turns."""

from __future__ import annotations

import json
import pathlib
import subprocess
from typing import Any

from mgta_tf.errors import UserError
from tools.bench.config import BenchConfig

JOBS = pathlib.Path(__file__).with_name("torch_jobs.py")


class Torch:
    """A job of tools/bench/torch_jobs.py, which each call runs once."""

    def __init__(self, python: str, job: str, **arguments: Any):
        command = [python, str(JOBS), job, json.dumps(arguments)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.versions = json.loads(self._ask(""))

    def _ask(self, line: str) -> str:
        assert self._process.stdin
        assert self._process.stdout
        if line:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise UserError("PyTorch's process ended; its message is above")
        return answer

    def seconds(self) -> float:
        return float(self._ask("once\n"))

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def without_torch(config: BenchConfig, what: str) -> bool:
    if not config.torch_python:
        print(f"{what}: no --torch_python, so nothing to compare with", flush=True)
    return not config.torch_python
