"""Augmentation on hand-worked cases, and the feed."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.data import pipeline
from mgta_tf.data.pipeline import UNIFORMS, AugmentConfig, Feed
from mgta_tf.errors import UserError

OFF = dict(image_size=32, flip=False, crop_min_area=1.0, color_jitter=0.0)


class Store:
    """Image i is filled with i, except for its upper left pixel, which is 255."""

    def __init__(self, count, size=32):
        self.size = size
        self._pixels = np.repeat(np.arange(count, dtype=np.uint8), size * size * 3)
        self._pixels = self._pixels.reshape(count, size, size, 3)
        self._pixels[:, 0, 0] = 255

    def batch(self, indices):
        return self._pixels[indices]


def seen(images, draws, config):
    return pipeline.augment(images, draws, config)[0]


# The columns of `uniforms` that the tests set, by what they control.
COLUMN = dict(crop_area=0, crop_aspect=1, crop_left=3, flip=4, brightness=5, saturation=7)
SQUARES = 9  # the first of 4×4


def uniforms(n, **draws):
    values = np.full((n, UNIFORMS), 0.5, np.float32)
    for name, value in draws.items():
        values[:, COLUMN[name]] = value
    return tf.constant(values)


def test_no_augmentation_leaves_images_unchanged():
    images = Store(4).batch(np.arange(4))
    out = seen(images, uniforms(4), AugmentConfig(**OFF))
    np.testing.assert_array_equal(out, images)


def test_half_of_the_images_are_mirrored():
    images = Store(2).batch(np.array([0, 1]))
    draws = np.full((2, UNIFORMS), 0.5, np.float32)
    draws[:, COLUMN["flip"]] = [0.49, 0.51]
    out = seen(images, tf.constant(draws), AugmentConfig(**{**OFF, "flip": True}))
    np.testing.assert_array_equal(out[0], images[0])
    np.testing.assert_array_equal(out[1], images[1][:, ::-1])


@pytest.mark.parametrize("u", [0.0, 0.5, 0.999])
def test_crops_stay_inside_the_image_and_have_their_area(u):
    """On a horizontal ramp, the values of a crop tell where it was cut."""
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, None, :, None], (1, 64, 64, 3))
    config = AugmentConfig(**{**OFF, "crop_min_area": 0.25})
    out = seen(ramp, uniforms(1, crop_area=u, crop_aspect=0.5, crop_left=1.0), config).numpy()[
        0, 0, :, 0
    ]
    width = np.sqrt(0.25 + 0.75 * u)
    assert out[-1] == pytest.approx(63, abs=2e-3)  # as far right as it goes
    assert out[-1] - out[0] == pytest.approx(63 * width, rel=1e-3)


def test_a_mirrored_crop_is_the_mirror_of_the_crop():
    image = np.random.default_rng(0).integers(0, 256, (1, 40, 40, 3)).astype(np.uint8)
    draws = np.full((2, UNIFORMS), 0.3, np.float32)
    draws[:, COLUMN["flip"]] = [0.49, 0.51]
    config = AugmentConfig(**{**OFF, "flip": True, "crop_min_area": 0.4})
    plain, mirrored = seen(image.repeat(2, axis=0), tf.constant(draws), config).numpy()
    np.testing.assert_allclose(mirrored, plain[:, ::-1], atol=0.01)


def test_color_jitter_by_hand():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[:] = (100, 50, 200)
    config = AugmentConfig(**{**OFF, "color_jitter": 0.5})
    brighter = seen(image, uniforms(1, brightness=0.9), config)  # 1 + 0.5 · 0.8
    np.testing.assert_allclose(brighter[0, 0, 0], [140, 70, 255], rtol=1e-4)
    gray = 0.299 * 100 + 0.587 * 50 + 0.114 * 200
    paler = seen(image, uniforms(1, saturation=0.0), config)  # saturation · 0.5
    np.testing.assert_allclose(paler[0, 0, 0], (np.array([100, 50, 200]) + gray) / 2, rtol=1e-4)
    config = AugmentConfig(**OFF, grayscale=0.6)
    np.testing.assert_allclose(seen(image, uniforms(1), config)[0, 0, 0], [gray] * 3)


def test_hidden_squares_have_the_mean_color():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    draws = uniforms(2).numpy()
    draws[1, SQUARES + 4 * 1 + 2] = 0.1  # row 1, column 2 of the 4×4 squares
    config = AugmentConfig(**OFF, hidden_share=0.3)
    out = seen(images, tf.constant(draws), config).numpy()
    expected = images.astype(np.float32)
    expected[1, 8:16, 16:24] = expected[1].mean((0, 1))
    np.testing.assert_allclose(out, expected, rtol=1e-5)


@pytest.mark.parametrize("reconstruct", ["seen", "clean"])
def test_the_target_is_the_input_or_the_image_before_color_changes(reconstruct):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    flips = {**OFF, "flip": True}
    draws = np.full((3, UNIFORMS), 0.8, np.float32)  # flipped, brighter
    config = AugmentConfig(
        **{**flips, "color_jitter": 0.5}, hidden_share=0.9, reconstruct=reconstruct
    )
    image, target = pipeline.augment(images, tf.constant(draws), config)
    clean = images[:, :, ::-1].astype(np.float32)
    assert not np.allclose(image, clean)
    np.testing.assert_array_equal(target, image if reconstruct == "seen" else clean)


@pytest.mark.parametrize("name", pipeline.NORMALIZATIONS)
def test_denormalize_inverts_normalize(name):
    images = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    normalized = pipeline.normalize(images, name)
    np.testing.assert_array_equal(pipeline.denormalize(normalized, name), images)


def test_imagenet_normalization_is_the_usual_one():
    value = pipeline.normalize(np.array([[124, 116, 104]], np.uint8), "imagenet").numpy()
    np.testing.assert_allclose(value, [[0.00561, -0.00490, 0.00819]], atol=1e-3)


@pytest.mark.parametrize("size", [33, 84, 100])
def test_image_size_is_a_multiple_of_32(size):
    with pytest.raises(UserError, match=f"image_size={size}.*multiple of 32"):
        AugmentConfig(image_size=size)


def read(feed, *args, **kwargs):
    return [[np.asarray(x) for x in batch] for batch in feed.batches(*args, **kwargs)]


def test_the_feed_follows_each_plan():
    feed = Feed(Store(50), 4, tf.distribute.get_strategy())
    labels = np.arange(50, dtype=np.int32) * 2
    plan = np.random.default_rng(0).integers(0, 50, (6, 4)).astype(np.int32)
    for rows in (plan, plan[::-1]):
        got = read(feed, rows, labels, seed=[1])
        np.testing.assert_array_equal([images[:, 5, 5, 0] for images, _, _ in got], rows)
        np.testing.assert_array_equal([batch[1] for batch in got], labels[rows])


def test_the_feed_resumes_with_the_same_random_numbers():
    feed = Feed(Store(50), 4, tf.distribute.get_strategy())
    plan = np.arange(40, dtype=np.int32).reshape(10, 4)
    labels = np.zeros(50, np.int32)
    whole, rest = read(feed, plan, labels, [3, 1]), read(feed, plan, labels, [3, 1], start=6)
    for a, b in zip(whole[6:], rest):
        for x, y in zip(a, b):
            np.testing.assert_array_equal(x, y)
    other = read(feed, plan, labels, [3, 2])
    assert not np.array_equal(whole[0][2], other[0][2])


def test_replicas_get_whole_clusters_in_order(two_replicas):
    feed = Feed(Store(50), 8, two_replicas)
    plan = np.arange(8, dtype=np.int32)[None]
    labels = np.repeat(np.arange(25, dtype=np.int32), 2)
    batch = next(iter(feed.batches(plan, labels, [0])))
    parts = two_replicas.experimental_local_results(batch[1])
    np.testing.assert_array_equal([p.numpy() for p in parts], [[0, 0, 1, 1], [2, 2, 3, 3]])


def test_a_feed_can_be_abandoned_before_its_end():
    feed = Feed(Store(50), 4, tf.distribute.get_strategy())
    plan = np.arange(40, dtype=np.int32).reshape(10, 4)
    next(iter(feed.batches(plan, np.zeros(50, np.int32), [0])))
    got = read(feed, plan[:2], np.zeros(50, np.int32), [0])
    np.testing.assert_array_equal([images[:, 5, 5, 0] for images, _, _ in got], plan[:2])


FEED_MANY = """
import resource
import numpy as np
from mgta_tf.data.pipeline import Feed
from mgta_tf.data.store import aligned
from mgta_tf.runtime.strategy import make_strategy

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

class Store:
    size = 64
    def __init__(self, count):
        self.pixels = aligned((count, 64, 64, 3))
        self.pixels[:] = 7

def feed(count):
    plan, labels = np.arange(64).reshape(4, 16), np.zeros(count, np.int32)
    store = Store(count)
    before = peak()
    for images, _, _ in Feed(store, 16, make_strategy(2, "clusters_per_batch")).batches(
        plan, labels, [1]
    ):
        assert int(images[0, 0, 0, 0]) == 7
    return peak() - before

feed(100)  # TensorFlow's own memory
print(feed(40_000))  # of 469 MiB
"""


def test_images_in_memory_are_not_copied():
    done = subprocess.run(
        [sys.executable, "-c", FEED_MANY], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100
