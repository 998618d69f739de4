"""Photographs with boxes, whatever format they are annotated in."""

from __future__ import annotations

import dataclasses

import numpy as np

from mgta_tf.data import images
from mgta_tf.data.images import BadImage

Size = tuple[int, int]  # width, height


@dataclasses.dataclass(frozen=True)
class LabelledBox:
    """An object's class and box, in VOC's pixels, which count from 1 and include both ends.

    difficult: neither trained on nor counted in the evaluation (VOC's `difficult`, COCO's crowds).
    """

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    difficult: bool = False
    truncated: bool = False


@dataclasses.dataclass(frozen=True)
class Annotated:
    """A photograph and what its annotation says.

    path: of the photograph. source: of the annotation, for messages. size: (width, height) as
    stated by the annotation, None where it states none.
    """

    path: str
    source: str
    size: Size | None
    boxes: tuple[LabelledBox, ...]


class Unclear(BadImage):
    """A photograph whose boxes may be meant otherwise than it is decoded."""


def oriented(stored: np.ndarray, orientation: int, size: Size | None, boxes: bool) -> np.ndarray:
    """The pixels that the boxes were drawn on, uint8 [H, W, 3].

    Where a photograph has an EXIF orientation, some tools annotate the pixels as they are stored,
    others what a viewer shows. The size that the annotation states decides which of the two it is.

    Args:
      stored: uint8 [h, w, 3], and
      orientation: 1 to 8, from `images.decode_stored`.
      size: (width, height) as stated by the annotation, or None.
      boxes: Whether there are any; without them nothing can be misplaced, and nothing is refused.

    Raises:
      Unclear: there is an orientation, and the stated size fits neither way, both ways, or is
        missing.
    """
    if orientation == 1:
        return stored
    shown = images.turned(stored, orientation)
    size_stored, size_shown = stored.shape[1::-1], shown.shape[1::-1]
    if size_stored != size_shown and size in (size_stored, size_shown):
        return stored if size == size_stored else shown
    if not boxes:
        return shown
    if size is None:
        problem = "the annotation states no size, so it is unknown"
    elif size == size_stored:
        problem = f"the stated size {size[0]}×{size[1]} fits both, so it is unknown"
    else:
        problem = (
            f"the stated size {size[0]}×{size[1]} is neither the stored {size_stored[0]}×"
            f"{size_stored[1]} nor the displayed {size_shown[0]}×{size_shown[1]}, so it is unknown"
        )
    raise Unclear(
        f"EXIF orientation {orientation}, and {problem} whether the boxes lie on the stored or on "
        "the displayed pixels. If stored, remove the tag (exiftool -Orientation= FILE); if "
        "displayed, rotate the pixels (mogrify -auto-orient FILE)"
    )
