"""Agreement of features, against loops and hand-worked cases."""

import numpy as np
import pytest

from tools.bench import precision


def test_the_relative_error_is_relative_to_the_spread():
    exact = np.array([[9.0], [11.0]], np.float32)  # spread 1 about the mean 10
    rounded = exact + np.array([[0.1], [-0.1]], np.float32)
    assert precision.relative_error(exact, rounded) == pytest.approx(0.1, abs=1e-5)
    assert precision.relative_error(exact + 100, rounded + 100) == pytest.approx(0.1, abs=1e-4)


def nearest_by_loops(x, top):
    centered = x - x.mean(0)
    found = []
    for i, a in enumerate(centered):
        cosine = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in centered]
        order = sorted((j for j in range(len(x)) if j != i), key=lambda j: -cosine[j])
        found.append(set(order[:top]))
    return found


def test_kept_neighbors_match_loops():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(30, 4)).astype(np.float32)
    rounded = (exact + rng.normal(scale=0.3, size=exact.shape)).astype(np.float32)
    pairs = zip(nearest_by_loops(exact, 5), nearest_by_loops(rounded, 5))
    expected = np.mean([len(a & b) / 5 for a, b in pairs])
    assert 0.2 < expected < 0.95
    assert precision.neighbors_kept(exact, rounded, 5) == pytest.approx(expected)
    assert precision.neighbors_kept(exact, exact, 5) == 1


def test_equal_features_agree_in_every_row():
    rng = np.random.default_rng(1)
    classes = np.arange(400) % 4
    points = (rng.normal(size=(4, 8))[classes] + rng.normal(size=(400, 8))).astype(np.float32)
    features = {name: {"float32": points, "bfloat16": points} for name in ("embedding", "res4")}
    found = {row["bench"] + row["unit"]: row for row in precision.agreement(features, classes)}
    assert found["features in bfloat16: relative errorshare"]["ours"] == 0
    assert found["features in bfloat16: nearest 20 keptshare"]["ours"] == 1
    clusters = found["features in bfloat16: clustersARI"]
    assert clusters["ours"] == 1
    assert clusters["peer"] < 1
    assert all(row["pass"] for row in found.values())
