"""The figures beside the quickstart's clusters."""

import re

import numpy as np
import pytest

from mgta_tf.evaluation.labelled import Labelled
from tools.quickstart import pictures


def test_the_clusters_are_beside_the_untrained_encoder_and_chance(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pictures, "CLUSTERS", 5)
    labels = np.arange(500) % 5
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 500, 8)).astype(np.float32)
    separated, by_half = np.eye(8)[labels] * 50, np.eye(8)[np.minimum(labels, 2)] * 50
    part = Labelled(
        "digits", lambda rows: np.zeros((len(rows), 8, 8, 3), np.uint8), labels, labels, (), ""
    )
    pictures.clusters(separated + noise[0], by_half + noise[1], part, str(tmp_path / "c.png"))
    found = re.search(
        r"digits ([\d.]+) \(untrained encoder ([\d.]+), by chance ([\d.]+)\)",
        capsys.readouterr().out,
    )
    own, untrained, chance = map(float, found.groups())
    assert own == 1
    # Two classes alone and three together, which k-means splits at random into three.
    assert 0.5 < untrained < 0.9
    assert chance == pytest.approx(0, abs=0.05)
