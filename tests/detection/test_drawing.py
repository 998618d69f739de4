"""The choice of the best and worst images, and the boxes drawn on them."""

import numpy as np

from mgta_tf.detection import drawing
from mgta_tf.detection.drawing import GREEN, ORANGE, RED, Box
from mgta_tf.evaluation.boxes import Detections, Objects

CLASSES = ("helmet", "hi-vis vest", "boot")
A, B, C = [1, 1, 20, 20], [30, 30, 60, 60], [70, 5, 90, 25]
THERE = Objects(
    image=np.array([1, 1, 2, 2, 3]),
    label=np.array([0, 1, 0, 1, 2]),
    box=np.array([A, B, A, B, C], float),
    difficult=np.array([False, False, False, True, False]),
)
FOUND = Detections(
    image=np.array([1, 1, 1, 2, 2, 3]),
    label=np.array([0, 1, 1, 0, 1, 2]),
    box=np.array([A, B, B, A, B, C], float),
    score=np.array([0.9, 0.6, 0.8, 0.7, 0.9, 0.4]),
)


def test_images_are_ranked_by_right_wrong_and_missed_boxes():
    verdicts = drawing.evaluate(FOUND, THERE, CLASSES, min_score=0.5)
    assert [v.image for v in verdicts] == [2, 1, 3]
    counts = {v.image: (v.right, v.wrong, v.missed) for v in verdicts}
    assert counts == {
        1: (2, 1, 0),  # the second box on the same object is wrong
        2: (1, 0, 0),  # a difficult object that is found is neither
        3: (0, 0, 1),  # its box has too low a score
    }
    assert [v.f1 for v in verdicts] == [1.0, 0.8, 0.0]


def test_colors_mark_right_wrong_and_missed_boxes():
    one, two, three = (
        {(i.text, i.color) for i in v.items}
        for v in sorted(drawing.evaluate(FOUND, THERE, CLASSES, 0.5), key=lambda v: v.image)
    )
    assert one == {("helmet 0.90", GREEN), ("hi-vis vest 0.80", GREEN), ("hi-vis vest 0.60", RED)}
    assert two == {("helmet 0.70", GREEN), ("hi-vis vest 0.90", GREEN)}
    assert three == {("boot", ORANGE)}


def test_boxes_are_drawn_on_their_edges_and_text_inside_the_picture():
    blank = np.zeros((100, 120, 3), np.uint8)
    drawn = drawing.draw(blank, [Box((11, 31, 60, 80), "", GREEN)])
    painted = np.argwhere((drawn == GREEN).all(axis=-1))
    assert painted.min(axis=0).tolist() == [30, 10]
    assert painted.max(axis=0).tolist() == [79, 59]
    assert not drawn[40:70, 20:50].any()
    words = drawing.draw(blank, [Box((115, 95, 119, 99), "pottedplant 0.99", RED)])
    assert np.argwhere((words > 190).all(axis=-1))[:, 1].min() < 60  # white letters, moved left


def test_the_sheet_has_two_rows():
    picture = np.full((50, 100, 3), 9, np.uint8)
    sheet = drawing.sheet([picture] * 3, [picture])
    assert sheet.shape == (2 * 246 + 6, 3 * 246 + 6, 3)
    assert (sheet[6, 6] == 9).all()
    assert (sheet[246 + 6, 6] == 9).all()
    assert (sheet[246 + 6, 246 + 6] == 255).all()
