"""Tables as other programs read them: NumPy, csv, pandas, pyarrow."""

import csv
import importlib.util
import os

import numpy as np
import pandas as pd
import pytest

from mgta_tf.embed import table
from mgta_tf.errors import UserError

NAMES = [
    "a.jpg",
    "b, c.jpg",
    'say "d".jpg',
    "two\nlines.jpg",
    os.fsdecode(b"caf\xe9.jpg"),
    "=1+1",
    "é.png",
]
VECTORS = np.random.default_rng(0).normal(size=(len(NAMES), 3)).astype(np.float32)
SHOWN = [name if name != NAMES[4] else r"caf\udce9.jpg" for name in NAMES]


@pytest.fixture
def written(tmp_path):
    def write(suffix):
        path = str(tmp_path / f"t{suffix}")
        table.write(path, NAMES, VECTORS, {"key": "k"})
        assert os.listdir(tmp_path) == [f"t{suffix}"]
        return path

    return write


@pytest.mark.parametrize("rows", [1, 3, 4096])
def test_npz_is_read_by_numpy(written, monkeypatch, rows):
    monkeypatch.setattr(table, "ROWS", rows)
    path = written(".npz")
    with np.load(path) as found:
        assert found["name"].tolist() == NAMES
        assert os.fsencode(found["name"][4]) == b"caf\xe9.jpg"
        np.testing.assert_array_equal(found["embedding"], VECTORS)
    names, vectors, origin = table.read(path)
    assert (names, origin) == (NAMES, {"key": "k"})
    np.testing.assert_array_equal(vectors, VECTORS)


def test_csv_keeps_every_name_and_every_bit(written):
    path = written(".csv")
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["name", "embedding_0", "embedding_1", "embedding_2"]
    assert [row[0] for row in rows[1:]] == SHOWN
    read = pd.read_csv(path)
    assert read["name"].tolist() == SHOWN
    np.testing.assert_array_equal(read.iloc[:, 1:].to_numpy(np.float32), VECTORS)


def test_parquet_has_lists_of_floats(written, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    monkeypatch.setattr(table, "ROWS", 3)
    found = parquet.read_table(written(".parquet"))
    assert found.column("name").to_pylist() == SHOWN
    assert found.schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), 3)
    np.testing.assert_array_equal(
        np.array(found.column("embedding").to_pylist(), np.float32), VECTORS
    )


def test_without_pyarrow_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    expected = r"--output=x\.parquet needs pyarrow; run pip install 'mgta_tf\[parquet\]'"
    with pytest.raises(UserError, match=expected):
        table.check_path("x.parquet")


@pytest.mark.parametrize("path", ["x.json", "x", "x.npy"])
def test_other_suffixes_are_refused(path):
    with pytest.raises(UserError, match=r"must end in \.npz, \.csv, \.parquet"):
        table.check_path(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"name": np.array(["a"]), "embedding": np.zeros((1, 2), np.float32)},
        {
            "name": np.array(["a"]),
            "embedding": np.zeros((2, 2), np.float32),
            "origin": np.array(["{}"]),
        },
        {
            "name": np.array([1]),
            "embedding": np.zeros((1, 2), np.float32),
            "origin": np.array(["{}"]),
        },
        {"name": np.array(["a"]), "embedding": np.zeros((1, 2)), "origin": np.array(["{}"])},
        {
            "name": np.array(["a"]),
            "embedding": np.zeros((1, 2), np.float32),
            "origin": np.array(["[]"]),
        },
        {
            "name": np.array(["a"]),
            "embedding": np.zeros((1, 2), np.float32),
            "origin": np.array(["{"]),
        },
    ],
)
def test_other_npz_files_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=r"x\.npz: no table of mgta_tf\.embed"):
        table.read(str(tmp_path / "x.npz"))
