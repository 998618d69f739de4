"""TensorFlow Datasets that are prepared on disk."""

import shutil
import tracemalloc

import numpy as np
import pytest

from mgta_tf.data import images
from mgta_tf.data.names import Names
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import load_store
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


def opened(prepared, split, remembered=""):
    folder, name = prepared
    data = DataConfig(data_source=f"tfds:{name}", data_dir=str(folder), data_split=split)
    return open_source(data, remembered=remembered)


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


def test_names_take_little_memory(prepared):
    assert isinstance(opened(prepared, "train").names, Names)


def test_stamps_belong_to_records_and_not_to_splits(prepared):
    def stamps(split):
        source = opened(prepared, split)
        return [source.stamp(number) for number in range(len(source.names))]

    train, test = stamps("train"), stamps("test")
    assert len({*train, *test}) == COUNT + 3
    assert stamps("train[5:9]+test[1:]") == train[5:9] + test[1:]


@pytest.mark.parametrize("split", ["train", "train[3:20]+test"])
def test_a_second_run_reads_and_decodes_nothing(prepared, tmp_path, monkeypatch, split):
    file = str(tmp_path / "run" / "checked.npz")
    first = load_store(opened(prepared, split, file), size=8, cache_budget_mb=0, check_file=file)
    with monkeypatch.context() as reading:
        for place in ("tfrecords._scan", "tfrecords.Shards.read", "prepared._Numbered._record"):
            reading.setattr(f"mgta_tf.data.{place}", None)
        source = opened(prepared, split, file)
        second = load_store(source, size=8, cache_budget_mb=0, check_file=file)
    assert second.fingerprint(True) == first.fingerprint(True)
    assert len(second.class_names) == 3
    third = load_store(opened(prepared, split, file), size=8, cache_budget_mb=0, check_file=file)
    every = np.arange(len(first))
    np.testing.assert_array_equal(third.batch(every), first.batch(every))


@pytest.fixture
def damaged(prepared, tmp_path):
    """A copy of the data set with another byte in one of its training images."""
    folder, name = shutil.copytree(prepared[0], tmp_path / "copy"), prepared[1]
    (path,) = folder.rglob(f"{name}-train.*")
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT", len(content) // 2) + 1000] ^= 255
    path.write_bytes(content)
    return folder, name


def test_a_damaged_record_is_skipped(damaged):
    source = opened(damaged, "train")
    store = load_store(source, size=8, max_bad_fraction=0.5)
    ((name, reason),) = store.skipped
    assert reason.startswith("a damaged record")
    assert len(store) == COUNT - 1
    for number, label in enumerate(source.labels):
        assert label == number % 3 or source.names[number] == name


def test_labels_that_are_wrong_under_the_same_size_and_time_are_used_once(prepared, tmp_path):
    file = str(tmp_path / "run" / "checked.npz")
    opened(prepared, "train").keep(file)
    (kept,) = (tmp_path / "run").iterdir()
    with np.load(kept) as stored:
        content = {**stored}
    content["labels"][5] = 0  # it is 2
    np.savez(kept, **content)
    trusting = opened(prepared, "train", file)
    assert trusting.labels[5] == 0
    with pytest.raises(images.BadImage, match="not the record that was there"):
        trusting.read(5)
    assert opened(prepared, "train", file).labels.tolist() == [n % 3 for n in range(COUNT)]


@pytest.mark.parametrize("labels", [np.zeros(3, np.int32), np.zeros(COUNT), np.array([{}])])
def test_damaged_labels_are_read_again(prepared, tmp_path, capsys, labels):
    file = str(tmp_path / "run" / "checked.npz")
    opened(prepared, "train").keep(file)
    (kept,) = (tmp_path / "run").iterdir()
    with np.load(kept) as stored:
        content = {**stored}
    np.savez(kept, **{**content, "labels": labels})
    assert opened(prepared, "train", file).labels.tolist() == [n % 3 for n in range(COUNT)]
    assert f"{kept}: damaged" in capsys.readouterr().out
