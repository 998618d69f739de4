"""The decoder on files as people and attackers make them, against Pillow used plainly."""

import contextlib
import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from mgta_tf.data import images
from mgta_tf.data.images import BadImage

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)


def encode(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_are_exact(kind):
    np.testing.assert_array_equal(images.decode(encode(Image.fromarray(PIXELS), kind)), PIXELS)


def test_jpeg_is_what_pillow_says():
    data = encode(Image.fromarray(PIXELS), "JPEG")
    np.testing.assert_array_equal(images.decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_greyscale_becomes_three_equal_channels():
    grey = PIXELS[..., 0]
    out = images.decode(encode(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(out, np.stack([grey] * 3, axis=-1))


def test_cmyk_becomes_rgb():
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    out = images.decode(encode(ink, "JPEG"))
    assert np.abs(out.astype(int) - (255, 0, 0)).max() < 6


def test_sixteen_bits_keep_the_upper_eight():
    deep = (np.arange(256, dtype=np.uint16) * 256 + 77).reshape(16, 16)
    out = images.decode(encode(Image.fromarray(deep), "PNG"))
    np.testing.assert_array_equal(out[..., 1], np.arange(256).reshape(16, 16))


def test_palette_and_first_frame_of_a_gif():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(images.decode(data), np.full((6, 6, 3), (255, 0, 0)))


def test_transparent_pixels_lie_on_white():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    out = images.decode(encode(Image.fromarray(rgba), "PNG"))
    np.testing.assert_array_equal(out[0, 0], (10, 20, 30))
    np.testing.assert_array_equal(out[1, 1], (255, 255, 255))


def test_exif_orientation_is_applied():
    wide = Image.fromarray(np.full((10, 40, 3), 9, np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert images.decode(encode(wide, "JPEG", exif=exif)).shape == (40, 10, 3)


def bomb(width, height):
    """A PNG whose header claims a size that its few bytes do not hold."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


PROGRESSIVE = encode(Image.fromarray(PIXELS), "JPEG", progressive=True)
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
LABORIOUS = PROGRESSIVE[:-2] + LAST_SCAN * 200 + PROGRESSIVE[-2:]  # a small file, hours of work


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"this is a letter, not a photograph", "not a JPEG, PNG, BMP or GIF"),
        (encode(Image.fromarray(PIXELS), "JPEG")[:-200], "truncated"),
        (encode(Image.fromarray(PIXELS), "PNG")[:400], "truncated"),
        (encode(Image.fromarray(PIXELS), "JPEG")[:50], "."),
        (bomb(60000, 60000), "over the limit"),
        (bomb(300, 300), "truncated"),
        (LABORIOUS, "a JPEG of over 100 scans"),
        (encode(Image.fromarray(PIXELS), "TIFF"), "not a JPEG, PNG, BMP or GIF"),
    ],
)
def test_bad_images_are_refused_with_a_reason(data, reason):
    with pytest.raises(BadImage, match=reason):
        images.decode(data)


def test_the_pixel_limit_counts_before_decoding():
    data = encode(Image.fromarray(PIXELS), "PNG")
    assert images.decode(data, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(BadImage, match="30×20 is over the limit of 599"):
        images.decode(data, max_pixels=599)


def test_no_damage_goes_unnamed():
    """Every byte of a small JPEG and PNG turned over: decoded or BadImage, nothing else."""
    small = Image.fromarray(PIXELS[:8, :8])
    for kind in ("JPEG", "PNG", "GIF", "BMP"):
        data = encode(small, kind)
        for place in range(len(data)):
            damaged = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
            with contextlib.suppress(BadImage):
                assert images.decode(damaged, max_pixels=10**6).shape[2] == 3


RAMP = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None], (20, 40, 3))


def test_crop_keeps_the_centre():
    out = images.resize(RAMP, 20, "crop")
    np.testing.assert_array_equal(out[0, :, 0], np.arange(10, 30))


def test_squash_keeps_everything():
    out = images.resize(RAMP, 20, "squash")
    assert out.shape == (20, 20, 3)
    assert out[0, 0, 0] <= 1
    assert out[0, -1, 0] >= 38


def test_pad_keeps_the_aspect():
    out = images.resize(np.full((20, 40, 3), 9, np.uint8), 40, "pad")
    np.testing.assert_array_equal(out[:10], 0)
    np.testing.assert_array_equal(out[10:30], 9)
    np.testing.assert_array_equal(out[30:], 0)


def test_reducing_averages():
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    out = images.resize(np.repeat(checks[..., None], 3, 2).astype(np.uint8), 16, "crop")
    assert np.abs(out.astype(int) - 127).max() < 12


def test_draft_mode_is_close_to_the_whole_decoding():
    y, x = np.mgrid[:512, :512]
    smooth = np.stack([x / 2, y / 2, (x + y) / 4], -1).astype(np.uint8)
    data = encode(Image.fromarray(smooth), "JPEG", quality=95)
    drafted = images.load_square(data, 64, "crop", 10**6)
    whole = images.resize(images.decode(data), 64, "crop")
    assert np.abs(drafted.astype(int) - whole).max() <= 3


def test_pixels_of_another_kind_are_refused():
    with pytest.raises(BadImage, match="float"):
        images.load_square(np.zeros((4, 4, 3), np.float32), 4, "crop", 100)


def test_a_dark_picture_of_sixteen_bits_stays_dark():
    deep = np.full((4, 4), 200, np.uint16)  # of 65535
    np.testing.assert_array_equal(images.decode(encode(Image.fromarray(deep), "PNG")), 0)


def test_the_suffix_does_not_matter_and_an_animation_is_its_first_frame():
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "PNG", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(images.decode(data), np.full((6, 6, 3), (255, 0, 0)))


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(images, "LARGE", 100)
    with images._one_large_image:
        data, done = encode(Image.fromarray(PIXELS), "PNG"), []
        thread = threading.Thread(target=lambda: done.append(images.decode(data)))
        thread.start()
        thread.join(0.3)
        assert not done
    thread.join(30)
    np.testing.assert_array_equal(done[0], PIXELS)
