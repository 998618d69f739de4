"""Squares cut out of photographs."""

import os

import numpy as np
from PIL import Image

from tools.docs import crops


def test_squares_are_parts_of_their_photograph_and_reproducible(tmp_path):
    """Red increases from left to right and green from top to bottom, so pixels have positions."""
    os.mkdir(tmp_path / "whole")
    y, x = np.mgrid[:200, :250]
    ramp = np.stack([x, y, 0 * x], axis=2).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "whole" / "ramp.png")
    Image.fromarray(ramp[::-1]).save(tmp_path / "whole" / "turned.png")
    config = crops.CropsConfig(str(tmp_path / "whole"), str(tmp_path / "one"), each=3)
    crops.main(config)
    assert sorted(os.listdir(tmp_path / "one")) == ["ramp", "turned"]
    assert len(os.listdir(tmp_path / "one" / "ramp")) == 3
    one = crops.square(ramp, np.random.default_rng(0))
    assert one.size == (crops.SIZE, crops.SIZE)
    pixels = np.asarray(one).astype(int)
    across, down = np.ptp(pixels[crops.SIZE // 2, :, 0]), np.ptp(pixels[:, crops.SIZE // 2, 1])
    assert abs(across - down) <= 2  # a square
    assert 0.25 * 200 - 2 <= across <= 0.6 * 200
    again = crops.square(ramp, np.random.default_rng(0))
    np.testing.assert_array_equal(pixels, np.asarray(again))
