"""Photographs with boxes, whatever format they are annotated in."""

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
    """The pixels that the boxes were drawn on, uint8 [H, W, 3], as `drawn_as_stored` tells.

    stored: uint8 [h, w, 3], and orientation: 1 to 8, from `images.decode_stored`.

    Raises:
      Unclear: as `drawn_as_stored` says.
    """
    height, width = stored.shape[:2]
    as_stored = drawn_as_stored((width, height), orientation, size, boxes)
    return stored if as_stored else images.turned(stored, orientation)


def drawn_as_stored(stored: Size, orientation: int, size: Size | None, boxes: bool) -> bool:
    """Whether the boxes were drawn on the pixels as stored, not as a viewer shows them.

    Where a photograph has an EXIF orientation, some tools annotate the one, others the other. The
    size that the annotation states decides which of the two it is.

    Args:
      stored: (width, height) of the pixels as stored, and
      orientation: 1 to 8, from `images.decode_stored` or `images.header`.
      size: (width, height) as stated by the annotation, or None.
      boxes: Whether there are any; without them nothing can be misplaced, and nothing is refused.

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
    """Refuses photographs of which it is unclear what their boxes were drawn on.

    Reads the headers alone, so that a run ends before it has begun. What cannot be read is not
    refused here; whatever decodes it says why.

    Args:
      paths: Of the photographs.
      annotation: Number of a photograph → (the size that its annotation states, whether it has
        boxes); asked where there is an orientation.

    Raises:
      UserError: naming them.
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
    """What is said of photographs, (path, reason), that end a run: the first, and which else."""
    (path, reason), *others = refused
    names = [os.path.basename(other) for other, _ in others]
    more = f"; {len(names)} more: {listing(names)}" if names else ""
    return UserError(f"{path}: {reason}{more}")
