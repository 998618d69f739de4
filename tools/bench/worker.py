"""A job in a separate process, for benchmarks in turns: another library, or other thread pools.

The process prints a line of JSON: `versions`, and `unavailable`, the reason if the job cannot run.
Then it reads lines, runs the job once for each and prints its seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from mgta_tf.errors import UserError
from tools.bench.timing import timed


class Worker:
    """A process that has prepared a job, and runs it once per call of `seconds`.

    versions: of the libraries that it uses. unavailable: why the job cannot run; empty if it can.
    """

    def __init__(self, command: list[str], environment: dict[str, str] | None = None):
        self._command = command
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        facts = json.loads(self._answer())
        self.versions: dict[str, str] = facts["versions"]
        self.unavailable: str = facts.get("unavailable", "")

    def _answer(self) -> str:
        assert self._process.stdout
        answer = self._process.stdout.readline()
        if not answer:
            raise UserError(f"{self._command}: the process ended; its message is above")
        return answer

    def seconds(self) -> float:
        assert self._process.stdin
        self._process.stdin.write("once\n")
        self._process.stdin.flush()
        return float(self._answer())

    def each(self, times: int) -> Callable[[], float]:
        """A job that runs it `times` times and returns the mean seconds of one."""
        return lambda: sum(self.seconds() for _ in range(times)) / times

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def serve(versions: dict[str, Any], once: Callable[[], Any], times: int = 1) -> None:
    """The process of a `Worker`: runs the job for each line, and prints the seconds of one step.

    times: number of steps that one call of `once` takes.
    """
    print(json.dumps({"versions": versions}), flush=True)
    for _ in sys.stdin:
        print(timed(once) / times, flush=True)
