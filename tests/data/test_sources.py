"""Every format from hand-made files, and what is wrong with them in one line."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mgta_tf.data import images, tfrecords
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import load_store
from mgta_tf.errors import UserError


def picture(value, size=40):
    return Image.fromarray(np.full((size, size, 3), value, np.uint8))


def save(path, value, size=40):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(value, size).save(path)


def opened(folder, **flags):
    return open_source(DataConfig(data_dir=str(folder), **flags))


def values(source):
    """The grey value of every image, as its file says."""
    out = []
    for i in range(len(source.names)):
        data = source.read(i)
        out.append(int((images.decode(data) if isinstance(data, bytes) else data)[0, 0, 0]))
    return out


def test_flat_folder(tmp_path):
    save(tmp_path / "b.png", 2)
    save(tmp_path / "a.BMP", 1)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    source = opened(tmp_path)
    assert source.names == ["a.BMP", "b.png"]
    assert source.labels is None
    assert values(source) == [1, 2]
    assert "no classes" in source.format


def test_class_folders(tmp_path):
    save(tmp_path / "dogs" / "1.png", 3)
    save(tmp_path / "cats" / "1.png", 1)
    save(tmp_path / "cats" / "2.png", 2)
    (tmp_path / "empty").mkdir()
    source = opened(tmp_path)
    assert source.class_names == ("cats", "dogs")
    assert source.labels.tolist() == [0, 0, 1]
    assert values(source) == [1, 2, 3]


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    (tmp_path / "words.txt").write_text("n01\ttench\nn02\tgoldfish, carp\n")
    save(tmp_path / "train" / "n01" / "images" / "n01_0.png", 10)
    save(tmp_path / "train" / "n02" / "images" / "n02_0.png", 20)
    save(tmp_path / "train" / "n02" / "images" / "n02_1.png", 21)
    save(tmp_path / "val" / "images" / "val_0.png", 30)
    save(tmp_path / "val" / "images" / "val_1.png", 31)
    table = "val_1.png\tn02\t0\t0\t9\t9\nval_0.png\tn01\t0\t0\t9\t9\n"
    (tmp_path / "val" / "val_annotations.txt").write_text(table)
    return tmp_path


def test_tiny_imagenet(tiny):
    train = opened(tiny)
    assert values(train) == [20, 21, 10]
    assert train.labels.tolist() == [0, 0, 1]
    assert train.class_names == ("goldfish, carp", "tench")
    val = opened(tiny, data_split="val")
    assert values(val) == [31, 30]
    assert val.labels.tolist() == [0, 1]


def test_tiny_imagenet_faults(tiny):
    with pytest.raises(UserError, match="not for 'test'"):
        opened(tiny, data_split="test")
    table = tiny / "val" / "val_annotations.txt"
    table.write_text("val_0.png\tn09\n")
    with pytest.raises(UserError, match=r"val_annotations.txt:1: class 'n09'"):
        opened(tiny, data_split="val")
    table.write_text("../../../secret.png\tn01\n")
    with pytest.raises(UserError, match="points outside"):
        opened(tiny, data_split="val")


@pytest.fixture
def mini_csv(tmp_path):
    (tmp_path / "train.csv").write_text("filename,label\na.png,n2\nb.png,n1\n")
    (tmp_path / "test.csv").write_text("filename,label\nc.png,n3\n")
    for value, name in enumerate("abc"):
        save(tmp_path / "images" / f"{name}.png", value)
    return tmp_path


def test_mini_imagenet_csv_joins_all_splits(mini_csv):
    source = opened(mini_csv)
    assert values(source) == [0, 1, 2]
    assert source.labels.tolist() == [1, 0, 2]
    assert source.class_names == ("n1", "n2", "n3")
    assert "train.csv, test.csv" in source.format


@pytest.mark.parametrize("name", ["../../x.png", "/etc/passwd", "link.png"])
def test_csv_entries_stay_inside_their_folder(mini_csv, name):
    os.symlink("/etc/passwd", mini_csv / "images" / "link.png")
    (mini_csv / "val.csv").write_text(f"filename,label\na.png,n1\n{name},n1\n")
    with pytest.raises(UserError, match=r"val.csv:3: .*points outside"):
        opened(mini_csv)


def test_csv_of_another_kind(mini_csv):
    (mini_csv / "val.csv").write_text("id,class\n1,2\n")
    with pytest.raises(UserError, match=r"val.csv: its first line"):
        opened(mini_csv)


CACHE = {
    "image_data": np.random.default_rng(0).integers(0, 256, (5, 84, 84, 3)).astype(np.uint8),
    "class_dict": {"n1": [0, 1], "n2": [2, 3, 4]},
}


@pytest.mark.parametrize("protocol", range(6))
def test_mini_imagenet_pickles(tmp_path, protocol):
    for split in ("train", "val"):
        path = tmp_path / f"mini-imagenet-cache-{split}.pkl"
        path.write_bytes(pickle.dumps(CACHE, protocol=protocol))
    source = opened(tmp_path)
    assert len(source.names) == 10
    assert source.labels.tolist() == [0, 0, 1, 1, 1] * 2
    for number in (0, 4, 5, 9):
        np.testing.assert_array_equal(source.read(number), CACHE["image_data"][number % 5])


def test_mini_imagenet_pickles_of_python_2(tmp_path):
    """Written by hand in protocol 0, as Python 2 and its NumPy did: byte strings, no encoding."""
    raw = CACHE["image_data"][:1].tobytes()
    escaped = "".join(
        c if 32 <= ord(c) < 127 and c not in "'\\" else f"\\x{ord(c):02x}"
        for c in raw.decode("latin1")
    )
    text = (
        "(dp0\nS'image_data'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\n"
        "tR(I1\n(I1\nI84\nI84\nI3\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\n"
        f"tbI00\nS'{escaped}'\ntbsS'class_dict'\n(dS'n1'\n(lI0\nass."
    )
    (tmp_path / "mini-imagenet-cache-test.pkl").write_bytes(text.encode("latin1"))
    source = opened(tmp_path)
    assert source.class_names == ("n1",)
    np.testing.assert_array_equal(source.read(0), CACHE["image_data"][0])


class Payload:
    def __init__(self, function, *words):
        self.what = function, words

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize(
    "content",
    [
        Payload(os.system, "touch {marker}"),
        Payload(eval, "open('{marker}', 'w')"),
        {"image_data": Payload(exec, "open('{marker}', 'w')"), "class_dict": {}},
        {"image_data": np.array([{}, []], dtype=object), "class_dict": {}},
        {"image_data": np.zeros((2, 84, 84, 3), np.float32), "class_dict": {}},
        {"image_data": CACHE["image_data"], "class_dict": {"n1": [5]}},
        {"image_data": CACHE["image_data"]},
        [1, 2, 3],
    ],
)
def test_other_pickles_are_refused_and_run_nothing(tmp_path, content):
    marker = tmp_path / "ran"
    data = pickle.dumps(content).replace(b"{marker}", str(marker).encode()[-8:].rjust(8, b"x"))
    path = tmp_path / "mini-imagenet-cache-train.pkl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"mini-imagenet-cache-train.pkl: not a miniImageNet cache"):
        opened(tmp_path)
    assert os.listdir(tmp_path) == [path.name]


def test_a_cut_pickle_is_named(tmp_path):
    path = tmp_path / "mini-imagenet-cache-train.pkl"
    path.write_bytes(pickle.dumps(CACHE)[:-1000])
    with pytest.raises(UserError, match=r"cache-train.pkl: not a miniImageNet cache"):
        opened(tmp_path)


def make_tfrecords(source, output, shards):
    command = [sys.executable, "tools/make_tfrecord.py", f"--data_dir={source}"]
    return subprocess.run(
        [*command, f"--output={output}", f"--shards={shards}"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_tfrecords_there_and_back(tmp_path):
    for value in range(5):
        save(tmp_path / "in" / f"class {value % 2}" / f"{value}.png", value)
    (tmp_path / "in" / "class 1" / "bad.png").write_bytes(b"no image")
    done = make_tfrecords(tmp_path / "in", tmp_path / "out", 2)
    assert done.returncode == 0, done.stderr
    assert "5 images in 2 files" in done.stdout
    assert "1 left out" in done.stdout
    source = opened(tmp_path / "out")
    assert sorted(values(source)) == [0, 1, 2, 3, 4]
    assert source.class_names == ("class 0", "class 1")
    for number, value in enumerate(values(source)):
        assert source.labels[number] == value % 2
        assert source.names[number] == f"class {value % 2}/{value}.png"
    assert make_tfrecords(tmp_path / "in", tmp_path / "out", 2).returncode == 1


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_damaged_tfrecords_are_named(tmp_path, damage):
    path = tmp_path / "0.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(3):
            content = tfrecords.make_example(b"x" * 50, "name", -1, "").SerializeToString()
            writer.write(b"\xff" * 9 if damage == "other" else content)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-5]
    elif damage == "flip":
        data[30] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"0.tfrecord: (cut or damaged|record 0)"):
        opened(tmp_path)


def test_shapes_need_no_folder():
    source = open_source(DataConfig(data_source="shapes", shapes_count=7))
    assert len(source.names) == len(source.labels) == 7
    assert source.read(3).dtype == np.uint8


def test_tfds_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="tfds:mnist: not prepared on disk"):
        open_source(DataConfig(data_source="tfds:mnist", data_dir=str(tmp_path)))


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match="no images: give --data_dir"):
        open_source(DataConfig())
    with pytest.raises(UserError, match="gone: no such folder"):
        opened(tmp_path / "gone")
    with pytest.raises(UserError, match="no images in it"):
        opened(tmp_path)
    with pytest.raises(UserError, match="must be 'shapes' or"):
        DataConfig(data_source="imagenet")


# ------------------------------------------------------------------------------------------ Store


@pytest.mark.parametrize("budget", [0, 100])
def test_store_skips_counts_and_lists_bad_images(tmp_path, budget):
    folder = tmp_path / "in"
    for value in range(20):
        save(folder / f"c{value % 2}" / f"{value:02d}.png", value)
    (folder / "c0" / "04.png").write_bytes(b"")
    skipped_file = tmp_path / "skipped.txt"
    store = load_store(
        opened(folder),
        size=32,
        cache_budget_mb=budget,
        max_bad_fraction=0.05,
        skipped_file=str(skipped_file),
    )
    assert (store.pixels is None) == (budget == 0)
    assert len(store) == 19
    assert skipped_file.read_text() == "c0/04.png\tempty file\n"
    order = np.array([18, 0, 7, 7])
    batch = store.batch(order)
    assert (batch.shape, batch.dtype) == ((4, 32, 32, 3), np.uint8)
    assert [f"{v:02d}.png" for v in batch[:, 0, 0, 0]] == [store.names[i][3:] for i in order]
    assert store.labels[order].tolist() == [int(store.names[i][1]) for i in order]


def test_too_many_bad_images_stop_the_run(tmp_path):
    for value in range(9):
        save(tmp_path / f"{value}.png", value)
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1 of 10 images.*x.png: not a JPEG"):
        load_store(opened(tmp_path), size=32, max_bad_fraction=0.09)


def test_an_image_that_vanishes_is_named(tmp_path):
    for value in range(3):
        save(tmp_path / f"{value}.png", value)
    store = load_store(opened(tmp_path), size=32, cache_budget_mb=0)
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match=r"1.png: was readable"):
        store.batch(np.array([0, 1]))
