"""Files that others may have damaged."""

import io
import zipfile

import numpy as np
import pytest

from mgta_tf.data import files


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
def test_what_is_no_array_is_damage(member):
    """NumPy itself gives the bytes of the first two; the last is a pickle."""
    with pytest.raises(ValueError, match=r"^damaged \("):
        files.arrays(npz(a=array(np.arange(3)), b=member))


def test_what_is_no_archive_is_damage():
    with pytest.raises(ValueError, match=r"^damaged \("):
        files.arrays(io.BytesIO(b""))
