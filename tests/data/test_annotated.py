"""Which way up a photograph with boxes lies: all orientations, with paint as the truth."""

import io

import numpy as np
import pytest
from PIL import Image

from mgta_tf.data import images
from mgta_tf.data.annotated import oriented

BOX = (11, 6, 30, 15)  # VOC's pixels
SCENE = np.full((40, 60, 3), 90, np.uint8)
SCENE[5:15, 10:30] = (200, 30, 30)
# What turns the scene so that a viewer, who obeys the tag, shows the scene again.
UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def photograph(orientation, drawn_on, scene=SCENE, kind="PNG"):
    """A file whose scene is upright as it is stored, or as a viewer shows it."""
    picture = Image.fromarray(scene)
    if drawn_on == "displayed" and orientation in UNDO:
        picture = picture.transpose(UNDO[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    picture.save(file, kind, exif=exif, quality=98, subsampling=0)
    return file.getvalue()


def painted(pixels):
    """Where the paint is, as a box in VOC's pixels."""
    rows, columns = np.nonzero(pixels[..., 0] > 150)
    return (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("drawn_on", ["stored", "displayed"])
@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
def test_the_stated_size_tells_what_the_box_was_drawn_on(orientation, drawn_on, kind):
    stored, found = images.decode_stored(photograph(orientation, drawn_on, kind=kind))
    assert found == orientation
    pixels = oriented(stored, orientation, (60, 40), True)
    assert pixels.shape == SCENE.shape
    assert painted(pixels) == BOX


@pytest.mark.parametrize("drawn_on", ["stored", "displayed"])
@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_size_that_fits_both_ways_is_refused(orientation, drawn_on):
    stored, _ = images.decode_stored(photograph(orientation, drawn_on))
    with pytest.raises(images.BadImage, match=f"EXIF orientation {orientation}.* 60×40 fits both"):
        oriented(stored, orientation, (60, 40), True)


@pytest.mark.parametrize("orientation", [2, 3, 4, 5, 6, 7, 8])
def test_ambiguous_sizes_are_refused(orientation):
    stored, _ = images.decode_stored(photograph(orientation, "stored", SCENE[:, :40]))
    with pytest.raises(images.BadImage, match="40×40 fits both"):
        oriented(stored, orientation, (40, 40), True)  # a square
    stored, _ = images.decode_stored(photograph(orientation, "stored"))
    with pytest.raises(images.BadImage, match="120×80 is neither the stored 60×40 nor the displ"):
        oriented(stored, orientation, (120, 80), True)
    with pytest.raises(images.BadImage, match="states no size"):
        oriented(stored, orientation, None, True)


@pytest.mark.parametrize("size", [None, (60, 40), (1, 1)])
def test_nothing_is_refused_without_a_tag_or_without_boxes(size):
    assert oriented(SCENE, 1, size, True) is SCENE
    stored, _ = images.decode_stored(photograph(3, "displayed"))
    assert painted(oriented(stored, 3, size, False)) == BOX


@pytest.mark.parametrize("tag", [0, 9, 255])
def test_a_tag_that_means_nothing_is_none(tag):
    assert images.decode_stored(photograph(tag, "stored"))[1] == 1
