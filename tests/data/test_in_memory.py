"""Images in memory as a source."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mgta_tf.data.in_memory import source_of
from mgta_tf.data.store import load_store
from mgta_tf.errors import UserError


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


def stored(data):
    store = load_store(source_of(data), size=32)
    return store.names, store.batch(np.arange(len(store)))


def test_arrays_datasets_and_lists_give_the_same_images(pixels, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for path, image in zip(paths, pixels):
        Image.fromarray(image).save(path)
    whole = tf.data.Dataset.from_tensor_slices(pixels)
    numbers = tuple(map(str, range(6)))
    for data in (
        pixels,
        list(pixels),
        [Image.fromarray(image) for image in pixels],
        whole,
        whole.batch(4),
        tf.data.Dataset.from_tensor_slices((pixels, np.arange(6))),
        tf.data.Dataset.from_tensor_slices({"image": pixels, "label": np.arange(6)}).batch(5),
    ):
        names, found = stored(data)
        assert names == numbers
        np.testing.assert_array_equal(found, pixels)
    names, found = stored(paths)
    assert names == tuple(map(str, paths))
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), r"uint8 \[N, H, W, 3\].*not float32 \[2, 8, 8, 3\]"),
        (np.zeros((2, 8, 8), np.uint8), r"not uint8 \[2, 8, 8\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), "ndarray: no images in it"),
        ([], "list: no images in it"),
        (7, "int: neither a folder nor images"),
        ([7], "image 0: int is neither an image nor a path of one"),
        (tf.data.Dataset.range(3), r"images are uint8 .* not int64 \[\]"),
    ],
)
def test_invalid_data_is_refused(data, message):
    with pytest.raises(UserError, match=message):
        source_of(data)


def test_a_picture_in_memory_is_read_like_its_file(tmp_path):
    hidden = np.zeros((32, 32, 4), np.uint8)
    hidden[..., 0] = 200  # red, but fully transparent
    deep = Image.fromarray(np.full((32, 32), 40_000, np.uint16))
    pictures = [Image.fromarray(hidden), deep]
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, picture in zip(paths, pictures):
        picture.save(path)
    _, found = stored(pictures)
    assert (found[0] == 255).all()  # transparent pixels lie on white
    assert (found[1] == 40_000 >> 8).all()
    np.testing.assert_array_equal(found, stored(paths)[1])
