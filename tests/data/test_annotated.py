"""Orientation of photographs with boxes: all EXIF tags, with painted pixels as the truth."""

import io

import numpy as np
import pytest
from PIL import Image

from mgta_tf.data import images
from mgta_tf.data.annotated import Unclear, drawn_as_stored, oriented, refuse_unclear
from mgta_tf.errors import UserError

BOX = (11, 6, 30, 15)  # VOC's pixels
SCENE = np.full((40, 60, 3), 90, np.uint8)
SCENE[5:15, 10:30] = (200, 30, 30)
# How the scene is stored so that a viewer, which obeys the tag, shows it upright.
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
    """A file whose scene is upright as stored, or as displayed by a viewer."""
    picture = Image.fromarray(scene)
    if drawn_on == "displayed" and orientation in UNDO:
        picture = picture.transpose(UNDO[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "WEBP": {"lossless": True}}
    picture.save(file, kind, exif=exif, **options.get(kind, {}))
    return file.getvalue()


def painted(pixels):
    """Where the paint is, as a box in VOC's pixels."""
    rows, columns = np.nonzero(pixels[..., 0] > 150)
    return (columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("drawn_on", ["stored", "displayed"])
@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
def test_the_stated_size_tells_what_the_box_was_drawn_on(orientation, drawn_on, kind):
    stored, found = images.decode_stored(photograph(orientation, drawn_on, kind=kind))
    assert found == orientation
    pixels = oriented(stored, orientation, (60, 40), True)
    assert pixels.shape == SCENE.shape
    assert painted(pixels) == BOX


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", [1, *UNDO])
def test_the_header_agrees_with_decoding(orientation, kind):
    """Stored pixels and tag are the file's own, even where Pillow turns the image."""
    data = photograph(orientation, "displayed", kind=kind)
    size, stated = images.header(data)
    stored, found = images.decode_stored(data)
    assert stated == found == orientation
    assert size == stored.shape[1::-1] == ((40, 60) if orientation >= 5 else (60, 40))
    np.testing.assert_array_equal(images.turned(stored, found), images.decode(data))
    assert painted(images.decode(data)) == BOX


def test_a_tiff_that_pillow_turns_is_returned_as_stored():
    for orientation in UNDO:
        stored, _ = images.decode_stored(photograph(orientation, "stored", kind="TIFF"))
        np.testing.assert_array_equal(stored, SCENE)


# (stated size, orientation) → the image that a box was drawn on; the stored image is 60×40.
RULE = {
    **{((60, 40), turn): "stored" for turn in (5, 6, 7, 8)},
    **{((40, 60), turn): "displayed" for turn in (5, 6, 7, 8)},
    **{((60, 40), turn): "fits both" for turn in (2, 3, 4)},
    **{((40, 60), turn): "neither" for turn in (2, 3, 4)},
    **{((61, 40), turn): "neither" for turn in UNDO},
    **{(None, turn): "states no size" for turn in UNDO},
    **{(size, 1): "stored" for size in (None, (60, 40), (40, 60), (61, 40))},
}


@pytest.mark.parametrize(("size", "orientation"), RULE)
def test_the_rule_for_every_orientation(size, orientation):
    expected = RULE[size, orientation]
    if expected in ("stored", "displayed"):
        assert drawn_as_stored((60, 40), orientation, size, True) is (expected == "stored")
    else:
        with pytest.raises(Unclear, match=expected):
            drawn_as_stored((60, 40), orientation, size, True)


def test_unclear_orientations_are_refused_by_their_headers(tmp_path, monkeypatch):
    """All of them are named; unreadable files are left to the decoder."""
    for turn in (1, 3, 6):
        (tmp_path / f"{turn}.png").write_bytes(photograph(turn, "stored"))
    (tmp_path / "bad.png").write_bytes(b"no image")
    paths = [str(tmp_path / f"{name}.png") for name in ("bad", 1, 3, 6, "gone")]
    monkeypatch.setattr(images, "decode_stored", None)
    asked = []

    def stated(number):
        asked.append(number)
        return (60, 40), True

    with pytest.raises(UserError, match=r"3\.png: EXIF orientation 3, .* FILE\)$"):
        refuse_unclear(paths, stated)
    assert sorted(asked) == [2, 3]
    with pytest.raises(UserError, match=r"3\.png: EXIF orientation 3, .*; 1 more: 6\.png$"):
        refuse_unclear(paths, lambda _: (None, True))
    refuse_unclear(paths, lambda _: (None, False))


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
def test_an_invalid_tag_is_ignored(tag):
    assert images.decode_stored(photograph(tag, "stored"))[1] == 1
