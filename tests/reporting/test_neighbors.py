"""Neighbors of a report's members, against brute force and on known classes."""

import dataclasses

import numpy as np
import pytest

from mgta_tf.reporting import neighbors, record
from mgta_tf.runtime import pictures

RNG = np.random.default_rng(4)


def members(truth, coordinates, pixels):
    count = len(truth)
    return record.Members(
        round=1,
        net=1,
        label=np.arange(count) % 3,
        distance=np.zeros(count),
        name=[str(i) for i in range(count)],
        truth=np.asarray(truth),
        class_names=["a", "b"],
        coordinates=np.asarray(coordinates, np.float32),
        sizes=np.array([count]),
        sprites=pictures.jpeg(pictures.sheet(pixels), quality=95),
        thumbnail=pixels.shape[1],
    )


@pytest.fixture
def separable():
    """80 images of two classes that the features separate and the pixels do not."""
    truth = np.arange(80) % 2
    pixels = RNG.integers(0, 256, (80, 1, 1, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    return members(truth, truth[:, None] * 100 + RNG.normal(size=(80, 5)), pixels)


def test_agreement_comes_with_that_of_thumbnails_and_chance(separable):
    found = neighbors.agreement(separable)
    assert found["encoder"] == 100
    assert found["chance"] == pytest.approx(100 * 39 / 79)  # 39 others of the class, of 79
    assert 30 < found["thumbnail"] < 70
    random = dataclasses.replace(separable, coordinates=RNG.normal(size=(80, 5)))
    assert neighbors.agreement(random)["encoder"] < 70


def test_there_is_no_agreement_without_classes(separable):
    assert neighbors.agreement(dataclasses.replace(separable, truth=None)) is None
    one = np.zeros(80, int)
    assert neighbors.agreement(dataclasses.replace(separable, truth=one)) is None


def test_sprites_are_the_images_of_the_sheet(separable):
    found = neighbors.sprites(separable)
    assert found.shape == (80, 8, 8, 3)
    pixels = np.repeat(np.arange(5, dtype=np.uint8) * 50, 192).reshape(5, 8, 8, 3)
    found = neighbors.sprites(members([0, 1, 0, 1, 0], np.zeros((5, 2)), pixels))
    np.testing.assert_allclose(found.mean((1, 2, 3)), np.arange(5) * 50, atol=3)


def test_queries_are_a_few_different_images(separable):
    found = neighbors.queries(separable)
    assert len(set(found)) == neighbors.QUERIES
    assert 0 < min(found) <= max(found) < 79
