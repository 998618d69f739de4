"""A run of one stack resumes in the other (BUILD.md, "The stacks").

`interrupted/` has runs of each stack, written by `tests/stacks.py`.
"""

import json
import pathlib
import tarfile

import pytest
import stacks
import tensorflow as tf

RUNS = pathlib.Path(__file__).parent / "interrupted"
OTHER = "2.20" if tf.__version__.startswith("2.15.") else "2.15"


@pytest.mark.parametrize(("name", "close"), [("clusters", 0.01), ("views", 1e-4)])
def test_a_run_of_the_other_stack_resumes(name, close, tmp_path):
    """With an equal state, and the same loss of the next step to the precision of its products."""
    with tarfile.open(RUNS / f"tensorflow-{OTHER}.tar.xz") as file:
        file.extractall(tmp_path)
    stacks.write_images(tmp_path / "images")
    expected = json.loads((tmp_path / name / "expected.json").read_text())
    loss = expected.pop("loss")
    session = stacks.resume(name, tmp_path / name, tmp_path / "images")
    assert stacks.state_of(session) == expected
    assert expected["steps 0"] == {"clusters": 6, "views": 5}[name]
    if name == "clusters":
        assert expected["loss scale 0"] < 2.0**15  # of a new run
        assert {"labels 0", "labels 1", "labels None", "weights 1"} <= expected.keys()
    assert stacks.loss_of_next_step(session) == pytest.approx(loss, rel=close)
