"""VOC → TFRecords: what is kept, corrected and refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mgta_tf.data import images, voc
from mgta_tf.data.annotated import Annotated
from mgta_tf.detection import parser, records
from mgta_tf.detection.sets import BoxSets
from mgta_tf.errors import UserError


def write(devkit, output, name="2007_trainval"):
    """Writes the records of a single VOC set; returns its counts."""
    year, split = name.split("_")
    folder, classes = voc.year_dir(str(devkit), year), voc.CLASSES
    paths = voc.image_paths(folder, split, voc.image_ids(folder, split))
    images = []
    for path in paths:
        source = voc.annotation_path(folder, path.rpartition("/")[2][:-4])
        found = voc.read_annotation(source)
        images.append(Annotated(path, source, found.size, found.boxes))
    sets = BoxSets(classes, {name: images}, (name,), "2007_test", False, {}, [])
    return records.write(sets, str(output))[name]


def test_a_set_comes_back_as_it_was(records_dir, devkit):
    files = records.files_of(records_dir, ("2007_test",))
    examples = sorted(records.read(files), key=records.source_id)
    assert [records.source_id(e) for e in examples] == [200_700_000 + i for i in range(4)]
    assert records.filename(examples[0]) == "000006.jpg"
    assert records.size(examples[0]) == (96, 96)
    path = devkit / "VOC2007" / "JPEGImages" / "000006.jpg"
    encoded = examples[0].features.feature["image/encoded"].bytes_list.value[0]
    assert encoded == path.read_bytes()  # a plain JPEG is not re-encoded
    there = records.objects_of(files)
    first = there.image == 200_700_000
    assert there.label[first].tolist() == [0, 2]  # aeroplane, bird
    assert there.box[first] == pytest.approx(np.array([[11, 21, 42, 52], [56, 50, 87, 81]]))


def test_the_parser_reads_the_edges_of_voc_boxes(records_dir):
    files = records.files_of(records_dir, ("2007_test",))
    raw = next(iter(tf.data.TFRecordDataset(files[0])))
    data = parser.decode(raw)
    assert data["size"].numpy().tolist() == [96, 96]
    assert data["classes"].numpy().tolist() == [1, 3]
    edges = np.array([[20, 10, 52, 42], [49, 55, 81, 87]]) / 96  # xmin 11 begins at 10
    assert data["boxes"].numpy() == pytest.approx(edges)
    assert data["difficult"].numpy().tolist() == [False, False]


def test_bad_boxes_are_dropped_counted_and_named(make_voc, tmp_path, capsys):
    scene = [
        ("bird", 0, 5, 20, 20, 0),  # over the left edge
        ("bird", 50, 60, 200, 300, 1),  # over two edges, difficult
        ("cow", 30, 30, 29, 40, 0),  # empty
        ("cow", 97, 5, 120, 20, 0),  # outside
        ("cow", 96, 96, 96, 96, 0),  # one pixel, in the corner
    ]
    devkit = make_voc(tmp_path / "VOCdevkit", [scene, []], [])
    counts = write(devkit, tmp_path / "out")
    assert (counts.images, counts.without_objects, counts.objects) == (2, 1, 3)
    assert (counts.clipped, counts.dropped, counts.difficult, counts.truncated) == (2, 2, 1, 3)
    there = records.objects_of(records.files_of(str(tmp_path / "out"), ("2007_trainval",)))
    expected = [[1, 5, 20, 20], [50, 60, 96, 96], [96, 96, 96, 96]]
    assert there.box == pytest.approx(np.array(expected), abs=1e-4)
    assert there.difficult.tolist() == [False, True, False]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "000001.xml: cow (30, 30, 29, 40) is empty or outside the image; dropped" in lines[2]
    assert "VOC's own has 5,011 images" in records.describe("2007_trainval", counts)


def test_images_that_tensorflow_decodes_differently_become_png(make_voc, tmp_path):
    devkit = make_voc(tmp_path / "VOCdevkit", [[]], [])
    path = devkit / "VOC2007" / "JPEGImages" / "000001.jpg"
    gray = np.arange(96 * 48, dtype=np.uint16).reshape(48, 96) % 251
    Image.fromarray(gray.astype(np.uint8)).save(path, "PNG")  # gray, and not of the stated size
    write(devkit, tmp_path / "out")
    (example,) = records.read(records.files_of(str(tmp_path / "out"), ("2007_trainval",)))
    assert records.size(example) == (48, 96)
    pixels = parser.decode_image(example.features.feature["image/encoded"].bytes_list.value[0])
    assert (pixels.numpy() == gray[..., None]).all()


def test_bad_input_is_named(make_voc, records_dir, tmp_path):
    devkit = make_voc(tmp_path / "VOCdevkit", [[("cow", 5, 5, 20, 20, 0)]] * 2, [])
    path = devkit / "VOC2007" / "JPEGImages" / "000002.jpg"
    path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(UserError, match=r"000002\.jpg: truncated"):
        write(devkit, tmp_path / "out")
    assert not (tmp_path / "out" / "voc_records.json").exists()

    with pytest.raises(UserError, match=r"No such file.*make_voc_tfrecord"):
        records.files_of(str(tmp_path / "nowhere"), ("2007_test",))
    with pytest.raises(UserError, match="has 2007_trainval, 2007_test, not 2012_trainval"):
        records.contents(records_dir, "voc0712")
    copy = tmp_path / "copy"
    shutil.copytree(records_dir, copy)
    cut = copy / "2007_test-00002-of-00008.tfrecord"
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"00002-of-00008.tfrecord: truncated or damaged"):
        records.files_of(str(copy), ("2007_test",))
    with tf.io.TFRecordWriter(str(cut)) as writer:
        writer.write(tf.train.Example().SerializeToString())  # not one of our records
    with pytest.raises(UserError, match=r"00002-of-00008.tfrecord: truncated or damaged"):
        list(records.read(records.files_of(str(copy), ("2007_test",))))
    cut.write_bytes((10**12).to_bytes(8, "little") + b"x" * 100)  # a record of a terabyte
    with pytest.raises(UserError, match=r"00002-of-00008.tfrecord: truncated or damaged"):
        records.files_of(str(copy), ("2007_test",))
    cut.unlink()
    with pytest.raises(UserError, match=r"00002-of-00008.tfrecord: missing"):
        records.files_of(str(copy), ("2007_test",))
    manifest = copy / "voc_records.json"
    manifest.write_text(json.dumps({"version": 0, "sets": {}}))
    with pytest.raises(UserError, match="records of version 0, not 1"):
        records.files_of(str(copy), ("2007_test",))
    whole = json.loads((Path(records_dir) / "voc_records.json").read_text())
    for damaged in (
        "{",
        "[]",
        "7",
        json.dumps({"version": 1}),
        json.dumps({**whole, "sets": ["2007_test"]}),
        json.dumps({**whole, "sets": {"2007_test": {}}}),
        json.dumps({**whole, "sets": {"2007_test": {"images": "many"}}}),
        json.dumps({**whole, "test": "test", "train": []}),
        json.dumps({**whole, "train": 7}),
        json.dumps({**whole, "classes": [1]}),
    ):
        manifest.write_text(damaged)
        with pytest.raises(UserError, match="damaged"):
            records.files_of(str(copy), ("2007_test",))


def test_boxes_match_pixels_in_every_orientation(make_voc, tmp_path):
    # First upright with a tag, as written by tools that ignore EXIF: the detector and the sheet
    # must both see the stored pixels. Then turned, as stored by a camera.
    scene = [("aeroplane", 11, 21, 42, 52, 0)]
    devkit = make_voc(tmp_path / "VOCdevkit", [scene] * 10, [])
    folder = devkit / "VOC2007"
    undo = {5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    for number in range(1, 11):
        orientation = 1 if number > 8 else 5 + (number - 1) % 4
        path = folder / "JPEGImages" / f"{number:06d}.jpg"
        picture = Image.open(path).crop((0, 0, 90, 60))
        if 4 < number <= 8:
            picture = picture.transpose(Image.Transpose[undo[orientation]])
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(path, quality=95, exif=exif)
        annotation = folder / "Annotations" / f"{number:06d}.xml"
        text = annotation.read_text().replace("<width>96<", "<width>90<")
        annotation.write_text(text.replace("<height>96<", "<height>60<"))
    write(devkit, tmp_path / "out")
    files = records.files_of(str(tmp_path / "out"), ("2007_trainval",))
    there = records.objects_of(files)
    assert there.box == pytest.approx(np.array([[11, 21, 42, 52]] * 10), abs=1e-4)
    for example in records.read(files):
        encoded = example.features.feature["image/encoded"].bytes_list.value[0]
        for pixels in (parser.decode_image(encoded).numpy(), images.decode(encoded)):
            assert pixels.shape == (60, 90, 3)
            rows, columns = np.nonzero(pixels[..., 0] > 200)
            box = [columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1]
            assert box == pytest.approx([11, 21, 42, 52], abs=1)  # JPEG blurs edges


def test_an_ambiguous_orientation_is_refused_by_name(make_voc, tmp_path):
    devkit = make_voc(tmp_path / "VOCdevkit", [[("cow", 5, 5, 20, 20, 0)]], [])
    path = devkit / "VOC2007" / "JPEGImages" / "000001.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)  # of 96×96
    with pytest.raises(UserError, match=r"000001\.jpg: EXIF orientation 6, and .* fits both"):
        write(devkit, tmp_path / "out")
