"""VOC's average precision of boxes, on hand-worked cases and against another implementation."""

import numpy as np
import pytest
from mean_average_precision import MeanAveragePrecision2d

from mgta_tf.evaluation import boxes
from mgta_tf.evaluation.boxes import IGNORED, RIGHT, WRONG, Detections, Objects

A, B = (1, 1, 10, 10), (21, 21, 30, 30)  # two objects of 10×10 pixels, apart


def objects(*rows):
    """Rows (image, label, box, difficult)."""
    image, label, box, difficult = zip(*rows) if rows else ((), (), (), ())
    return Objects(
        np.array(image, int),
        np.array(label, int),
        np.array(box, float).reshape(-1, 4),
        np.array(difficult, bool),
    )


def detections(*rows):
    """Rows (image, label, box, score)."""
    image, label, box, score = zip(*rows) if rows else ((), (), (), ())
    return Detections(
        np.array(image, int),
        np.array(label, int),
        np.array(box, float).reshape(-1, 4),
        np.array(score, float),
    )


def ap(found, there, method="area"):
    return boxes.average_precisions(found, there, 1)[method][0]


def test_overlap_counts_both_ends_of_a_box():
    # 10×10 and 10×10, moved by 5: 50 shared of 150; a single pixel has area 1
    assert boxes.overlap(np.array(A), np.array([(6, 1, 15, 10)]))[0] == pytest.approx(50 / 150)
    assert boxes.overlap(np.array((3, 3, 3, 3)), np.array([(3, 3, 3, 3), (4, 3, 4, 3)])) == (
        pytest.approx([1, 0])
    )


def test_the_second_detection_of_an_object_is_wrong():
    there = objects((0, 0, A, False), (0, 0, B, False))
    found = detections((0, 0, A, 0.9), (0, 0, A, 0.8), (0, 0, B, 0.7))
    assert boxes.match(found, there)[0].tolist() == [RIGHT, WRONG, RIGHT]
    assert boxes.match(found, there)[1].tolist() == [0, -1, 1]
    assert ap(found, there) == pytest.approx((1 + 2 / 3) / 2)
    # 11 points: recalls 0 … 0.5 at precision 1, 0.6 … 1 at 2/3
    assert ap(found, there, "voc2007") == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_the_higher_score_takes_the_object_even_if_its_box_fits_worse():
    shifted = (2, 1, 11, 10)
    outcome, _ = boxes.match(
        detections((0, 0, A, 0.5), (0, 0, shifted, 0.9)), objects((0, 0, A, False))
    )
    assert outcome.tolist() == [WRONG, RIGHT]


def test_a_detection_matches_only_the_object_that_it_overlaps_most():
    # The second box overlaps the first object by 9/11, the second by 8/12: the first is taken.
    there = objects((0, 0, (1, 1, 10, 10), False), (0, 0, (4, 1, 13, 10), False))
    found = detections((0, 0, (1, 1, 10, 10), 0.9), (0, 0, (2, 1, 11, 10), 0.8))
    assert boxes.match(found, there)[0].tolist() == [RIGHT, WRONG]


def test_difficult_objects_count_neither_as_found_nor_as_missed():
    there = objects((0, 0, A, False), (0, 0, B, True))
    found = detections((0, 0, B, 0.9), (0, 0, B, 0.8), (0, 0, A, 0.7))
    assert boxes.match(found, there)[0].tolist() == [IGNORED, IGNORED, RIGHT]
    assert ap(found, there) == 1
    assert np.isnan(ap(found, objects((0, 0, B, True))))


def test_an_overlap_of_a_half_is_not_enough():
    half = (1, 1, 10, 5)  # 50 of 100
    assert boxes.match(detections((0, 0, half, 1)), objects((0, 0, A, False)))[0] == [WRONG]
    more = (1, 1, 10, 6)
    assert boxes.match(detections((0, 0, more, 1)), objects((0, 0, A, False)))[0] == [RIGHT]


def test_other_images_and_other_classes_do_not_count():
    found = detections((1, 0, A, 0.9), (0, 1, A, 0.8))
    assert boxes.match(found, objects((0, 0, A, False)))[0].tolist() == [WRONG, WRONG]


def test_ties_do_not_depend_on_their_order():
    there = objects((0, 0, A, False), (1, 0, A, False))
    rows = [(0, 0, A, 0.5), (0, 0, B, 0.5), (1, 0, A, 0.5)]
    for order in ((0, 1, 2), (1, 2, 0), (1, 0, 2)):
        assert ap(detections(*(rows[i] for i in order)), there) == pytest.approx(2 / 3)


def test_no_detections_and_no_objects():
    there = objects((0, 0, A, False))
    assert ap(detections(), there) == ap(detections(), there, "voc2007") == 0
    assert np.isnan(ap(detections((0, 0, A, 0.9)), objects()))
    assert np.isnan(ap(detections(), objects()))


def random_case(rng):
    """Objects, some difficult, and detections near them, beside them, twice, and of other classes.

    Objects of one class in one image are difficult together: where they are not, the package below
    takes one object's mark for another's (it repeats the marks in the wrong order).
    """
    difficult = rng.random((12, 3)) < 0.2
    there, found = [], []
    for image in range(12):
        for _ in range(rng.integers(0, 5)):
            xmin, ymin = rng.integers(1, 60, 2)
            width, height = rng.integers(8, 40, 2)
            box = (xmin, ymin, xmin + width, ymin + height)
            label = int(rng.integers(3))
            there.append((image, label, box, bool(difficult[image, label])))
            for _ in range(rng.integers(0, 4)):
                moved = np.array(box) + rng.normal(0, 4, 4)
                other = int(rng.integers(3)) if rng.random() < 0.2 else label
                found.append((image, other, moved, rng.random()))
        found.append((image, int(rng.integers(3)), (70, 70, 90, 95), rng.random()))
    return detections(*found), objects(*there)


@pytest.mark.filterwarnings("ignore:The behavior of DataFrame concatenation:FutureWarning")
@pytest.mark.parametrize("method", ["area", "voc2007"])
def test_against_the_package_mean_average_precision(method):
    rng = np.random.default_rng(3)
    for _ in range(4):
        found, there = random_case(rng)
        peer = MeanAveragePrecision2d(3)
        for image in range(12):
            d, o = found.image == image, there.image == image
            zeros = np.zeros(int(o.sum()))
            peer.add(
                np.column_stack([found.box[d], found.label[d], found.score[d]]),
                np.column_stack([there.box[o], there.label[o], there.difficult[o], zeros]),
            )
        # The package counts difficult objects among those to be found; VOC does not.
        for label in range(3):
            peer.class_counter[0, label] -= np.sum(there.difficult & (there.label == label))
        points = np.linspace(0, 1, 11) - 1e-9 if method == "voc2007" else None
        theirs = peer.value(iou_thresholds=0.5, recall_thresholds=points)[0.5]
        ours = boxes.average_precisions(found, there, 3)[method]
        assert ours == pytest.approx([theirs[label]["ap"] for label in range(3)], abs=1e-6)
