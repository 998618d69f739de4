"""Notebooks among the documents: executed as they stand, and compared with their stored outputs.

nbformat, nbclient and ipykernel are those of requirements-docs.txt.
"""

from __future__ import annotations

import os
from typing import Any

from mgta_tf.errors import UserError

TIMEOUT = 1800  # seconds for a cell
LARGEST = 400_000  # bytes of a notebook with its outputs, which are part of the repository


def run(path: str, folder: str) -> None:
    """Executes a notebook in a folder.

    Raises:
      UserError: it is too large, a cell fails, or a cell lacks a kind of output that is stored,
        such as a picture.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError
    except ModuleNotFoundError as error:
        raise UserError(f"{path}: {error.name} is missing; run make docs-check") from None
    if os.path.getsize(path) > LARGEST:
        raise UserError(f"{path}: more than {LARGEST} bytes; store smaller pictures")
    notebook = nbformat.read(path, as_version=4)
    stored = [kinds(cell) for cell in notebook.cells]
    resources = {"metadata": {"path": folder}}
    try:
        NotebookClient(
            notebook, timeout=TIMEOUT, kernel_name="python3", resources=resources
        ).execute()
    except CellExecutionError as error:
        raise UserError(f"{path}: fails as it stands: {error}") from None
    for number, (cell, before) in enumerate(zip(notebook.cells, stored), 1):
        if missing := before - kinds(cell):
            raise UserError(
                f"{path}: cell {number} no longer has the output {', '.join(sorted(missing))}; "
                "fix it, or execute the notebook and store it again"
            )


def kinds(cell: Any) -> set[str]:
    """The kinds of output of a cell: MIME types, and the names of streams."""
    found = set()
    for output in cell.get("outputs", ()):
        found |= {output["name"]} if output["output_type"] == "stream" else set(output["data"])
    return found - {"stderr"}  # progress
