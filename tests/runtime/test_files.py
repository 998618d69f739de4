"""Damaged files, and writes that fail."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

from mgta_tf.runtime import files


def npz(**members):
    """An .npz whose members are these bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return io.BytesIO(stream.getvalue())


def array(value):
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=True)
    return stream.getvalue()


def test_arrays_are_read():
    found = files.arrays(npz(a=array(np.arange(3)), b=array(np.float32(2))))
    np.testing.assert_array_equal(found["a"], [0, 1, 2])
    assert found["b"] == 2


@pytest.mark.parametrize(
    "member", [b"", b"PK no array", array(np.arange(3))[:-4], array(np.array([{}]))]
)
def test_a_member_that_is_no_array_is_reported_as_damage(member):
    """NumPy would return the first two as bytes; the last is a pickle."""
    with pytest.raises(ValueError, match=r"^damaged \("):
        files.arrays(npz(a=array(np.arange(3)), b=member))


def test_a_file_that_is_no_archive_is_reported_as_damage():
    with pytest.raises(ValueError, match=r"^damaged \("):
        files.arrays(io.BytesIO(b""))


def test_json_has_null_for_nan_and_infinity(tmp_path):
    path = tmp_path / "f.json"
    value = {"a": float("nan"), "b": np.float32(0.5), "c": np.arange(2), 3: (1, np.inf)}
    files.write_json(str(path), value)
    assert json.loads(path.read_text()) == {"a": None, "b": 0.5, "c": [0, 1], "3": [1, None]}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "new folder" / "f.json"
    files.write_json(str(path), {"old": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        files.write_json(str(path), {"new": 1})
    assert json.loads(path.read_text()) == {"old": 1}
