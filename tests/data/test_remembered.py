"""The check of images that is remembered: what a second run reads, decodes and notices."""

import os
import shlex
import shutil
import tracemalloc

import cases
import numpy as np
import pytest
import tensorflow as tf
from small import config_of

from mgta_tf import train
from mgta_tf.data import images, remembered, store
from mgta_tf.data.in_memory import source_of
from mgta_tf.data.layouts import Source
from mgta_tf.data.pipeline import Feed
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import describe, load_store
from mgta_tf.errors import UserError
from mgta_tf.runtime import checkpoints

BAD = "c1/bad.png"


@pytest.fixture
def photos(tmp_path):
    """A folder of 12 images in two classes, and a damaged file."""
    folder = tmp_path / "photos"
    for number in range(12):
        cases.put(f"{folder}/c{number % 2}/{number:02d}.png")
    cases.text(f"{folder}/{BAD}", "no image")
    return folder


@pytest.fixture
def decoded(monkeypatch):
    """The lengths of the files that were decoded, in order."""
    found, decode = [], images.decode
    monkeypatch.setattr(
        images, "decode", lambda data, **flags: (found.append(len(data)), decode(data, **flags))[1]
    )
    return found


def load(folder, file="", **flags):
    source = open_source(DataConfig(data_dir=str(folder)))
    flags = {"size": 8, "max_bad_fraction": 0.1, "check_file": str(file), **flags}
    return load_store(source, **flags)


def same(one, other):
    """Whether two stores hold the same images, with the same of everything that is told of them."""
    every = np.arange(len(one))
    np.testing.assert_array_equal(one.batch(every), other.batch(every))
    facts = [
        (s.names, s.labels.tolist(), s.class_names, s.skipped, s.unread, s.fingerprint(True))
        for s in (one, other)
    ]
    return facts[0] == facts[1]


@pytest.mark.parametrize("budget", [0, 100])
def test_a_second_run_decodes_nothing_before_it_needs_an_image(photos, tmp_path, decoded, budget):
    file, listed = tmp_path / "checked.npz", tmp_path / "skipped.txt"
    flags = {"cache_budget_mb": budget, "skipped_file": str(listed)}
    first = load(photos, file, **flags)
    expected, listing = len(decoded), listed.read_text()
    assert expected == 13
    assert (
        listing
        == f"{BAD}\tnot a JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF, JPEG 2000, PPM or HEIC image\n"
    )
    second = load(photos, file, **flags)
    assert len(decoded) == expected
    assert listed.read_text() == listing
    assert (first.pixels is None) == (second.pixels is None) == (budget == 0)
    second.batch(np.array([3, 5, 3]))
    assert len(decoded) == expected + (2 if budget else 3)
    assert same(first, second)
    assert describe(second)[1:] == [f"  13 checked by an earlier run ({file})"]
    assert describe(first)[0] == describe(second)[0]


def test_images_in_memory_are_decoded_once_by_a_feed(photos, tmp_path, decoded):
    file = tmp_path / "checked.npz"
    first = load(photos, file)
    second, before = load(photos, file), len(decoded)
    feed = Feed(second, 4, tf.distribute.get_strategy())
    plan = np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.int32)
    for _ in range(2):
        rows = [np.asarray(batch[0]) for batch in feed.batches(plan, np.zeros(12, np.int32), [1])]
        np.testing.assert_array_equal(rows, first.pixels[plan])
    assert len(decoded) == before + 4


def test_without_a_file_nothing_is_remembered_or_written(photos, tmp_path, decoded):
    for _ in range(2):
        load(photos)
    assert len(decoded) == 2 * 13
    assert os.listdir(tmp_path) == ["photos"]


def test_a_file_of_the_same_size_and_another_time_is_noticed(photos, tmp_path, decoded):
    file, path = tmp_path / "checked.npz", photos / "c0" / "04.png"
    before, count = load(photos, file).fingerprint(), len(decoded)
    about, content = os.stat(path), bytearray(path.read_bytes())
    content[20] ^= 255  # of the header: the image is damaged, its size is the same
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    assert os.path.getsize(path) == about.st_size
    store = load(photos, file, max_bad_fraction=0.5)
    assert [name for name, _ in store.skipped] == ["c0/04.png", BAD]
    assert store.fingerprint() != before
    assert len(decoded) == count + 1


def test_files_that_come_and_go(photos, tmp_path, decoded):
    file = tmp_path / "checked.npz"
    load(photos, file)
    count = len(decoded)
    (photos / "c0" / "00.png").unlink()
    cases.put(f"{photos}/c2/new.png")
    cases.put(f"{photos}/c0/new.png")
    changed = load(photos, file)
    assert len(decoded) == count + 2
    assert same(changed, load(photos))


def test_a_file_may_remember_several_folders(photos, tmp_path, decoded):
    """Also one with the same names, sizes and times, but other contents, as archives have them."""
    file, copy = tmp_path / "checked.npz", tmp_path / "copy"
    shutil.copytree(photos, copy)
    one, other = photos / "c0" / "00.png", copy / "c0" / "00.png"
    content = bytearray(one.read_bytes())
    content[-20] ^= 1
    other.write_bytes(content)
    about = os.stat(one)
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    stores = [load(folder, file, max_bad_fraction=0.5) for folder in (photos, copy)]
    count = len(decoded)
    again = [load(folder, file, max_bad_fraction=0.5) for folder in (photos, copy)]
    assert len(decoded) == count
    assert [s.fingerprint() for s in stores] == [s.fingerprint() for s in again]
    assert stores[0].fingerprint() != stores[1].fingerprint()


def test_content_that_changed_under_the_same_size_and_time_ends_the_run_once(photos, tmp_path):
    file, path = tmp_path / "checked.npz", photos / "c0" / "04.png"
    load(photos, file)
    about, content = os.stat(path), bytearray(path.read_bytes())
    content[20] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    trusting = load(photos, file)
    with pytest.raises(UserError, match=r"c0/04.png: was readable.*content has changed"):
        trusting.batch(np.arange(12))
    store = load(photos, file, max_bad_fraction=0.5)
    assert [name for name, _ in store.skipped] == ["c0/04.png", BAD]
    store.batch(np.arange(11))


@pytest.mark.parametrize("change", ["max_pixels", "pillow"])
def test_another_check_is_made_again(photos, tmp_path, decoded, monkeypatch, change):
    file = tmp_path / "checked.npz"
    load(photos, file)
    count, flags = len(decoded), {}
    if change == "pillow":
        monkeypatch.setattr(remembered.PIL, "__version__", "0.0")
    else:
        flags = {"max_pixels": 10**6}
    load(photos, file, **flags)
    assert len(decoded) == 2 * count


def rewritten(path, **arrays):
    with np.load(path) as stored:
        content = {**stored, **arrays}
    np.savez(path, **content)


def flipped(path):
    """The file with another bit in its first stamp."""
    content = bytearray(path.read_bytes())
    with np.load(path) as stored:
        content[content.index(stored["stamps"].tobytes())] ^= 1
    return content


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "flipped": lambda path: path.write_bytes(flipped(path)),
    "text": lambda path: path.write_text("no arrays"),
    "other arrays": lambda path: np.savez(path, x=np.zeros(3)),
    "short": lambda path: rewritten(path, codes=np.zeros(2, np.int32)),
    "no verdict": lambda path: rewritten(path, codes=np.full(13, 99, np.int32)),
    "negative": lambda path: rewritten(path, codes=np.full(13, -1, np.int32)),
    "unordered": lambda path: rewritten(path, stamps=np.arange(13, 0, -1).astype(np.uint64)),
    "floats": lambda path: rewritten(path, stamps=np.arange(1.0, 14)),
    "number": lambda path: rewritten(path, stamps=np.uint64(7)),
    "not JSON": lambda path: rewritten(path, about=np.zeros(4, np.uint8)),
    "deep JSON": lambda path: rewritten(path, about=np.frombuffer(b"[" * 10**5, np.uint8)),
    "JSON of another kind": lambda path: rewritten(path, about=np.frombuffer(b"[1]", np.uint8)),
    "objects": lambda path: rewritten(path, about=np.array([{}, []], dtype=object)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_means_that_images_are_checked_again(
    photos, tmp_path, decoded, capsys, damage
):
    file = tmp_path / "checked.npz"
    first = load(photos, file)
    DAMAGES[damage](file)
    decoded.clear()
    assert same(load(photos, file), first)
    assert len(decoded) == 13
    assert "checked.npz: damaged" in capsys.readouterr().out
    if damage != "a folder":
        load(photos, file)
        assert len(decoded) == 13


def test_a_file_that_cannot_be_written_is_reported(photos, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert len(load(photos, tmp_path / "file" / "checked.npz")) == 12
    said = capsys.readouterr().out
    assert "checked.npz: cannot be written" in said
    assert sorted(os.listdir(tmp_path)) == ["file", "photos"]


def test_an_interrupted_check_keeps_what_is_done(photos, tmp_path, monkeypatch):
    file = tmp_path / "checked.npz"
    monkeypatch.setattr("mgta_tf.data.checks.CHECKED_AT_ONCE", 2)
    monkeypatch.setattr("mgta_tf.data.checks.TASKS", 1)
    decode, seen = images.decode, []

    def interrupted(data, **flags):
        seen.append(1)
        if len(seen) == 7:
            raise KeyboardInterrupt
        return decode(data, **flags)

    monkeypatch.setattr(images, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(photos, file)
    load(photos, file)
    assert len(seen) == 7 + 13 - 6


def test_paths_from_a_program_are_remembered_and_arrays_are_not(photos, tmp_path, decoded):
    flags = {"size": 8, "check_file": str(tmp_path / "checked.npz"), "cache_budget_mb": 0}
    paths = sorted((photos / "c0").iterdir())
    for _ in range(2):
        assert len(load_store(source_of(paths), **flags)) == len(decoded) == 6
    pixels = np.stack([images.decode(path.read_bytes()) for path in paths])
    decoded.clear()
    for _ in range(2):
        store = load_store(source_of(pixels), **flags)
        assert describe(store)[1:] == []


def test_a_long_check_says_how_other_runs_skip_it(photos, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    file, nowhere = tmp_path / "the run" / "checked.npz", tmp_path / "file" / "checked.npz"
    monkeypatch.setattr("mgta_tf.data.checks.LONG_SECONDS", 1e-9)
    (line,) = describe(load(photos, file))[1:]
    assert line.startswith("  checked in 0 s; other runs skip it with ")
    (flag,) = shlex.split(line.partition(" with ")[2])
    other = load(photos, flag.removeprefix("--check_file="))
    assert describe(other)[1:] == [f"  13 checked by an earlier run ({file})"]
    for unsaved in ("", nowhere):
        assert describe(load(photos, unsaved))[1:] == []
    monkeypatch.setattr("mgta_tf.data.checks.LONG_SECONDS", 60.0)
    assert describe(load(photos, tmp_path / "another.npz"))[1:] == []


def test_missing_files_are_looked_for_again(photos, tmp_path):
    file, listed = tmp_path / "checked.npz", tmp_path / "list.txt"
    listed.write_text("".join(f"{photos}/c0/{n}.png\n" for n in ("00", "02", "gone")))
    assert len(load(f"@{listed}", file, max_bad_fraction=0.5)) == 2
    cases.put(f"{photos}/c0/gone.png")
    assert len(load(f"@{listed}", file)) == 3


def test_images_without_a_class_are_usable_elsewhere(photos, tmp_path):
    file = tmp_path / "checked.npz"
    cases.put(f"{photos}/stray.png")
    assert len(load(photos, file, labelled=True)) == 12
    assert len(load(photos, file)) == 13
    assert len(load(photos, file, labelled=True)) == 12


def test_a_run_that_resumes_with_its_check_ends_as_one_that_was_never_stopped(
    photos, tmp_path, monkeypatch, decoded
):
    flags = dict(
        data_source="", data_dir=str(photos), labels="none", decoder="none", iae_epochs=0,
        rounds=0, final_epochs=8, clusters_per_batch=4, images_per_cluster=2, views_per_image=2,
        max_bad_fraction=0.1, checkpoint_every_steps=1, cache_budget_mb=0, probe_every_rounds=0,
    )  # fmt: skip
    shared = str(tmp_path / "checked.npz")
    train.train(config_of(tmp_path / "whole", check_file=shared, **flags))
    saves = checkpoints.Checkpoints.save

    def save_and_die(self, position):
        saves(self, position)
        if position.step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(checkpoints.Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train.train(config_of(tmp_path / "killed", **flags))
    assert (tmp_path / "killed" / "checked_images.npz").exists()
    monkeypatch.setattr(store, "check_images", _counted(store.check_images, decoded))
    train.train(config_of(tmp_path / "killed", check_file=shared, **flags))
    one, other = (weights(tmp_path / name) for name in ("whole", "killed"))
    assert len(one) > 10
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def _counted(check, decoded):
    def counted(*arguments):
        before = len(decoded)
        found = check(*arguments)
        assert len(decoded) == before
        return found

    return counted


def weights(workdir):
    path = tf.train.latest_checkpoint(workdir / "checkpoints")
    reader = tf.train.load_checkpoint(path)
    names = reader.get_variable_to_shape_map()
    return {n: reader.get_tensor(n) for n in names if n.startswith("nets") and "kernel" in n}


def test_a_second_run_needs_few_bytes_an_image(tmp_path):
    """Beyond the names themselves, in tracemalloc's count, which includes NumPy's arrays."""
    count, pixel = 40_000, np.zeros((1, 1, 3), np.uint8)
    names = [f"class {n % 1000:04d}/image {n:08d}.jpg" for n in range(count)]
    labels = np.arange(count, dtype=np.int32) % 1000
    source = Source("names", names, labels, ("x",) * 1000, lambda n: pixel, stamp=names.__getitem__)
    flags = {"size": 32, "cache_budget_mb": 0, "check_file": str(tmp_path / "checked.npz")}
    peaks = []
    for _ in range(2):
        tracemalloc.start()
        found = load_store(source, **flags)
        found.fingerprint()
        found.fingerprint_of_names()
        peaks.append(tracemalloc.get_traced_memory()[1] / count)
        tracemalloc.stop()
    assert peaks[0] < 200 - 90  # 90: a name in a list
    assert peaks[1] < 200 - 90
