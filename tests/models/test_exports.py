"""A SavedModel of one stack loads in the other with TensorFlow alone (BUILD.md, "The stacks").

`exports/` has one of each stack, written by `exports/make.py`, with its features in that stack.
"""

import json
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest

EXPORTS = pathlib.Path(__file__).parent / "exports"

SCRIPT = """
import json, sys
import numpy as np
import tensorflow as tf
expected = dict(np.load(sys.argv[1] + "/expected.npz"))
images, loaded = expected.pop("images"), tf.saved_model.load(sys.argv[1])
outputs = {**loaded.signatures["encode"](images=tf.constant(images)),
           **loaded.signatures["reconstruct"](images=tf.constant(images))}
assert not [m for m in sys.modules if m.startswith("mgta_tf")]
np.savez(sys.argv[1] + "/found.npz", **{n: v.numpy() for n, v in outputs.items()})
"""


@pytest.mark.parametrize("tensorflow", ["2.15", "2.20"])
def test_a_saved_model_has_the_same_features_in_both_stacks(tensorflow, tmp_path):
    with tarfile.open(EXPORTS / f"tensorflow-{tensorflow}.tar.xz") as file:
        file.extractall(tmp_path)
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=True, cwd=tmp_path)
    expected, found = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("expected", "found"))
    del expected["images"]
    assert found.keys() == expected.keys()
    assert {"res2", "res5", "embedding", "reconstruction"} <= found.keys()
    for name, values in expected.items():
        if values.dtype == np.uint8:
            assert np.abs(found[name].astype(int) - values).max() <= 1, name
        else:
            assert np.abs(values).max() > 0.1
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "mgta_tf.json").read_text())["normalization"] == "imagenet"
