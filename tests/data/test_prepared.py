"""TensorFlow Datasets that are prepared on disk."""

import tracemalloc

import numpy as np
import pytest

from mgta_tf.data import images
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets", reason="TensorFlow Datasets is not installed")

COUNT, SIDE = 24, 120


def examples(count):
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        noise[0, 0] = number
        yield number, {"image": noise, "label": number % 3}


@pytest.fixture(scope="module", params=["tfrecord", "array_record"])
def prepared(request, tmp_path_factory):
    """(folder, name) of a data set in a file format."""
    folder, name = tmp_path_factory.mktemp("tfds"), f"noise_{request.param}"
    image = tfds.features.Image(shape=(None, None, 3), encoding_format="png")
    features = {"image": image, "label": tfds.features.ClassLabel(names=["a", "b", "c"])}
    tfds.dataset_builders.store_as_tfds_dataset(
        name,
        "1.0.0",
        tfds.features.FeaturesDict(features),
        {"train": examples(COUNT), "test": examples(3)},
        data_dir=folder,
        file_format=request.param,
        disable_shuffling=True,
    )
    return folder, name


def opened(prepared, split):
    folder, name = prepared
    return open_source(
        DataConfig(data_source=f"tfds:{name}", data_dir=str(folder), data_split=split)
    )


ALL = [*range(COUNT)]


@pytest.mark.parametrize(
    ("split", "numbers"),
    [
        ("train", ALL),
        ("test", [0, 1, 2]),
        ("train[5:9]", [5, 6, 7, 8]),
        ("train[50%:]+test", [*ALL[12:], 0, 1, 2]),
    ],
)
def test_images_and_classes_are_those_that_were_stored(prepared, split, numbers):
    source, stored = opened(prepared, split), [one for _, one in examples(COUNT)]
    assert source.names == [f"{prepared[1]}[{number}]" for number in range(len(numbers))]
    assert source.class_names == ("a", "b", "c")
    assert source.labels.tolist() == [stored[number]["label"] for number in numbers]
    for number, of_stored in enumerate(numbers):
        np.testing.assert_array_equal(
            images.decode(source.read(number)), stored[of_stored]["image"]
        )


def test_it_holds_no_images_in_memory(prepared):
    tracemalloc.start()
    source = opened(prepared, "train")
    for number in range(COUNT):
        size = len(source.read(number))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size > SIDE**2 * 3
    assert held < COUNT * size / 2


def test_a_split_that_is_not_there(prepared):
    with pytest.raises(UserError, match="no split 'nope'"):
        opened(prepared, "nope")


def test_a_missing_tfds_data_set_is_named(tmp_path):
    with pytest.raises(UserError, match="tfds:mnist: not prepared on disk"):
        open_source(DataConfig(data_source="tfds:mnist", data_dir=str(tmp_path)))
