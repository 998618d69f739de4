"""Entry points: `python tools/NAME.py` runs a module as `python -m` does in the repository.

A script and a folder of tools may share a name (bench.py, bench/). No import mistakes one for the
other: this folder leaves the search path, and the packages are only known as `tools.NAME`.
"""

import pathlib
import runpy
import sys


def run(module: str) -> None:
    """Runs `module` of this repository as the program."""
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    runpy.run_module(module, run_name="__main__", alter_sys=True)
