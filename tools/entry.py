"""Entry points: `python tools/NAME.py` runs a module like `python -m` does in the repository.

Scripts and folders here may have the same name (bench.py, bench/). To keep imports unambiguous,
this folder is removed from the search path, and the packages are imported as `tools.NAME` only.
"""

import pathlib
import runpy
import sys


def run(module: str) -> None:
    """Runs `module` of this repository as the program."""
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])
    runpy.run_module(module, run_name="__main__", alter_sys=True)
