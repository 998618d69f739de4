"""clusters.csv of hand-worked labels and of a run."""

import csv
import os

import numpy as np

from mgta_tf.clustering.table import clusters_table

NAMES = ["a.jpg", "b, c.jpg", 'say "d".jpg', "two\nlines.jpg", os.fsdecode(b"caf\xe9.jpg"), "é.png"]


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_rows_are_sorted_by_cluster_and_distance_with_names_of_any_bytes(tmp_path):
    path = str(tmp_path / "clusters.csv")
    index = np.array([5, 4, 3, 1, 2])
    labels = np.array([1, -1, 0, 1, 0])
    distances = np.array([0.25, 0.0, 2.0, 0.125, 1.0], np.float32)
    clusters_table(path, NAMES, index, labels, distances)
    assert read(path) == [
        ["path", "cluster", "distance"],
        ['say "d".jpg', "0", "1"],
        ["two\nlines.jpg", "0", "2"],
        ["b, c.jpg", "1", "0.125"],
        ["é.png", "1", "0.25"],
        [r"caf\udce9.jpg", "-1", "0"],
    ]
    assert os.listdir(tmp_path) == ["clusters.csv"]


def test_all_images_may_be_noise(tmp_path):
    path = str(tmp_path / "clusters.csv")
    clusters_table(path, NAMES, np.array([0]), np.array([-1]), np.array([0.5]))
    assert read(path)[1:] == [["a.jpg", "-1", "0.5"]]


def test_a_run_writes_the_table_of_its_newest_labels(finished):
    newest = np.load(sorted((finished / "labels").glob("*.npz"))[-1])
    rows = read(finished / "clusters.csv")[1:]
    assert len(rows) == len(newest["index"])
    expected = {
        f"shape {i}": (k, d)
        for i, k, d in zip(*(newest[n] for n in ("index", "label", "distance")))
    }
    for path, cluster, distance in rows:
        assert int(cluster) == expected[path][0]
        np.testing.assert_allclose(float(distance), expected[path][1], rtol=1e-5)
