"""Strips and sheets of images, by hand."""

import io

import numpy as np
from PIL import Image

from mgta_tf.runtime import pictures


def plain(*grays, size=2):
    return np.stack([np.full((size, size, 3), gray, np.uint8) for gray in grays])


def test_a_sheet_is_square_and_goes_row_by_row():
    sheet = pictures.sheet(plain(1, 2, 3, 4, 5))
    assert sheet.shape == (6, 6, 3)
    assert sheet[::2, ::2, 0].tolist() == [[1, 2, 3], [4, 5, 0], [0, 0, 0]]


def test_two_ends_have_a_gap_between_them_and_gray_for_missing_images():
    row = pictures.two_ends(plain(1, 2), plain(9), 3)
    assert row.shape == (2, 2 * 3 * 2 + pictures.GAP, 3)
    assert row[0, :6:2, 0].tolist() == [1, 2, 128]
    assert row[0, 6 + pictures.GAP :: 2, 0].tolist() == [9, 128, 128]


def test_rows_alternate_between_the_blocks():
    picture = pictures.rows([plain(1, 2, 3), plain(4, 5, 6)], columns=2)
    lines = picture[[0, 2, 4 + pictures.GAP, 6 + pictures.GAP], ::2, 0]
    assert picture.shape == (8 + pictures.GAP, 4, 3)
    assert lines.tolist() == [[1, 2], [4, 5], [3, 128], [6, 128]]


def test_small_images_are_enlarged_by_whole_pixels():
    large = pictures.enlarge(np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3), 7)
    assert large.shape == (1, 8, 8, 3)  # 2 px, four times
    np.testing.assert_array_equal(large[0, :4, :4], np.broadcast_to([0, 1, 2], (4, 4, 3)))
    assert pictures.enlarge(plain(7, size=200), 96).shape == (1, 96, 96, 3)


def test_shrink_never_enlarges():
    assert pictures.shrink(plain(7, size=8), 4).shape == (1, 4, 4, 3)
    assert pictures.shrink(plain(7, size=2), 4).shape == (1, 2, 2, 3)


def test_a_jpeg_keeps_colors():
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, ::2] = (255, 0, 0)  # columns of one pixel, which chroma subsampling would lose
    seen = np.asarray(Image.open(io.BytesIO(pictures.jpeg(pixels, quality=95))))
    assert np.abs(seen.astype(int) - pixels).max() < 40
