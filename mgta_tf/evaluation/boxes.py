"""Average precision of detected boxes, as PASCAL VOC defines it (docs/protocols.md §3a).

Boxes are (xmin, ymin, xmax, ymax) in VOC's pixels, which count from 1 and include both ends: a box
of one pixel has xmin = xmax and area 1.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mgta_tf.evaluation.ap import METHODS, area_of_curve, curve

MIN_OVERLAP = 0.5
RIGHT, WRONG, IGNORED = 1, -1, 0  # outcomes of a detection


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """The annotated objects. image, label: int [G]; box: [G, 4]; difficult: bool [G]."""

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    difficult: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """The detected boxes. image, label: int [D]; box: [D, 4]; score: [D]."""

    image: np.ndarray
    label: np.ndarray
    box: np.ndarray
    score: np.ndarray


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box [4] with boxes [G, 4]: [G]."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]) + 1
    shared = np.prod(np.maximum(sides, 0), axis=1)
    return shared / (_area(box[None]) + _area(boxes) - shared)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1)


def match(detections: Detections, objects: Objects) -> tuple[np.ndarray, np.ndarray]:
    """Evaluates every detection.

    In descending order of scores, each detection is compared with the object of its class and image
    with the largest IoU. It is ignored if the object is difficult. It is right if the IoU is above
    0.5 and no earlier detection was right about this object, else wrong. (Above 0.5 as in
    Detectron; VOC's own program accepts 0.5.)

    Returns:
      outcome: int8 [D]: RIGHT, WRONG or IGNORED.
      found: int [D]: the object of a right detection, else -1.
    """
    outcome = np.full(len(detections.score), WRONG, np.int8)
    found = np.full(len(detections.score), -1, np.int64)
    there: dict[tuple[int, int], list[int]] = {}
    for number, key in enumerate(zip(objects.image.tolist(), objects.label.tolist())):
        there.setdefault(key, []).append(number)
    taken = np.zeros(len(objects.image), bool)
    keys = list(zip(detections.image.tolist(), detections.label.tolist()))
    for number in np.argsort(-detections.score, kind="stable"):
        candidates = there.get(keys[number])
        if not candidates:
            continue
        overlaps = overlap(detections.box[number], objects.box[candidates])
        best = candidates[int(overlaps.argmax())]
        if overlaps.max() <= MIN_OVERLAP:
            continue
        if objects.difficult[best]:
            outcome[number] = IGNORED
        elif not taken[best]:
            taken[best], outcome[number], found[number] = True, RIGHT, best
    return outcome, found


def average_precisions(
    detections: Detections, objects: Objects, num_classes: int
) -> dict[str, np.ndarray]:
    """AP of every class by every method of `mgta_tf.evaluation.ap`: {method: [num_classes]}.

    Labels are 0 … num_classes - 1. Detections with equal scores are one step of the curve, so the
    result does not depend on their order. AP is NaN for a class with no object that counts, and 0
    for one with objects but no detection.
    """
    outcome, _ = match(detections, objects)
    result = {method: np.full(num_classes, np.nan) for method in METHODS}
    for label in range(num_classes):
        positives = int(np.sum((objects.label == label) & ~objects.difficult))
        if not positives:
            continue
        counted = (detections.label == label) & (outcome != IGNORED)
        hits, ranked = curve(outcome[counted] == RIGHT, detections.score[counted])
        for method in METHODS:
            result[method][label] = area_of_curve(hits, ranked, positives, method)
    return result
