"""Tables of names and vectors as files: NumPy's .npz, .csv, .parquet. Written row block by block.

A name may contain any bytes. In .npz it is the path as Python represents it, for use with `open`;
in .csv and .parquet, which are UTF-8, other bytes are escaped as \\udcXX.
"""

from __future__ import annotations

import itertools
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from mgta_tf import extras
from mgta_tf.errors import UserError
from mgta_tf.runtime import files

ROWS = 4096  # rows written at once


def check_path(path: str) -> None:
    """Whether a table can be written to this path, before anything is encoded.

    Raises:
      UserError: no path, an unknown suffix, or .parquet without pyarrow.
    """
    suffix = os.path.splitext(path)[1]
    if suffix not in WRITERS:
        raise UserError(f"--output={path}: must end in {', '.join(WRITERS)}")
    if suffix == ".parquet":
        extras.require("pyarrow", "pyarrow", "parquet", f"--output={path}")


def write(path: str, names: Sequence[str], vectors: np.ndarray, origin: dict[str, Any]) -> None:
    """Writes a table atomically, in the format of the suffix.

    Args:
      path: .npz: arrays `name` [N] and `embedding` float32 [N, D]; .csv: columns `name`,
        `embedding_0` …; .parquet: columns `name` and `embedding`, a list of D floats.
      names: [N].
      vectors: float32 [N, D]; may be a memory map.
      origin: What the vectors were made from; only .npz keeps it.
    """
    with files.replacing(path) as file:
        WRITERS[os.path.splitext(path)[1]](file, names, vectors, origin)


def read(path: str) -> tuple[list[str], np.ndarray, dict[str, Any]]:
    """Names, vectors and `origin` of an .npz that `write` wrote.

    Raises:
      UserError: the file is not such a table.
    """
    try:
        found = files.arrays(path, "name", "embedding", "origin")
        names, vectors, origin = (
            found["name"],
            found["embedding"],
            json.loads(str(*found["origin"])),
        )
        if names.dtype.kind != "U" or vectors.dtype != np.float32 or vectors.ndim != 2:
            raise ValueError("its arrays are of other types")
        if names.shape != vectors.shape[:1] or not isinstance(origin, dict):
            raise ValueError("its arrays do not fit each other")
    except ValueError as error:
        raise UserError(f"{path}: no table of mgta_tf.embed ({error})") from None
    return names.tolist(), vectors, origin


def as_utf8(name: str) -> str:
    """The name with bytes that are not UTF-8 escaped: 'caf\\udce9.jpg' for Latin-1's 'café.jpg'."""
    return name.encode("utf-8", "backslashreplace").decode()


def _slices(count: int) -> Iterator[slice]:
    for start in range(0, count, ROWS):
        yield slice(start, start + ROWS)


def _write_npz(file: BinaryIO, names, vectors: np.ndarray, origin: dict[str, Any]) -> None:
    width = max(map(len, names), default=1)
    columns = (
        ("name", np.dtype(f"<U{max(width, 1)}"), names),
        ("embedding", np.dtype("<f4"), vectors),
        ("origin", np.dtype(f"<U{len(json.dumps(origin))}"), [json.dumps(origin)]),
    )
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, kind, values in columns:
            shape = np.shape(values) if name == "embedding" else (len(values),)
            header = {"descr": kind.str, "fortran_order": False, "shape": shape}
            # Without the time of day: the same table is the same file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                for rows in _slices(len(values)):
                    member.write(np.asarray(values[rows], kind).tobytes())


def _write_csv(file: BinaryIO, names, vectors: np.ndarray, origin: dict[str, Any]) -> None:
    del origin
    header = ["name", *(f"embedding_{i}" for i in range(vectors.shape[1]))]
    # `str` of a NumPy float is the shortest form that reads back as the same bits.
    rows = ([name, *map(str, vector)] for name, vector in zip(names, vectors))
    files.write_csv(file, itertools.chain([header], rows))


def _write_parquet(file: BinaryIO, names, vectors: np.ndarray, origin: dict[str, Any]) -> None:
    del origin
    import pyarrow
    import pyarrow.parquet

    vector_type = pyarrow.list_(pyarrow.float32(), vectors.shape[1])
    schema = pyarrow.schema([("name", pyarrow.string()), ("embedding", vector_type)])
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        for part in _slices(len(names)):
            values = pyarrow.array(np.ravel(vectors[part]), pyarrow.float32())
            column = pyarrow.FixedSizeListArray.from_arrays(values, vectors.shape[1])
            named = pyarrow.array([as_utf8(name) for name in names[part]], pyarrow.string())
            writer.write_batch(pyarrow.record_batch([named, column], schema=schema))


WRITERS = {".npz": _write_npz, ".csv": _write_csv, ".parquet": _write_parquet}
