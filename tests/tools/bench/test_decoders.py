"""The cost of a decoder against its operations."""

import pytest

from tools.bench import decoders

WORK = {"mirror": 4.0, "light": 3.0, "none": 2.0}  # GFLOP an image
SECONDS = {"mirror": [20.0], "light": [16.0], "none": [8.0]}  # of 100 images


def test_a_decoder_passes_if_it_costs_what_its_operations_suggest():
    light, none = decoders.rows_of("a net", WORK, SECONDS, 100)
    assert light["bench"] == "step, a net, --decoder=light against mirror"
    assert light["ours"] == pytest.approx(3.0 / 0.16)
    assert light["peer"] == pytest.approx(4.0 / 0.20)
    assert light["pass"]  # 0.94 of mirror's GFLOP/s
    assert none["ratio"] == pytest.approx(1.25)
    assert none["gflop_per_image"] == {"mirror": 4.0, "none": 2.0}
    assert none["ms_per_image"] == pytest.approx({"mirror": 200, "none": 80})
    (slow, _) = decoders.rows_of("a net", WORK, {**SECONDS, "light": [18.0]}, 100)
    assert not slow["pass"]  # 0.83
