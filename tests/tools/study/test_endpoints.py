"""Endpoints of an encoder: batch statistics by hand, order of the images, and the page."""

import numpy as np
import pytest
import tensorflow as tf

from tools.study import endpoints

keras = tf.keras


def toy_encoder():
    images = keras.Input((None, None, 3))
    x = keras.layers.BatchNormalization(epsilon=0.0, momentum=1.0)(images)
    pooled = keras.layers.GlobalAveragePooling2D()(x)
    maps = dict.fromkeys(("res2", "res3", "res4", "res5"), x)
    return keras.Model(images, {**maps, "embedding": pooled})


@pytest.mark.parametrize("training", [False, True])
def test_endpoints_are_in_the_order_of_the_images(training, monkeypatch):
    monkeypatch.setattr(endpoints, "BATCH", 4)
    images = np.random.default_rng(1).integers(256, size=(12, 2, 2, 3), dtype=np.uint8)
    found = endpoints.endpoints_of(toy_encoder(), "unit", images, training)
    values = images / 255
    if training:  # batches of 4 in a random order that the function keeps to itself
        order = np.random.default_rng(0).permutation(12).reshape(3, 4)
        for chosen in order:
            part = values[chosen]
            values[chosen] = (part - part.mean((0, 1, 2))) / part.std((0, 1, 2))
    np.testing.assert_allclose(found["res4"], values, atol=1e-4)
    np.testing.assert_allclose(found["embedding"], values.mean((1, 2)), atol=1e-4)


def test_the_page_has_a_line_for_each_encoder_and_kind_of_statistics():
    rows = [
        {"encoder": "iae", "statistics": statistics, "endpoint": endpoint, "map": value}
        for statistics, values in (("moving", (1, 2, 3, 4, 5)), ("batch", (6, 7, 8, 9, 10)))
        for endpoint, value in zip(("res2", "res3", "res4", "res5", "embedding"), values)
    ]
    text = endpoints.page(rows)
    assert "| `iae` | of training | 1.00 | 2.00 | 3.00 | 4.00 | 5.00 |" in text
    assert "| `iae` | of 500 images | 6.00 | 7.00 | 8.00 | 9.00 | 10.00 |" in text
