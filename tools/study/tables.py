"""Common parts of Tables 2 and 3: the paper's rows, their order, and the files of a table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_text

TITLES = {  # of the paper's rows, in its order
    "random": "Random",
    "iae": "IAE (baseline)",
    "mgta_100": "MGTA (k=100)",
    "mgta_300": "MGTA (k=300)",
    "supervised": "Supervised",
}


def parse_rows(text: str, flag_name: str) -> dict[str, str]:
    """'a=DIR,b=DIR' → {'a': 'DIR', 'b': 'DIR'}.

    Raises:
      UserError: it is something else, or names a row twice.
    """
    pairs = [part.partition("=") for part in text.split(",") if part]
    names = [name for name, _, path in pairs if name and path]
    if not pairs or len(set(names)) != len(pairs):
        raise UserError(f"--{flag_name}={text}: must be name=DIR,name=DIR, all names different")
    return {name: path for name, _, path in pairs}


def make_folder(output: str) -> None:
    """Makes the folder of a table.

    Raises:
      UserError: none is named.
    """
    if not output:
        raise UserError("--output is required: a folder for the table")
    os.makedirs(output, exist_ok=True)


def title_of(name: str) -> str:
    return TITLES.get(name, name)


def in_order(names: Iterable[str]) -> list[str]:
    """The paper's rows in the paper's order, then the others."""
    names = list(names)
    return [n for n in TITLES if n in names] + [n for n in names if n not in TITLES]


def number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def write(folder: str, name: str, text: str, head: Sequence[str], rows: list[list[Any]]) -> None:
    """NAME.txt and NAME.csv, in which an undefined figure is an empty field."""
    write_text(os.path.join(folder, f"{name}.txt"), text)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        shown = [f"{v:.3f}" if isinstance(v, float) else "" if v is None else v for v in row]
        writer.writerow(shown)
    write_text(os.path.join(folder, f"{name}.csv"), file.getvalue())


def save_bars(figure: Any, axes: Any, path: str) -> None:
    """Adds grid and legend to a bar chart, writes it as PNG, and closes it."""
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
