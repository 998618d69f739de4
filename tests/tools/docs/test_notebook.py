"""The tutorial notebook is stored with its outputs; make docs-check executes it again."""

import json
import os
import pathlib
import sys

import pytest

from mgta_tf.errors import UserError
from tools.docs import notebook

PATH = pathlib.Path(__file__).parents[3] / "docs" / "tutorial.ipynb"


def test_the_tutorial_is_stored_with_small_outputs_and_without_errors():
    cells = [c for c in json.loads(PATH.read_text())["cells"] if c["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result"}
    kinds = set().union(*map(notebook.kinds, cells))
    assert {"stdout", "image/png"} <= kinds
    assert os.path.getsize(PATH) < notebook.LARGEST


def test_kinds_are_streams_and_mime_types():
    stream = {"output_type": "stream", "name": "stdout", "text": "3"}
    progress = {**stream, "name": "stderr"}
    picture = {"output_type": "display_data", "data": {"image/png": "…", "text/plain": "…"}}
    cell = {"outputs": [stream, progress, picture]}
    assert notebook.kinds(cell) == {"stdout", "image/png", "text/plain"}
    assert notebook.kinds({"cell_type": "markdown"}) == set()


def test_without_jupyter_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbformat", None)
    with pytest.raises(UserError, match=r"nbformat is missing; run make docs-check"):
        notebook.run(str(PATH), str(tmp_path))
