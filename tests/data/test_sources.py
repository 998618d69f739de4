"""Every format from hand-made files, and one-line messages about damaged ones."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from mgta_tf.data import images, minipickle
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
    """The gray value of every image."""
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
    assert "no class labels" in source.format


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


@pytest.mark.parametrize(
    "line", ["a\0.png,n1", "x" * 200_000 + ",n1", '"a.png,n1', "a.png"], ids=range(4)
)
def test_malformed_csv_lines_are_named(mini_csv, line):
    (mini_csv / "val.csv").write_text(f"filename,label\n{line}\n")
    with pytest.raises(UserError, match=r"val.csv:2: "):
        opened(mini_csv)


def test_lines_of_words_txt_without_a_tab_are_ignored(tiny):
    (tiny / "words.txt").write_text("n01\nn02\tgoldfish\n")
    assert opened(tiny).class_names == ("goldfish", "n01")


def test_links_to_the_outside_are_skipped_without_follow_links(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    save(inside / "a" / "0.png", 0)
    save(outside / "1.png", 1)
    save(outside / "c" / "2.png", 2)
    os.symlink(outside / "1.png", inside / "a" / "1.png")
    os.symlink(outside / "c", inside / "c")
    os.symlink(inside / "a" / "0.png", inside / "a" / "3.png")  # stays inside
    store = load_store(opened(inside), size=32, max_bad_fraction=0.6)
    assert store.names == ("a/0.png", "a/3.png")
    assert [name for name, _ in store.skipped] == ["a/1.png"]
    assert [name for name, _ in store.unread] == ["c"]
    assert all("--follow_links" in why for _, why in (*store.skipped, *store.unread))
    assert values(opened(inside, follow_links=True)) == [0, 1, 0, 2]


def test_a_folder_may_itself_be_a_link(tmp_path):
    save(tmp_path / "real" / "0.png", 7)
    os.symlink(tmp_path / "real", tmp_path / "link")
    assert values(opened(tmp_path / "link")) == [7]


def test_pipes_and_devices_are_no_images(mini_csv):
    os.mkfifo(mini_csv / "images" / "pipe.png")
    (mini_csv / "val.csv").write_text("filename,label\npipe.png,n1\n")
    store = load_store(opened(mini_csv), size=32, max_bad_fraction=0.5)
    assert [name for name, _ in store.skipped] == ["images/pipe.png"]


def test_names_of_any_bytes_are_listed_in_one_line_each(tmp_path):
    save(tmp_path / "in" / "0.png", 0)
    for name in (b"\xff\xfe.png", b"a\nb\x1b[31m.png"):
        with open(os.path.join(os.fsencode(tmp_path), b"in", name), "wb") as file:
            file.write(b"no image")
    listed = tmp_path / "skipped.txt"
    load_store(opened(tmp_path / "in"), size=32, max_bad_fraction=1.0, skipped_file=str(listed))
    lines = listed.read_text(encoding="utf-8").splitlines()
    assert [line.partition("\t")[0] for line in lines] == [r"a\nb\x1b[31m.png", r"\udcff\udcfe.png"]


def test_a_csv_with_other_columns_is_refused(mini_csv):
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
        {"image_data": CACHE["image_data"], "class_dict": {"n1": [0] * 5, "n2": [0]}},
        {"image_data": CACHE["image_data"], "class_dict": {(1, 2): [0]}},
        {"image_data": CACHE["image_data"], "class_dict": {2**61: [0]}},
        {"image_data": Payload(bytearray, 10**12), "class_dict": {}},
        {"image_data": Payload(np.ndarray, (10**9, 84, 84, 3), "u1"), "class_dict": {}},
        {"image_data": np.zeros(3, "u1,u2"), "class_dict": {}},
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


def nested(levels):
    """Nested lists, each twice in the next: a small pickle of 2**levels elements."""
    value = [1, 1]
    for _ in range(levels):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04]r\xff\xff\xff\xff.",  # a memo of 2**32 places
        b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b".",  # bytes of 2**60
        b"\x80\x04\x8b\xff\xff\xff\x7f.",  # a LONG4
        b"c_codecs\nencode\n(dS'x'\nI1\nsb.",  # sets an attribute of a function
        pickle.dumps({"image_data": nested(60), "class_dict": {}}),
        pickle.dumps({"image_data": CACHE["image_data"], "class_dict": {"n1": nested(60)}}),
        b"I" + b"9" * 10**6 + b"\n.",
    ],
    ids=("memo", "bytes", "long", "attribute", "array", "class", "digits"),
)
def test_small_pickles_that_would_grow_are_refused(tmp_path, data):
    path = tmp_path / "mini-imagenet-cache-train.pkl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cache-train.pkl: not a miniImageNet cache") as error:
        opened(tmp_path)
    assert len(str(error.value)) < 500 + len(str(path))


def test_a_pickle_of_too_many_parts_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(minipickle._Counted, "left", 1000)
    path = tmp_path / "mini-imagenet-cache-train.pkl"
    path.write_bytes(b"\x80\x04" + b"]" * 2000 + b".")
    with pytest.raises(UserError, match="opcodes"):
        opened(tmp_path)


def test_a_cut_pickle_is_named(tmp_path):
    path = tmp_path / "mini-imagenet-cache-train.pkl"
    path.write_bytes(pickle.dumps(CACHE)[:-1000])
    with pytest.raises(UserError, match=r"cache-train.pkl: not a miniImageNet cache"):
        opened(tmp_path)


def test_shapes_need_no_folder():
    source = open_source(DataConfig(data_source="shapes", shapes_count=7))
    assert len(source.names) == len(source.labels) == 7
    assert source.read(3).dtype == np.uint8


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match="no images: give --data_dir"):
        open_source(DataConfig())
    with pytest.raises(UserError, match="gone: no such folder"):
        opened(tmp_path / "gone")
    with pytest.raises(UserError, match="no images in it"):
        opened(tmp_path)
    with pytest.raises(UserError, match="must be 'digits', 'shapes' or"):
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
