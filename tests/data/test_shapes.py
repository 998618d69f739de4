"""The promises of the generated images' docstring."""

import numpy as np
import pytest
from PIL import Image

from mgta_tf.data import shapes, voc
from mgta_tf.errors import UserError


def test_an_image_depends_on_its_number_and_seed_alone():
    np.testing.assert_array_equal(shapes.single_object(5, 0), shapes.single_object(5, 0))
    assert not np.array_equal(shapes.single_object(5, 0), shapes.single_object(6, 0))
    assert not np.array_equal(shapes.single_object(5, 0), shapes.single_object(5, 1))


def test_ten_or_more_classes_are_equally_frequent():
    counts = np.bincount([shapes.label_of(i, 0) for i in range(2400)])
    assert len(counts) == len(shapes.SHAPES) >= 10
    assert np.abs(counts - 200).max() < 5 * np.sqrt(200)


def test_the_mask_is_the_shape():
    """Shapes whose area is known, at random rotations and positions."""
    rng = np.random.default_rng(0)
    areas = {"disc": np.pi, "square": 2.0, "ring": np.pi * (1 - 0.55**2), "bar": 2 * 0.56}
    areas |= {"hexagon": 1.5 * np.sqrt(3), "triangle": 0.75 * np.sqrt(3)}
    for name, area in areas.items():
        mask = shapes._mask(name, 64, 64, (32, 30), 20, rng)
        assert mask.sum() == pytest.approx(area * 400, rel=0.04), name


def test_scenes_make_a_voc_tree_that_the_voc_reader_reads(tmp_path):
    shapes.write_voc_scenes(str(tmp_path), num_trainval=30, num_test=6, size=96, seed=3)
    folder = voc.year_dir(str(tmp_path))
    assert len(voc.image_ids(folder, "trainval")) == 30
    ids, labels = voc.class_labels(folder, "trainval")
    found_difficult = 0
    for image_id, row in zip(ids, labels):
        annotation = voc.read_annotation(f"{folder}/Annotations/{image_id}.xml")
        with Image.open(f"{folder}/JPEGImages/{image_id}.jpg") as image:
            assert image.size == annotation.size == (96, 96)
        assert 1 <= len(annotation.boxes) <= 4
        for item in annotation.boxes:
            assert 1 <= item.xmin < item.xmax <= 96
            assert 1 <= item.ymin < item.ymax <= 96
            found_difficult += item.difficult
        for name, value in zip(voc.CLASSES, row):
            marks = [item.difficult for item in annotation.boxes if item.name == name]
            assert value == (-1 if not marks else 0 if all(marks) else 1)
    assert found_difficult
    with pytest.raises(UserError, match="exists already"):
        shapes.write_voc_scenes(str(tmp_path), 1, 1)


def test_boxes_enclose_their_objects_tightly():
    """A single object changes the background only inside its box."""
    checked = 0
    for number in range(40):
        pixels, objects = shapes.scene(number, 0, 96)
        if len(objects) != 1:
            continue
        rng = shapes._random(number, 1000)
        background = np.round(shapes._background(rng, 96, 96))
        rows, columns = np.nonzero(np.abs(pixels - background).max(-1) > 1)
        xmin, ymin, xmax, ymax = objects[0]["box"]
        assert abs(columns.min() + 1 - xmin) <= 1
        assert abs(columns.max() + 1 - xmax) <= 1
        assert abs(rows.min() + 1 - ymin) <= 1
        assert abs(rows.max() + 1 - ymax) <= 1
        checked += 1
    assert checked >= 5
