"""Average precision, as VOC defines it."""

from __future__ import annotations

import numpy as np

METHODS = ("area", "voc2007")


def average_precision(targets: np.ndarray, scores: np.ndarray, method: str = "area") -> float:
    """Average precision of a ranking.

    Images of equal score are one step of the curve, so the result does not depend on their order.
    (FAIR's benchmark sorts them as NumPy happens to; only exact ties differ.)

    Args:
      targets: [N]; 1 is present, -1 absent, 0 is left out (difficult instances only).
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
    order = np.argsort(-scores, kind="stable")
    present, scores = present[order], scores[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.cumsum(present)[last_of_tie]
    recall = hits / hits[-1]
    precision = hits / (last_of_tie + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if method == "voc2007":
        # Recall is a ratio of counts: compare at counts, so that 0.3 is not 0.30000000000000004.
        reached = [envelope[10 * hits >= k * hits[-1]] for k in range(11)]
        return float(np.mean([e[0] for e in reached]))
    return float(np.sum(np.diff(recall, prepend=0) * envelope))
