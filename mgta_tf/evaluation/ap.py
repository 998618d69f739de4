"""Average precision, as VOC defines it."""

from __future__ import annotations

import numpy as np

METHODS = ("area", "voc2007")


def average_precision(targets: np.ndarray, scores: np.ndarray, method: str = "area") -> float:
    """Average precision of a ranking.

    Images with equal scores are one step of the curve, so the result does not depend on their
    order. (FAIR's benchmark orders ties arbitrarily; there is no other difference.)

    Args:
      targets: [N]; 1 is present, -1 absent, 0 is ignored (difficult instances only).
      scores: [N], higher is more likely present.
      method: 'area' under the precision envelope, as VOC from 2010 on and FAIR's benchmark; or
        'voc2007', the mean of the envelope at recalls 0, 0.1, … 1.

    Returns:
      0 to 1, or NaN where no image is present.
    """
    counted = targets != 0
    present, scores = targets[counted] > 0, scores[counted]
    if not present.any():
        return float("nan")
    hits, ranked = curve(present, scores)
    return area_of_curve(hits, ranked, int(hits[-1]), method)


def curve(right: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps of a ranking, one per distinct score.

    Args:
      right: bool [N].
      scores: [N], higher is ranked first.

    Returns:
      hits, ranked: int [S]: how many of the first `ranked` are right.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    return np.cumsum(right[order])[last_of_tie], last_of_tie + 1


def area_of_curve(hits: np.ndarray, ranked: np.ndarray, positives: int, method: str) -> float:
    """Average precision of a ranking's steps.

    Args:
      hits, ranked: As `curve` returns them; empty where nothing was ranked.
      positives: Number of positives; those that are not ranked have precision 0.
      method: As in `average_precision`.

    Returns:
      0 to 1.
    """
    recall, precision = hits / positives, hits / ranked
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if method == "voc2007":
        # Compare counts instead of recalls, which suffer from rounding (0.30000000000000004).
        reached = [envelope[10 * hits >= k * positives] for k in range(11)]
        return float(np.mean([e[0] if len(e) else 0.0 for e in reached]))
    return float(np.sum(np.diff(recall, prepend=0) * envelope))
