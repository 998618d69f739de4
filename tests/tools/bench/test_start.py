"""The files of the bench of the start, and the lines that it fits."""

import pytest

from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import load_store
from tools.bench import start


def test_files_are_images_of_different_content_in_class_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "IN_FOLDER", 50)
    start.write_files(str(tmp_path), 0, 70)
    start.write_files(str(tmp_path), 70, 130)  # a folder that has begun is filled
    store = load_store(open_source(DataConfig(data_dir=str(tmp_path))), size=8)
    assert len(store) == 130
    assert [(store.labels == c).sum() for c in range(3)] == [50, 50, 30]
    assert len({path.read_bytes() for path in tmp_path.rglob("*.JPEG")}) == 130


def test_records_hold_the_same_images_as_files(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "IN_FOLDER", 50)
    for name, write in start.WRITERS.items():
        write(str(tmp_path / name), 0, 70)
        write(str(tmp_path / name), 70, 130)
    found = [open_source(DataConfig(data_dir=str(tmp_path / name))) for name in start.WRITERS]
    images, records = (
        {name: (s.labels[n], s.read(n)) for n, name in enumerate(s.names)} for s in found
    )
    assert len(images) == 130
    assert images == records
    assert found[0].class_names == found[1].class_names


def test_laws_of_exact_lines():
    counts = [100, 1000, 10_000]
    first = [(5 + 2e-3 * n, 1e9 + 300 * n) for n in counts]
    second = [(4 + 2e-5 * n, 1e9 + 100 * n) for n in counts]
    time, memory = start.laws("files", counts, {"first": first, "second": second})
    assert time["ours"] == pytest.approx(4 + 2e-5 * 1_281_167)
    assert time["ratio"] == pytest.approx(time["ours"] / 60)
    assert time["pass"]
    assert time["laws"]["first_seconds"][:2] == pytest.approx((5, 2e-3))
    assert memory["ours"] == pytest.approx(300)  # of the run that needs more
    assert not memory["pass"]
