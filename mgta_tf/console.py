"""Console scripts: `mgta-choose-k` is `python -m mgta_tf.choose_k`, and so on."""

import pathlib
import runpy
import sys


def main() -> None:
    """Runs the command named by the console script."""
    command = pathlib.Path(sys.argv[0]).stem.removeprefix("mgta-").replace("-", "_")
    runpy.run_module(f"mgta_tf.{command}", run_name="__main__", alter_sys=True)
