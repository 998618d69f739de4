"""Digits in random colors: shapes and classes are scikit-learn's, everything else is random."""

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

from mgta_tf.data import digits
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.errors import UserError


def test_an_image_depends_on_its_number_and_split_alone():
    np.testing.assert_array_equal(digits.single_object(5, 0), digits.single_object(5, 0))
    assert not np.array_equal(digits.single_object(5, 0), digits.single_object(6, 0))
    again = 5 + digits.count(0)  # the same handwriting
    assert digits.label_of(again, 0) == digits.label_of(5, 0)
    assert not np.array_equal(digits.single_object(5, 0), digits.single_object(again, 0))


def test_the_splits_share_no_digit_and_have_scikit_learns_classes():
    truth = load_digits().target
    found = [[digits.label_of(n, split) for n in range(digits.count(split))] for split in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(found), truth)


def test_the_mask_is_the_digit():
    """Its means over 8×8 squares correlate with scikit-learn's pixels."""
    strokes = load_digits().images
    for number in range(20):
        mask = digits.mask(strokes[number] / 16, digits.SIZE, 0.0, 0.0)
        blocks = mask.reshape(8, digits.SIZE // 8, 8, digits.SIZE // 8).mean((1, 3))
        assert np.corrcoef(blocks.ravel(), strokes[number].ravel())[0, 1] > 0.9


def test_colors_size_and_place_are_independent_of_the_class(monkeypatch):
    """By Kruskal-Wallis tests over the ten classes, no random draw depends on the class."""
    drawn = []
    mask, colors = digits.mask, digits._colors

    def spied_mask(strokes, *place):
        drawn[-1].extend(place)
        return mask(strokes, *place)

    def spied_colors(rng):
        ink, ground = colors(rng)
        drawn.append([*ink, *ground.mean((0, 1)), (ink - ground.mean((0, 1))).sum()])
        return ink, ground

    monkeypatch.setattr(digits, "mask", spied_mask)
    monkeypatch.setattr(digits, "_colors", spied_colors)
    for number in range(1000):
        digits.single_object(number, 0)
    labels = load_digits().target[:1000]
    values = np.array(drawn)
    assert values.shape == (1000, 10)
    for column in values.T:
        assert column.std() > 0
        assert stats.kruskal(*(column[labels == digit] for digit in range(10))).pvalue > 0.001


def test_raw_pixels_hardly_predict_the_class():
    """A linear classifier is near chance, 10 %; on scikit-learn's own pixels it is above 85 %."""
    truth = load_digits()
    images = np.stack([digits.single_object(number, 0)[::8, ::8] for number in range(1000)])
    for pixels, low, high in ((images, 5, 20), (truth.images[:1000], 85, 100)):
        pixels = pixels.reshape(1000, -1) / pixels.max()
        classifier = RidgeClassifier().fit(pixels[:700], truth.target[:700])
        assert low < 100 * classifier.score(pixels[700:], truth.target[700:1000]) < high


def test_splits_are_train_and_val():
    source = open_source(DataConfig(data_source="digits", shapes_count=7, data_split="val"))
    assert len(source.names) == 7
    assert source.class_names == tuple("0123456789")
    assert source.read(3).shape == (digits.SIZE, digits.SIZE, 3)
    with pytest.raises(UserError, match="digits has the splits train and val, not 'test'"):
        open_source(DataConfig(data_source="digits", data_split="test"))
