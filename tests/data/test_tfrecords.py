"""TFRecords: what is read of them, and what is wrong with them in one line."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mgta_tf.data import images, tfrecords
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import load_store, open_images
from mgta_tf.data.tfrecords import Keys, Part, Shards
from mgta_tf.errors import UserError


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40, 3), value, np.uint8)).save(path)


def opened(folder):
    return open_source(DataConfig(data_dir=str(folder)))


def values(source):
    """The gray value of every image."""
    return [int(images.decode(source.read(i))[0, 0, 0]) for i in range(len(source.names))]


def make_tfrecords(source, output, shards, bad=0.2):
    command = [sys.executable, "tools/make_tfrecord.py", f"--data_dir={source}"]
    return subprocess.run(
        [*command, f"--output={output}", f"--shards={shards}", f"--max_bad_fraction={bad}"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_tfrecords_there_and_back(tmp_path):
    for value in range(5):
        save(tmp_path / "in" / f"class {value % 2}" / f"{value}.png", value)
    (tmp_path / "in" / "class 1" / "bad.png").write_bytes(b"no image")
    refused = make_tfrecords(tmp_path / "in", tmp_path / "out", 2, bad=0.1)
    assert "1 of 6 images cannot be used, more than --max_bad_fraction=0.1" in refused.stderr
    assert os.listdir(tmp_path / "out") == []  # so that the command can be rerun
    done = make_tfrecords(tmp_path / "in", tmp_path / "out", 2)
    assert done.returncode == 0, done.stderr
    assert "5 images in 2 files" in done.stdout
    assert "; 1 skipped (1 not a JPEG" in done.stdout
    assert (tmp_path / "out.skipped.txt").read_text().startswith("class 1/bad.png\tnot a JPEG")
    source = opened(tmp_path / "out")
    assert sorted(values(source)) == [0, 1, 2, 3, 4]
    assert source.class_names == ("class 0", "class 1")
    for number, value in enumerate(values(source)):
        assert source.labels[number] == value % 2
        assert source.names[number] == f"class {value % 2}/{value}.png"
    assert make_tfrecords(tmp_path / "in", tmp_path / "out", 2).returncode == 1


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_damaged_tfrecords_are_named(tmp_path, damage):
    path = tmp_path / "0.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _ in range(3):
            content = tfrecords.make_example(b"x" * 50, "name", -1, "").SerializeToString()
            writer.write(b"\xff" * 9 if damage == "other" else content)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-5]
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"0.tfrecord: (truncated or damaged|record 0)"):
        opened(tmp_path)


@pytest.mark.parametrize("place", [30, 60, 90, 115, 130])
def test_a_flipped_bit_is_noticed_by_the_checksum_or_before(tmp_path, place):
    path = tmp_path / "0.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tfrecords.make_example(b"x" * 50, "name", 3, "kind").SerializeToString())
    data = bytearray(path.read_bytes())
    assert len(data) > 130
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises((UserError, images.BadImage), match=r"record 0|a damaged record"):
        opened(tmp_path).read(0)


def masked_crc(data):
    """CRC-32C, bit by bit, masked as in TFRecords."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


@pytest.mark.parametrize("length", [200, 10**12, 2**63, 2**64 - 1])
def test_a_record_that_claims_a_terabyte_is_refused(tmp_path, length):
    """TensorFlow's reader would allocate it first, which kills the process."""
    head = length.to_bytes(8, "little")
    (tmp_path / "0.tfrecord").write_bytes(head + masked_crc(head) + b"x" * 100)
    with pytest.raises(UserError, match=r"0.tfrecord: truncated or damaged after 0 records"):
        opened(tmp_path)


def test_a_huge_label_is_refused(tmp_path):
    path = tmp_path / "0.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tfrecords.make_example(b"x", "name", 2**62, "").SerializeToString())
    with pytest.raises(UserError, match=r"0.tfrecord: a label is 4611686018427387904"):
        opened(tmp_path)


def test_records_that_change_under_a_run_are_bad_images(tmp_path):
    path = tmp_path / "0.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tfrecords.make_example(b"x" * 50, "name", -1, "").SerializeToString())
    source, unread = opened(tmp_path), opened(tmp_path)
    assert source.read(0) == b"x" * 50
    path.write_bytes(b"\xff" * path.stat().st_size)
    for one in (source, unread):
        with pytest.raises(images.BadImage, match="not the record that was there"):
            one.read(0)


def by_tensorflow(path, keys):
    """(image, name, label, text) of every record, by TensorFlow's own reader and parser."""
    found = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        image, name, text = (
            features[k].bytes_list.value for k in (keys.image, keys.name, keys.text)
        )
        label = features[keys.label].int64_list.value
        found.append((image[0], *(v[0].decode() if v else "" for v in (name, text)), *label))
    return found


def feature(*values):
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


KEYS = Keys("i", "n", "l", "t")


@pytest.fixture
def mixed(tmp_path):
    """Records of images from 1 byte to a megabyte, with other features before and after them."""
    path, rng = tmp_path / "0.tfrecord", np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, length in enumerate((1, 100, 4000, 4090, 4096, 5000, 70_000, 10**6, 3) * 3):
            features = {
                "i": feature(rng.bytes(length)),
                "n": feature(f"ä {number}".encode()),
                "l": feature(number % 5),
                "t": feature(f"class {number % 5}".encode()),
                "boxes": feature(*rng.random(number).tolist(), 0.5),
                "mask": feature(rng.bytes(9000 * (number % 2))),
            }
            order = list(features)
            rng.shuffle(order)
            # An Example is the concatenation of Examples with a feature each.
            parts = [tf.train.Features(feature={key: features[key]}) for key in order]
            writer.write(b"".join(tf.train.Example(features=p).SerializeToString() for p in parts))
    return path


def test_records_are_what_tensorflow_reads(mixed):
    expected = by_tensorflow(mixed, KEYS)
    shards = Shards([Part(str(mixed))], KEYS)
    assert shards.names == [name for _, name, _, _ in expected]
    assert shards.labels.tolist() == [label for *_, label in expected]
    assert shards.class_names == tuple(f"class {c}" for c in range(5))
    assert [shards.read(n) for n in range(27)] == [image for image, *_ in expected]
    parts = [Part(str(mixed), 20, 4), Part(str(mixed), 0, 3), Part(str(mixed), 25)]
    some = Shards(parts, KEYS)
    numbers = [20, 21, 22, 23, 0, 1, 2, 25, 26]
    assert some.names == [expected[n][1] for n in numbers]
    assert [some.read(n) for n in range(9)] == [expected[n][0] for n in numbers]
    assert len({some.stamp(n) for n in range(9)}) == 9


def test_opening_skips_the_images(tmp_path, monkeypatch):
    path, read, pread = tmp_path / "0.tfrecord", [], os.pread
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(5):
            example = tfrecords.make_example(os.urandom(10**6), f"{number}", number, "c")
            writer.write(example.SerializeToString())

    def counted(file, length, place):
        read.append(length)
        return pread(file, length, place)

    monkeypatch.setattr(os, "pread", counted)
    shards = Shards([Part(str(path))])
    assert shards.names == list("01234")
    assert sum(read) <= 5 * 3 * tfrecords.WINDOW


def test_a_damaged_record_is_skipped_and_others_are_read(tmp_path):
    for value in range(5):
        save(tmp_path / "in" / f"{value}.png", value)
    assert make_tfrecords(tmp_path / "in", tmp_path / "out", 1).returncode == 0
    (path,) = (tmp_path / "out").iterdir()
    content, third = bytearray(path.read_bytes()), (tmp_path / "in" / "2.png").read_bytes()
    content[content.index(third) + len(third) - 20] ^= 1
    path.write_bytes(content)
    store = load_store(opened(tmp_path / "out"), size=8, max_bad_fraction=0.3)
    assert store.names == ("0.png", "1.png", "3.png", "4.png")
    assert store.skipped == (("2.png", "a damaged record (its checksum)"),)


@pytest.mark.parametrize("length", [0, 1, 5000])
def test_the_checksum_is_that_of_the_format(length):
    record = bytes(range(256)) * 20
    for _ in range(2):
        assert tfrecords.checksum_of(record[:length]) == masked_crc(record[:length])


@pytest.mark.parametrize(
    "record",
    [
        b"\x0a\xff\xff\xff\xff\x0f",  # a length beyond the end
        b"\x0a\xff" + b"\xff" * 20,  # a number without an end
        b"\x0b" * 50,  # groups
        b"\x0a\x02\x0a\x7f",  # an inner length beyond the outer
        b"\x10\x01" * 20_000,  # more fields than any message has
        b"\x0a\x04\x0a\x02\xff\xff",
    ],
)
def test_records_that_are_no_messages(tmp_path, record):
    path = tmp_path / "0.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(record)
    with pytest.raises(UserError, match=r"0.tfrecord: record 0 is not a tf.train.Example"):
        opened(tmp_path)


def test_a_second_run_reads_no_images_of_records(tmp_path, monkeypatch):
    for value in range(5):
        save(tmp_path / "in" / f"{value}.png", value)
    assert make_tfrecords(tmp_path / "in", tmp_path / "out", 2).returncode == 0
    flags = {"size": 8, "check_file": str(tmp_path / "checked.npz")}
    first = load_store(opened(tmp_path / "out"), **flags)
    monkeypatch.setattr(Shards, "read", None)
    second = load_store(opened(tmp_path / "out"), **flags)
    assert second.fingerprint() == first.fingerprint()


# ---------------------------------------------------------------------------------- Saved indices


def facts(shards):
    """Everything that is known about records, and their images."""
    numbers = range(len(shards.names))
    labels = None if shards.labels is None else shards.labels.tolist()
    read = [(shards.stamp(number), shards.read(number)) for number in numbers]
    return [*shards.names], labels, shards.class_names, read


@pytest.fixture
def unscanned(monkeypatch):
    """A function after whose call nothing may read records to index them."""

    return lambda: monkeypatch.setattr(tfrecords, "_scan", None)


@pytest.mark.parametrize(
    ("skips", "keys"),
    [
        ([(0, -1)], KEYS),
        ([(20, 4), (0, 3), (25, -1)], KEYS),
        ([(0, -1)], Keys("i", "", "l", "")),
        ([(0, -1)], Keys("i", "n", "", "")),
        ([], KEYS),
    ],
)
def test_a_second_opening_reads_the_index_only(mixed, tmp_path, unscanned, skips, keys):
    parts, check_file = [Part(str(mixed), *skip) for skip in skips], str(tmp_path / "checked.npz")
    first, fresh = Shards(parts, keys, check_file), facts(Shards(parts, keys))
    first.keep(check_file)
    unscanned()
    assert facts(first) == facts(Shards(parts, keys, check_file)) == fresh


def test_opening_writes_nothing_and_keeping_writes_once(tmp_path):
    folder, records = tmp_path / "run", tmp_path / "records"
    write_examples(records / "0.tfrecord", (b"x", "a", 0, "kind"))
    data, check_file = DataConfig(data_dir=str(records)), f"{folder}/checked.npz"
    source = open_source(data, remembered=check_file)
    source.keep("")
    assert [path.name for path in tmp_path.rglob("*")] == ["records", "0.tfrecord"]
    source.keep(check_file)
    (kept,) = folder.iterdir()
    about = os.stat(kept)
    again = open_source(data, remembered=check_file)
    again.keep(check_file)
    assert os.stat(kept) == about
    again.keep(f"{folder}/another.npz")
    assert len(os.listdir(folder)) == 2


@pytest.mark.parametrize("change", ["longer", "newer", "another part"])
def test_files_that_changed_are_indexed_again(mixed, tmp_path, change):
    parts, check_file = [Part(str(mixed))], str(tmp_path / "checked.npz")
    Shards(parts, KEYS, check_file).keep(check_file)
    content, about = bytearray(mixed.read_bytes()), os.stat(mixed)
    if change == "longer":
        mixed.write_bytes(content + content)
    elif change == "newer":
        new = content.replace(b"class 3", b"class x")
        crcs = tmp_path / "crcs.tfrecord"  # with the right checksums
        with tf.io.TFRecordWriter(str(crcs)) as writer:
            offset = 0
            while offset < len(new):
                length = int.from_bytes(new[offset : offset + 8], "little")
                writer.write(bytes(new[offset + 12 : offset + 12 + length]))
                offset += 12 + length + 4
        os.replace(crcs, mixed)
        assert os.stat(mixed).st_size == about.st_size
        os.utime(mixed, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    else:
        parts.append(Part(shutil.copy(mixed, tmp_path / "1.tfrecord")))
    found = facts(Shards(parts, KEYS, check_file))
    assert found == facts(Shards(parts, KEYS))
    assert len(found[0]) == (27 if change == "newer" else 54)
    assert ("class x" in found[2]) == (change == "newer")


def write_examples(path, *examples):
    """Writes a file of (image, name, label, text), and sets its time to a fixed one."""
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(tfrecords.make_example(*example).SerializeToString())
    os.utime(path, ns=(10**18, 10**18))


@pytest.mark.parametrize(
    "replacement",
    [
        ((b"x" * 50, "a", 1, "kind"), (b"y" * 50, "b", 1, "kind")),  # another label
        ((b"x" * 50, "a", 0, "kind"), (b"y" * 50, "c", 1, "kind")),  # another name
        ((b"x" * 49, "a", 0, "kind"), (b"y" * 51, "b", 1, "kind")),  # other lengths
        ((b"y" * 50, "b", 1, "kind"), (b"x" * 50, "a", 0, "kind")),  # another order
    ],
)
def test_an_index_that_is_wrong_under_the_same_size_and_time_is_used_once(tmp_path, replacement):
    path, check_file = tmp_path / "0.tfrecord", str(tmp_path / "checked.npz")
    write_examples(path, (b"x" * 50, "a", 0, "kind"), (b"y" * 50, "b", 1, "kind"))
    parts = [Part(str(path))]
    Shards(parts, check_file=check_file).keep(check_file)
    size = os.path.getsize(path)
    write_examples(path, *replacement)
    assert os.path.getsize(path) == size
    trusting, errors = Shards(parts, check_file=check_file), []
    for number in range(2):
        try:
            trusting.read(number)
        except images.BadImage as error:
            errors.append(str(error))
    assert set(errors) == {"not the record that was there"}
    again = Shards(parts, check_file=check_file)
    assert facts(again) == facts(Shards(parts))


def test_a_damaged_record_does_not_cost_the_index(tmp_path, unscanned):
    path, check_file = tmp_path / "0.tfrecord", str(tmp_path / "checked.npz")
    write_examples(path, (b"x" * 50, "a", 0, "kind"), (b"y" * 50, "b", 1, "kind"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"x" * 50, b"z" * 50))
    Shards([Part(str(path))], check_file=check_file).keep(check_file)
    unscanned()
    for _ in range(2):
        shards = Shards([Part(str(path))], check_file=check_file)
        with pytest.raises(images.BadImage, match="a damaged record"):
            shards.read(0)
        assert shards.read(1) == b"y" * 50


def test_long_names_and_names_that_occur_twice(tmp_path):
    path = tmp_path / "0.tfrecord"
    name, twice = "n" * (tfrecords.SHORT + 1), b""
    for text in ("short", name, "last"):
        twice += tfrecords.make_example(b"x", text, 3, "kind").SerializeToString()
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(tfrecords.make_example(b"y", name, 3, "kind").SerializeToString())
        writer.write(twice)
    shards = Shards([Part(str(path))])
    assert shards.names == [f"{path}[0]", "last"]
    assert [shards.read(number) for number in range(2)] == [b"y", b"x"]


def rewritten(path, **arrays):
    with np.load(path) as stored:
        content = {**stored, **arrays}
    np.savez(path, **content)


def changed(path, name, place, value):
    with np.load(path) as stored:
        numbers = stored[name].copy()
    numbers[place] = value
    rewritten(path, **{name: numbers})


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "other arrays": lambda path: np.savez(path, about=np.zeros(3, np.uint8)),
    "not JSON": lambda path: rewritten(path, about=np.zeros(4, np.uint8)),
    "objects": lambda path: rewritten(path, labels=np.array([{}, []], dtype=object)),
    "floats": lambda path: rewritten(path, offsets=np.arange(1.0, 28)),
    "number": lambda path: rewritten(path, offsets=np.int64(7)),
    "few labels": lambda path: rewritten(path, labels=np.zeros(3, np.int32)),
    "few names": lambda path: rewritten(
        path, names=np.zeros(0, np.uint8), names_ends=np.zeros(0, np.uint32)
    ),
    "other characters": lambda path: changed(path, "names", 0, 255),
    "no class": lambda path: changed(path, "labels", 3, 9),
    "label below -1": lambda path: changed(path, "labels", 3, -2),
    "before the file": lambda path: changed(path, "offsets", 0, -7),
    "in no header": lambda path: changed(path, "offsets", 0, 11),
    "after the file": lambda path: changed(path, "offsets", 26, 2**62),
    "negative length": lambda path: changed(path, "lengths", 2, -1),
    "length that overflows": lambda path: changed(path, "lengths", 2, 2**63 - 1),
    "end of all": lambda path: changed(path, "ends", 1, 26),
    "no order of ends": lambda path: changed(path, "ends", 0, 28),
    "one part": lambda path: rewritten(path, ends=np.array([27])),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_made_again(mixed, tmp_path, unscanned, capsys, damage):
    check_file = str(tmp_path / "run" / "checked.npz")
    parts = [Part(str(mixed), 0, 20), Part(str(mixed), 20)]
    Shards(parts, KEYS, check_file).keep(check_file)
    (kept,) = (tmp_path / "run").iterdir()
    DAMAGES[damage](kept)
    again = Shards(parts, KEYS, check_file)
    assert f"{kept}: damaged" in capsys.readouterr().out
    assert facts(again) == facts(Shards(parts, KEYS))
    again.keep(check_file)
    if damage == "a folder":
        assert f"{kept}: cannot be written" in capsys.readouterr().out
    else:
        unscanned()
        assert len(Shards(parts, KEYS, check_file).names) == 27


def test_an_index_survives_names_that_are_not_utf_8(tmp_path, unscanned):
    folder, check_file = tmp_path / "records", str(tmp_path / "checked.npz")
    write_examples(folder / "0.tfrecord", (b"x", os.fsdecode(b"\xfe.png"), 0, "kind"))
    write_examples(folder / "1.tfrecord", (b"x", "", 0, "kind"))
    folder = folder.rename(tmp_path / os.fsdecode(b"\xff"))
    data = DataConfig(data_dir=str(folder), check_file=check_file)
    first = open_source(data)
    first.keep(check_file)
    unscanned()
    assert open_source(data).names == first.names == ["\udcfe.png", f"{folder}/1.tfrecord[1]"]


def test_a_second_run_on_several_folders_indexes_none(tmp_path, unscanned):
    save(tmp_path / "one.png", 7)
    image = (tmp_path / "one.png").read_bytes()
    folders = [tmp_path / "one", tmp_path / "other"]
    for number, folder in enumerate(folders):
        examples = [(image, f"{value}.png", value, f"c{value}") for value in range(3)]
        write_examples(folder / "0.tfrecord", *examples[number:], *examples[:number])
    data = DataConfig(data_dir=",".join(map(str, folders)))
    remembered = str(tmp_path / "run" / "checked_images.npz")
    first = open_images(data, 8, remembered=remembered)
    assert len(os.listdir(tmp_path / "run")) == 3
    unscanned()
    second = open_images(data, 8, remembered=remembered)
    assert second.fingerprint(True) == first.fingerprint(True)
    assert "6 checked by an earlier run" in second.notes[0]
