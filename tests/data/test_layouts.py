"""Folder layouts: the images and classes that are read, and what is reported about the rest."""

import os
import re

import cases
import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.data import tfrecords
from mgta_tf.data.sources import DataConfig, open_source, splits_of
from mgta_tf.data.store import describe, load_store, open_images
from mgta_tf.errors import UserError

TWO = ("cats", "dogs")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    out = tmp_path_factory.mktemp("layouts")
    cases.layouts(out)
    return out


def load(folder, split="", **flags):
    return load_store(open_source(DataConfig(data_dir=str(folder), **flags), split), size=8)


def count_files(folder):
    return sum(len(names) for _, _, names in os.walk(folder))


# Layout → number of images of --data_split=train, classes, splits.
READ = {
    "stray_picture": (37, ("birds", "cats", "dogs"), ()),
    "date_tree": (36, ("2024",), ()),
    "deeper": (48, TWO, ()),
    "imagefolder_splits": (24, TWO, ("train", "val")),
    "images_split": (24, TWO, ("train", "val")),
    "parent": (24, TWO, ("train", "val")),
    "parent_of_classes": (24, TWO, ()),
    "splits_in_classes": (24, TWO, ("train", "val")),
    "roboflow": (12, (), ("train", "val")),
    "years_of_coco": (12, (), ("train", "val")),
    "kaggle_sets": (24, TWO, ("train", "val")),
    "classes_and_csv": (24, TWO, ()),
    "class_train": (36, (*TWO, "train"), ()),
    "test_beside_classes": (24, TWO, ("train", "test")),
    "flat_splits": (12, (), ("train", "val")),
    "mac": (12, (), ()),
    "mac_classes": (24, TWO, ()),
    "service_folders": (24, TWO, ()),
    "yolo": (12, (), ()),
    "no_suffix": (12, (), ()),
    "single_class": (12, ("all",), ()),
    "kaggle": (12, (), ()),
    "kaggle_train": (12, (), ("train", "test")),
    "tiny_restructured": (24, ("n1", "n2"), ("train", "val")),
    "tiny_noimages": (24, ("n1", "n2"), ()),
    "tiny_missing": (24, ("n1", "n2", "n3", "n4", "n5"), ()),
    "tiny_parent": (24, ("n1", "n2"), ()),
    "images_masks": (12, (), ()),
    "cityscapes": (24, ("bochum", "ulm"), ("train", "val")),
    "voc": (12, (), ()),
}


@pytest.mark.parametrize("name", READ)
def test_images_and_classes_are_found_and_the_counts_add_up(folders, name):
    folder, (images, classes, splits) = folders / name, READ[name]
    store = load(folder)
    assert len(store) == images
    assert store.class_names == classes
    assert splits_of(DataConfig(data_dir=str(folder))) == splits
    assert len(store) + len(store.skipped) + len(store.unread) == count_files(folder)
    for number, path in enumerate(store.names):
        if classes and store.labels[number] >= 0:
            assert classes[store.labels[number]] in path.split("/")
    (line, *_), unread = describe(store), [why for _, why in store.unread]
    assert f"{images} images of 8 px" in line
    assert "; 0 skipped" in line
    assert (f"; {len(unread)} not read" in line) == bool(unread)


def test_heic_files_are_counted_whether_they_can_be_read_or_not(folders):
    source = open_source(DataConfig(data_dir=str(folders / "mostly_webp")))
    store = load_store(source, size=8, max_bad_fraction=0.5)
    assert len(store) == 24
    assert len(store.skipped) + len(store.unread) == 12


def test_stray_pictures_have_no_class_and_are_reported(folders):
    store = load(folders / "stray_picture")
    assert store.labels[store.names.index("preview.png")] == -1
    assert describe(store)[1:] == ["  1 without a class, beside the class folders"]
    source = open_source(DataConfig(data_dir=str(folders / "stray_picture")))
    labelled = load_store(source, size=8, labelled=True)
    assert labelled.labels.min() == 0
    assert labelled.unread == (("preview.png", "no class"),)


def test_classes_without_images_are_reported(folders):
    assert describe(load(folders / "tiny_missing"))[1:] == [
        "  3 of 5 classes have no images: n3, n4, n5"
    ]


def test_splits_are_read_and_a_missing_one_is_refused(folders):
    for name in ("imagefolder_splits", "roboflow", "tiny_restructured", "flat_splits"):
        train, val = load(folders / name), load(folders / name, "val")
        assert not set(train.names) & set(val.names)
        assert len(train) == len(val)
    for name, split, has in (
        ("imagefolder_splits", "test", "train, val"),
        ("kaggle_train", "val", "test, train"),
        ("test_beside_classes", "val", "test, train"),
        ("deeper", "val", "no splits"),
        ("kaggle", "test", "no splits"),
    ):
        with pytest.raises(UserError, match=f"no split '{split}'; it has {has}"):
            load(folders / name, split)


def test_val_alone_does_not_count_as_train(tmp_path):
    cases.put(f"{tmp_path}/Validation/1.png")
    with pytest.raises(UserError, match="no split 'train'; it has val"):
        load(tmp_path)


def test_several_folders_join_their_classes(folders):
    where = f"{folders}/deeper , {folders}/stray_picture/"
    store = load(where)
    assert len(store) == 48 + 37
    assert store.class_names == ("birds", "cats", "dogs")
    truth = [name.split("/")[1] if name.count("/") > 1 else "" for name in store.names]
    expected = [-1 if not kind else store.class_names.index(kind) for kind in truth]
    assert store.labels.tolist() == expected
    with pytest.raises(UserError, match="overlap"):
        load(f"{folders}/deeper,{folders}/deeper/cats")
    for nothing in ("", " ", " , ,"):
        with pytest.raises(UserError, match="no images: give --data_dir"):
            load(nothing)
    with pytest.raises(UserError, match="gone: no such folder"):
        load(f"{folders}/deeper,gone")
    with pytest.raises(UserError, match="no split 'val'"):
        load(f"{folders}/imagefolder_splits,{folders}/deeper", "val")


def test_a_comma_may_be_part_of_a_folder(tmp_path):
    cases.put(f"{tmp_path}/a, b/1.png")
    assert load(tmp_path / "a, b").names == ("1.png",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_of_files(folders, tmp_path, encoding):
    deeper = folders / "deeper"
    lines = [f"{deeper}/cats/3.jpg", "", f"  {deeper}/dogs/more/1.jpg", f"{deeper}/cats/3.jpg"]
    cases.put(f"{tmp_path}/ä b/x.png")
    listed = tmp_path / "files.txt"
    listed.write_text("\r\n".join(lines) + "\r\n", encoding=encoding)
    store = load(f"@{listed}")
    assert store.names == ("cats/3.jpg", "dogs/more/1.jpg")
    assert store.class_names == TWO
    assert store.notes == ("1 duplicate line ignored",)
    listed.write_text("ä b/x.png\nno/such.png\n", encoding=encoding)
    store = load_store(open_source(DataConfig(data_dir=f"@{listed}")), size=8, max_bad_fraction=0.5)
    assert store.names == ("ä b/x.png",)
    assert store.skipped == (("no/such.png", "No such file or directory"),)
    listed.write_text("ä b/x.png\n" + "".join(f"gone{i}.png\n" for i in range(20)), encoding)
    store = load_store(open_source(DataConfig(data_dir=f"@{listed}")), size=8, max_bad_fraction=1.0)
    assert describe(store)[0].endswith("; 20 skipped (20 No such file or directory)")
    with pytest.raises(UserError, match="a file; name a folder, or @"):
        load(listed)
    with pytest.raises(UserError, match="no split 'val'"):
        load(f"@{listed}", "val")
    with pytest.raises(UserError, match="no such list"):
        load(f"@{listed}.bak")
    (tmp_path / "nul.txt").write_bytes(b"a.png\nb\0.png\n")
    with pytest.raises(UserError, match="NUL byte"):
        load(f"@{tmp_path / 'nul.txt'}")


def test_names_of_any_bytes_are_kept_exact(tmp_path):
    cases.latin1_names(tmp_path)
    for name in (b"good", b"folder_caf\xe9"):
        folder = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
        store = load(folder)
        assert len(store) == 12
        listed = tmp_path / "list.txt"
        listed.write_bytes(
            b"".join(os.fsencode(os.path.join(folder, n)) + b"\n" for n in store.names)
        )
        assert load(f"@{listed}").fingerprint() == store.fingerprint()
    skipped = tmp_path / "skipped.txt"
    source = open_source(DataConfig(data_dir=str(tmp_path / "with_bad")))
    load_store(source, size=8, max_bad_fraction=0.5, skipped_file=str(skipped))
    assert re.match(r"no\\udce9\.jpg\tnot a JPEG", skipped.read_text())


def test_messages_contain_no_escape_codes(tmp_path):
    cases.put(f"{tmp_path}/1.png")
    cases.text(f"{tmp_path}/x.\x1b[31mred", "no image")
    assert describe(load(tmp_path))[0].endswith(r"1 not read (1 no image: .\x1b[31mred)")


def test_broken_looping_and_duplicate_links(tmp_path):
    cases.put(f"{tmp_path}/a/1.png")
    cases.put(f"{tmp_path}/a/2.png")
    for target, name in (("gone.png", "3.png"), ("../a", "loop"), ("nowhere", "folder")):
        os.symlink(target, tmp_path / "a" / name)
    os.symlink("a", tmp_path / "b")
    os.mkfifo(tmp_path / "pipe.png")
    store = load(tmp_path)
    assert store.names == ("a/1.png", "a/2.png")
    assert dict(store.unread) == {
        "a/3.png": "a broken link",
        "a/folder": "a broken link",
        "a/loop": "a link to a folder that is read already",
        "b": "a link to a folder that is read already",
        "pipe.png": "not a file",
    }


def test_a_run_stops_if_over_half_of_the_images_are_not_read(tmp_path):
    for number in range(4):
        cases.put(f"{tmp_path}/{number}.png")
        os.symlink("gone", tmp_path / f"x{number}.jpg")
        cases.text(f"{tmp_path}/{number}.txt", "a label")
        cases.text(f"{tmp_path}/{number}.json", "a label")
    assert len(load(tmp_path)) == 4
    cases.text(f"{tmp_path}/drawing.svg", "<svg/>")
    with pytest.raises(UserError, match=r"5 of 9 images are not read.*4 a broken link, 1 an SVG"):
        load(tmp_path)
    for number in range(4):
        os.unlink(tmp_path / f"{number}.png")
    with pytest.raises(UserError, match=r"5 of 5 images are not read"):
        load(tmp_path)


def test_a_stray_tfrecord_does_not_hide_a_folder_of_images(tmp_path):
    for number in range(3):
        cases.put(f"{tmp_path}/a/{number}.png")
    with (
        open(tmp_path / "a" / "0.png", "rb") as file,
        tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as writer,
    ):
        example = tfrecords.make_example(file.read(), "x", -1, "")
        writer.write(example.SerializeToString())
    with pytest.raises(UserError, match=r"3 of 4 images are not read.*3 beside TFRecords"):
        load(tmp_path)


def test_tables_of_mini_imagenet_written_by_spreadsheets(tmp_path):
    for name in "abc":
        cases.put(f"{tmp_path}/images/{name}.png")
    cases.text(f"{tmp_path}/train.csv", "\ufeff,Filename , LABEL\r\n0,a.png, n2\r\n1,b.png ,n1\r\n")
    store = load(tmp_path)
    assert store.names == ("images/a.png", "images/b.png")
    assert store.class_names == ("n1", "n2")
    assert store.unread[-1] == ("images/c.png", "not in miniImageNet's tables")
    with pytest.raises(UserError, match="no split 'test'"):
        load(tmp_path, "test")


def test_the_check_runs_before_anything_is_decoded(folders, monkeypatch):
    asked = []

    def check(count, labels):
        asked.append((count, len(labels)))
        raise UserError("no")

    monkeypatch.setattr("mgta_tf.data.images.decode", None)
    with pytest.raises(UserError, match="no"):
        open_images(DataConfig(data_dir=str(folders / "deeper")), 8, check=check)
    assert asked == [(48, 48)]


# ------------------------------------------------------------------------------------ Fingerprints


def test_the_fingerprint_covers_names_and_contents_but_not_the_location(tmp_path):
    cases.relabelled(tmp_path / "one", right=True)
    os.rename(tmp_path / "one", tmp_path / "two")
    first = load(tmp_path / "two").fingerprint()
    os.rename(tmp_path / "two", tmp_path / "one")
    same = load(str(tmp_path / "one") + "/")
    assert same.fingerprint() == first
    cases.replace_contents(tmp_path / "one")
    other = load(tmp_path / "one")
    assert other.fingerprint() != first
    assert other.fingerprint_of_names() == same.fingerprint_of_names()
    with pytest.raises(UserError, match="its content has changed"):
        same.__class__(**{**vars(same), "pixels": None}).batch(np.array([0]))


def test_the_fingerprint_covers_classes_that_are_trained_on(tmp_path):
    for name in "ab":
        cases.put(f"{tmp_path}/images/{name}.png")
    prints = []
    for classes in ("xy", "yx"):
        rows = "".join(f"{name}.png,{kind}\n" for name, kind in zip("ab", classes))
        cases.text(f"{tmp_path}/train.csv", "filename,label\n" + rows)
        store = load(tmp_path)
        prints.append((store.fingerprint(), store.fingerprint(labels=True)))
    assert prints[0][0] == prints[1][0]
    assert prints[0][1] != prints[1][1]


def test_generated_images_have_fingerprints():
    config = DataConfig(data_source="shapes", shapes_count=4)
    one, two = (load_store(open_source(config, s), size=32) for s in ("train", "val"))
    assert one.names == two.names
    assert one.fingerprint() != two.fingerprint()
