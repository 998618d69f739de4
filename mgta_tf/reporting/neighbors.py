"""Nearest neighbors among the members of a report, and how often they agree in class."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from mgta_tf.clustering.clusters import NOISE
from mgta_tf.evaluation.baselines import thumbnails
from mgta_tf.evaluation.knn import precision
from mgta_tf.reporting.record import Members

QUERIES = 5  # photographs at the head of the report


def queries(members: Members, wanted: int = QUERIES) -> list[int]:
    """Rows of a few photographs, taken evenly from the sheet and so from different clusters."""
    count = len(members.label)
    return [int(i) for i in np.unique(np.linspace(0, count - 1, wanted + 2).astype(int)[1:-1])]


def agreement(members: Members) -> dict[str, float] | None:
    """How many of the nearest neighbors have the class of their query, in percent.

    Returns:
      `encoder`; `thumbnail`, of the images at 4×4 pixels; `chance`, of any other image. None
      without classes.
    """
    if members.truth is None:
        return None
    truth = members.truth
    known = np.flatnonzero(truth != NOISE)
    if len(known) < 2 or len(np.unique(truth[known])) < 2:
        return None
    truth = truth[known]
    small = thumbnails(sprites(members)[known])
    points = {"encoder": members.coordinates[known], "thumbnail": small}
    found = {name: precision(of, truth) for name, of in points.items()}
    sizes = np.unique(truth, return_counts=True)[1]
    pairs = (sizes * (sizes - 1)).sum() / (len(truth) * (len(truth) - 1))
    return {**found, "chance": 100 * float(pairs)}


def sprites(members: Members) -> np.ndarray:
    """The images on the sheet: uint8 [n, S, S, 3]."""
    side = members.thumbnail
    with Image.open(io.BytesIO(members.sprites)) as image:
        sheet = np.asarray(image.convert("RGB"))
    columns = sheet.shape[1] // side
    rows = sheet.reshape(-1, side, columns, side, 3).transpose(0, 2, 1, 3, 4)
    return rows.reshape(-1, side, side, 3)[: len(members.label)]
