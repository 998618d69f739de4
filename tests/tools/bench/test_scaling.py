"""Laws of time against known lines and hand-worked rounds."""

import numpy as np
import pytest

from mgta_tf.data import sampler
from mgta_tf.training.timeline import SAMPLE
from tools.bench import scaling


def test_a_line_is_found_with_its_largest_relative_error():
    x = np.array([1.0, 2.0, 4.0])
    fixed, slope, error = scaling.fit_line(x, list(3 + 0.5 * x))
    assert (fixed, slope, error) == pytest.approx((3, 0.5, 0))
    # The best line through (1, 1) and (1, 3) alone: relative errors of both points are balanced.
    fixed, slope, error = scaling.fit_line(np.array([1.0, 1.0]), [1.0, 3.0])
    assert fixed + slope == pytest.approx(1.2)  # minimizes (y - 1)² + (y / 3 - 1)²
    assert error == pytest.approx(0.6)


def test_a_round_is_training_and_labels_of_both_halves():
    stages = [
        dict(round=2, seconds=3.0, label_seconds=0.5),
        dict(round=1, seconds=9.0, label_seconds=1.0),
        dict(round=1, seconds=4.0, label_seconds=1.0),
        dict(round=2, seconds=2.0, label_seconds=0.5),
    ]
    assert scaling.seconds_of_rounds(stages) == [15.0, 6.0]


def test_halves_of_the_law_are_whole_batches_and_contain_the_sample():
    """Else the time is not linear: training drops an incomplete batch, encoding pads it."""
    counts, size = scaling.counts_of(8192), sampler.BatchConfig().size
    assert counts == [2048, 4096, 6144, 8192]
    for count in (*counts, *scaling.counts_of(10_000)):
        half = count // 2
        assert half % size == 0
        assert half >= SAMPLE
        assert sampler.steps_of(half, 1, size) * size == half


def test_the_law_is_fitted_to_rounds_that_build_no_graphs(monkeypatch, tmp_path):
    def stages(count):  # the first round takes 9 s more, and one is disturbed
        later = 1 + count / 1024
        return [
            dict(round=number, seconds=spent, label_seconds=0.0)
            for number, spent in ((1, later + 9), (2, later), (3, 3 * later))
        ]

    monkeypatch.setattr(scaling, "stages_of_run", stages)
    monkeypatch.setattr(scaling, "undisturbed", lambda job, tries: job())
    row = scaling.law_of_round(8192)
    assert row["y"] == [3, 5, 7, 9]
    assert (row["fixed_seconds"], row["seconds_each"]) == pytest.approx((1, 1 / 1024))
    assert row["graph_seconds"] == 9
    assert row["pass"]
    scaling.draw_laws(str(tmp_path / "laws.png"), row, row)
    assert (tmp_path / "laws.png").stat().st_size > 1000
