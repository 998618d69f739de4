"""Photographs with boxes, independent of the format of their annotations."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mgta_tf.data import images
from mgta_tf.data.images import BadImage
from mgta_tf.errors import UserError, listing
from mgta_tf.runtime import files

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
    """A photograph with its annotation.

    path: of the photograph. source: of the annotation, for messages. size: (width, height) in the
    annotation, None if it has none.
    """

    path: str
    source: str
    size: Size | None
    boxes: tuple[LabelledBox, ...]


class Unclear(BadImage):
    """It is ambiguous whether boxes lie on the stored or the displayed pixels of a photograph."""


def oriented(stored: np.ndarray, orientation: int, size: Size | None, boxes: bool) -> np.ndarray:
    """The pixels on which the boxes were drawn, uint8 [H, W, 3], by `drawn_as_stored`.

    stored: uint8 [h, w, 3], and orientation: 1 to 8, from `images.decode_stored`.

    Raises:
      Unclear: raised by `drawn_as_stored`.
    """
    height, width = stored.shape[:2]
    as_stored = drawn_as_stored((width, height), orientation, size, boxes)
    return stored if as_stored else images.turned(stored, orientation)


def drawn_as_stored(stored: Size, orientation: int, size: Size | None, boxes: bool) -> bool:
    """Whether the boxes were drawn on the stored pixels, not on the displayed ones.

    If a photograph has an EXIF orientation, some tools annotate the stored pixels, others the
    displayed ones. The image size in the annotation decides.

    Args:
      stored: (width, height) of the pixels as stored, and
      orientation: 1 to 8, from `images.decode_stored` or `images.header`.
      size: (width, height) as stated by the annotation, or None.
      boxes: Whether there are boxes; without boxes nothing is refused.

    Raises:
      Unclear: there is an orientation, and the stated size fits neither way, both ways, or is
        missing.
    """
    if orientation == 1:
        return True
    shown = stored[::-1] if orientation >= 5 else stored
    if stored != shown and size in (stored, shown):
        return size == stored
    if not boxes:
        return False
    if size is None:
        problem = "the annotation states no size, so it is unknown"
    elif size == stored:
        problem = f"the stated size {size[0]}×{size[1]} fits both, so it is unknown"
    else:
        problem = (
            f"the stated size {size[0]}×{size[1]} is neither the stored {stored[0]}×{stored[1]} "
            f"nor the displayed {shown[0]}×{shown[1]}, so it is unknown"
        )
    raise Unclear(
        f"EXIF orientation {orientation}, and {problem} whether the boxes lie on the stored or on "
        "the displayed pixels. If stored, remove the tag (exiftool -Orientation= FILE); if "
        "displayed, rotate the pixels (mogrify -auto-orient FILE)"
    )


def refuse_unclear(paths: Sequence[str], annotation: Callable[[int], tuple[Size | None, bool]]):
    """Refuses photographs for which it is ambiguous on which pixels their boxes were drawn.

    Reads headers only, so a run fails before it starts. Files that cannot be read are ignored here;
    decoding them raises the error.

    Args:
      paths: Paths of the photographs.
      annotation: Number of a photograph → (size in its annotation, whether it has boxes); called
        for photographs with an orientation.

    Raises:
      UserError: some are ambiguous; the message names them.
    """

    def reason(number: int) -> str:
        try:
            stored, orientation = images.header(files.read(paths[number], images.MAX_BYTES))
            if orientation != 1:
                drawn_as_stored(stored, orientation, *annotation(number))
        except Unclear as error:
            return str(error)
        except (OSError, BadImage):
            pass
        return ""

    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(reason, range(len(paths))))
    refused = [(path, why) for path, why in zip(paths, reasons) if why]
    if refused:
        raise refusal(refused)


def refusal(refused: Sequence[tuple[str, str]]) -> UserError:
    """The error for photographs (path, reason): the first with its reason, and the others."""
    (path, reason), *others = refused
    names = [os.path.basename(other) for other, _ in others]
    more = f"; {len(names)} more: {listing(names)}" if names else ""
    return UserError(f"{path}: {reason}{more}")
