"""Images that a Python caller passes: how many there are, and the progress of encoding them."""

import io
import math
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

import mgta_tf
from mgta_tf.embed import embedder, inputs

IMAGES = np.arange(5 * 32 * 32 * 3).reshape(5, 32, 32, 3).astype(np.uint8)
ONE_BY_ONE = tf.data.Dataset.from_tensor_slices(IMAGES)
# Of batches, the last of which may be smaller, only their number is known.
DATA = {
    "an array": (IMAGES, 5),
    "a list": (list(IMAGES), 5),
    "a list with a batch": ([IMAGES[0], IMAGES], 6),
    "a photograph": (Image.fromarray(IMAGES[0]), 1),
    "a generator": (lambda: (image for image in IMAGES), math.inf),
    "a data set": (ONE_BY_ONE, 5),
    "a data set with labels": (ONE_BY_ONE.map(lambda image: {"image": image, "label": 1}), 5),
    "a data set of batches": (ONE_BY_ONE.batch(2), math.inf),
    "a filtered data set": (ONE_BY_ONE.filter(lambda image: True), math.inf),
}


@pytest.mark.parametrize("name", DATA)
def test_the_count_is_that_of_the_images_that_are_read(name):
    data, expected = DATA[name]
    data = data() if callable(data) else data
    count = inputs.count_of(data)
    assert count == expected
    assert sum(len(names) for names, _ in inputs.batches(data, 32, 2)) in (count, 5)


def test_paths_are_counted_in_any_container(tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for data in (
        paths,
        tuple(paths),
        np.array(paths),
        pd.Series(paths),
        pd.DataFrame({"p": paths}),
    ):
        assert inputs.count_of(data) == 3
    assert inputs.count_of(paths[0]) == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("progress", [True, False])
def test_embed_shows_a_line_for_every_kind_of_data_if_it_is_to(name, progress, monkeypatch):
    data = DATA[name][0]
    encoder = SimpleNamespace(size=32, dimensions=3, encode=lambda images: images.mean((1, 2)))
    monkeypatch.setattr(embedder, "open_embedder", lambda *_: encoder)
    monkeypatch.setattr(sys, "stderr", Terminal())
    data = data() if callable(data) else data
    vectors = mgta_tf.embed("m", data, batch_size=2, progress=progress).vectors
    np.testing.assert_allclose(vectors[0], IMAGES[0].mean((0, 1)))
    assert ("%|" in sys.stderr.getvalue()) is progress
