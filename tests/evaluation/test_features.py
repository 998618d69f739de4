"""The protocol's image, pools and normalization."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mgta_tf.errors import UserError
from mgta_tf.evaluation import features


@pytest.mark.parametrize(
    ("endpoint", "side", "channels", "numbers"),
    [
        ("res2", 56, 256, 9216),
        ("res3", 28, 512, 8192),
        ("res4", 14, 1024, 9216),
        ("res5", 7, 2048, 8192),
    ],
)
def test_feature_sizes_of_protocols_2_2(endpoint, side, channels, numbers):
    maps = np.zeros((1, side, side, channels), np.float32)
    assert features.pool(maps, endpoint).shape == (1, numbers)


def test_pooling_of_res4_matches_loops():
    maps = np.random.default_rng(0).normal(size=(2, 14, 14, 3)).astype(np.float32)
    expected = np.zeros((2, 3, 3, 3))
    for row in range(3):
        for column in range(3):
            window = maps[:, 3 * row : 3 * row + 8, 3 * column : 3 * column + 8]
            expected[:, row, column] = window.mean((1, 2))
    np.testing.assert_allclose(features.pool(maps, "res4"), expected.reshape(2, -1), atol=1e-6)
    assert features.pool_name("res4", 14, 14) == "average 8×8, stride 3"


def test_small_maps_are_cut_into_bins_that_share_borders():
    maps = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    # rows and columns [0,2), [1,3), [2,4): means of 2×2 windows one apart
    expected = [2.5, 3.5, 4.5, 6.5, 7.5, 8.5, 10.5, 11.5, 12.5]
    np.testing.assert_allclose(features.pool(maps, "res4")[0], expected)
    assert features.pool_name("res4", 4, 4) == "adaptive average 3×3"
    assert features.pool(maps[:, :2, :2], "res5").shape == (1, 4)


def test_only_the_layers_that_an_endpoint_needs_run(tmp_path):
    """The other endpoint of this SavedModel cannot be computed: 96 is no multiple of 7."""

    class Encoder(tf.Module):
        def __init__(self):
            self.scale = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, "images")])
        def encode(self, images):
            res4 = self.scale * tf.cast(images, tf.float32)
            return {"res4": res4, "embedding": tf.reshape(res4, [-1, 7])}

    module, images = Encoder(), np.ones((2, 4, 4, 3), np.uint8)
    tf.saved_model.save(module, str(tmp_path), signatures={"encode": module.encode})
    encode = features.load_encode(str(tmp_path), "res4")
    np.testing.assert_array_equal(encode(images=tf.constant(images))["res4"], 2.0 * images)
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of 7"):
        features.load_encode(str(tmp_path), "embedding")(images=tf.constant(images))


def test_features_have_length_1_and_zero_stays_zero():
    values = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    normalized = features.normalize(values)
    np.testing.assert_allclose(normalized, [[3 / 5.00001, 4 / 5.00001], [0, 0]], rtol=1e-6)
    assert normalized.dtype == np.float32


def test_the_image_is_stretched_not_cropped():
    """A wide image keeps its marked left and right ends."""
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, :30], pixels[:, -30:] = 255, 255
    image = features.voc_image(pixels)
    assert image.shape == (224, 224, 3)
    assert image[:, :20].min() > 250
    assert image[:, -20:].min() > 250
    assert image[:, 60:160].max() < 5


def test_the_image_matches_two_resizes_by_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (333, 500, 3)).astype(np.uint8)
    middle = Image.fromarray(pixels).resize((384, 256), Image.Resampling.BILINEAR)
    expected = np.asarray(middle.resize((224, 224), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(features.voc_image(pixels), expected)


def test_extraction_keeps_order_and_names_its_pool():
    def encode(images):
        return {"res4": tf.cast(images, tf.float32)}

    images = np.random.default_rng(0).integers(1, 256, (5, 14, 14, 3)).astype(np.uint8)
    found, name = features.extract(encode, (images[i] for i in features.in_batches(5, 2)), "res4")
    expected = features.normalize(features.pool(images.astype(np.float32), "res4"))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert name == "average 8×8, stride 3"


def test_the_cache_returns_the_features_of_the_same_key(tmp_path):
    made = []

    def make():
        made.append(1)
        return np.full((2, 2), len(made), np.float32), "p"

    folder = str(tmp_path / "cache")
    for key, expected in (("a", 1), ("a", 1), ("b", 2), ("a", 1)):
        values, name = features.cached(folder, key, make)
        assert (values[0, 0], name) == (expected, "p")
    assert len(made) == 2
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-30])
    assert features.cached(folder, "a", make)[0][0, 0] == 3  # damaged, so computed again


def test_a_folder_that_is_no_saved_model_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: not a SavedModel"):
        features.load_encode(str(tmp_path), "res4")
