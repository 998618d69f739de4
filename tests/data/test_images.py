"""The decoder on files of cameras, editors and attackers, compared with plain Pillow."""

import contextlib
import io
import struct
import subprocess
import sys
import threading
import zlib

import cases
import numpy as np
import pytest
from cases import encode
from PIL import Image

from mgta_tf.data import formats, images
from mgta_tf.data.images import BadImage, NotRead

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_lossless_formats_are_exact(kind):
    np.testing.assert_array_equal(images.decode(encode(Image.fromarray(PIXELS), kind)), PIXELS)


def test_jpeg_matches_pillow():
    data = encode(Image.fromarray(PIXELS), "JPEG")
    np.testing.assert_array_equal(images.decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_grayscale_becomes_three_equal_channels():
    gray = PIXELS[..., 0]
    out = images.decode(encode(Image.fromarray(gray), "PNG"))
    np.testing.assert_array_equal(out, np.stack([gray] * 3, axis=-1))


def test_cmyk_becomes_rgb():
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    out = images.decode(encode(ink, "JPEG"))
    assert np.abs(out.astype(int) - (255, 0, 0)).max() < 6


def test_sixteen_bits_keep_the_upper_eight():
    deep = (np.arange(256, dtype=np.uint16) * 256 + 77).reshape(16, 16)
    out = images.decode(encode(Image.fromarray(deep), "PNG"))
    np.testing.assert_array_equal(out[..., 1], np.arange(256).reshape(16, 16))


def test_palette_and_first_frame_of_a_gif():
    frames = [Image.new("RGB", (6, 6), color) for color in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(images.decode(data), np.full((6, 6, 3), (255, 0, 0)))


def test_transparent_pixels_are_blended_with_white():
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
        (b"this is a letter, not a photograph", "not a JPEG, PNG, BMP, GIF, WebP"),
        (b"\n<!DOCTYPE html><html>404", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"/annex/objects/MD5E-s1--2.jpg", "git annex get"),
        (encode(Image.fromarray(PIXELS), "JPEG")[:-200], "truncated"),
        (encode(Image.fromarray(PIXELS), "PNG")[:400], "truncated"),
        (encode(Image.fromarray(PIXELS), "JPEG")[:50], "."),
        (bomb(60000, 60000), "over the limit"),
        (bomb(300, 300), "truncated"),
        (LABORIOUS, "a JPEG of over 100 scans"),
    ],
)
def test_bad_images_are_refused_with_a_reason(data, reason):
    with pytest.raises(BadImage, match=reason):
        images.decode(data)


def test_the_pixel_limit_is_checked_before_decoding():
    data = encode(Image.fromarray(PIXELS), "PNG")
    assert images.decode(data, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(BadImage, match="30×20 is over the limit of 599"):
        images.decode(data, max_pixels=599)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_the_shorter_side_is_read_from_the_header(kind, monkeypatch):
    monkeypatch.setattr(images, "_to_rgb", None)  # nothing is decoded
    for size in ((30, 20), (20, 30)):
        data = encode(Image.fromarray(PIXELS).resize(size), kind)
        assert images.shorter_side(data, images.MAX_PIXELS) == 20


def test_the_shorter_side_of_pixels_and_of_damaged_files():
    assert images.shorter_side(PIXELS, images.MAX_PIXELS) == 20  # pixels
    for data in (b"", b"a letter", encode(Image.fromarray(PIXELS), "PNG")[:20], bomb(60000, 60000)):
        with pytest.raises(BadImage):
            images.shorter_side(data, images.MAX_PIXELS)


def test_a_file_with_an_inverted_byte_is_decoded_or_refused():
    """Every byte of a small file of each format; BadImage is the only error."""
    small = Image.fromarray(PIXELS[:8, :8])
    for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM"):
        data = encode(small, kind)
        for place in range(len(data)):
            damaged = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
            with contextlib.suppress(BadImage):
                assert images.decode(damaged, max_pixels=10**6).shape[2] == 3


RAMP = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None], (20, 40, 3))


def test_crop_keeps_the_center():
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


def test_draft_mode_is_close_to_full_decoding():
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


def test_the_first_frame_of_an_animated_png_is_read():
    frames = [Image.new("RGB", (6, 6), color) for color in ("red", "blue")]
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


# --------------------------------------------------------------- Files as phones and editors write


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_lossy_formats_match_pillow(kind):
    data = encode(cases.BASE, kind)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(images.decode(data), np.asarray(image.convert("RGB")))


def test_the_first_page_of_a_tiff_is_read():
    pages = [Image.new("RGB", (6, 6), color) for color in ("red", "blue")]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(images.decode(data), np.full((6, 6, 3), (255, 0, 0)))


TURNED = cases.turned_files()


@pytest.mark.parametrize("name", TURNED)
def test_orientation_is_read_despite_other_metadata(name):
    data, turn = TURNED[name]
    stored = np.asarray(Image.open(io.BytesIO(cases.JPEG)))
    expected = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: stored[::-1].transpose(1, 0, 2),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: stored[:, ::-1].transpose(1, 0, 2),
    }
    np.testing.assert_array_equal(images.decode(data), expected[turn])
    pixels, found = images.decode_stored(data)
    np.testing.assert_array_equal(pixels, stored)
    assert found == turn


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("turn", [3, 6])
def test_orientation_is_applied_once_in_every_format(kind, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    straight = images.decode(encode(cases.BASE, kind))
    out = images.decode(encode(cases.BASE, kind, exif=exif))
    np.testing.assert_array_equal(out, np.rot90(straight, {3: 2, 6: 3}[turn]))


def test_exif_is_read_from_imagemagicks_text_chunk():
    info = cases.PngImagePlugin.PngInfo()
    raw = cases.exif_bytes(6)
    info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8d}\n{raw.hex()}\n", zip=True)
    assert images.decode(encode(cases.BASE, "PNG", pnginfo=info)).shape == (96, 64, 3)


METADATA = cases.metadata_files()


@pytest.mark.parametrize("name", [*TURNED, *METADATA])
def test_the_header_alone_tells_size_and_orientation(name):
    data = TURNED[name][0] if name in TURNED else METADATA[name]
    pixels, turn = images.decode_stored(data)
    assert images.header(data) == (pixels.shape[1::-1], turn)


@pytest.mark.parametrize("name", METADATA)
def test_metadata_does_not_change_the_pixels(name):
    found = images.decode(METADATA[name])
    exact = np.asarray(
        cases.BASE if not name.endswith(".jpg") else Image.open(io.BytesIO(cases.JPEG))
    )
    tolerance = {"mpo.jpg": 1, "exif_garbage.avif": 16}.get(name, 0)
    assert np.abs(found.astype(int) - exact).max() <= tolerance


def test_scans_are_counted_to_the_end_of_the_image():
    many, as_mpo, ordinary = cases.many_scans()
    for data in (many, as_mpo):
        with pytest.raises(BadImage, match="over 100 scans"):
            images.decode(data, max_pixels=10**6)
    assert images.decode(ordinary + ordinary * 200).shape == (600, 600, 3)


def test_colors_do_not_depend_on_the_removed_metadata():
    """Adobe's and JFIF's segments set the color space, so they are kept."""
    for picture in (cases.BASE, cases.BASE.convert("CMYK")):
        for options in ({}, {"icc_profile": b"x" * 100_000}):
            data = encode(picture, "JPEG", **options)
            plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            np.testing.assert_array_equal(images.decode(data), plain)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "I;16"])
def test_a_transparent_color_is_blended_with_white(mode):
    """The tRNS chunk names the color of the left half."""
    pixels = np.full((4, 8, 3), 40, np.uint8)
    pixels[:, 4:] = 90
    picture = Image.fromarray(pixels)
    if mode == "I;16":
        picture, clear = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), 40 * 257
    else:
        picture = picture.quantize(2) if mode == "P" else picture.convert(mode)
        clear = (40, 40, 40) if mode == "RGB" else picture.getpixel((0, 0))
    out = images.decode(encode(picture, "PNG", transparency=clear))
    np.testing.assert_array_equal(out[:, :4], 255)
    np.testing.assert_array_equal(out[:, 4:], 90)


def png_chunk(kind, body):
    crc = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + crc


def test_twelve_bits_in_sixteen_are_scaled_by_the_range_of_the_file_or_reported():
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    eight = np.repeat((values >> 4).astype(np.uint8)[..., None], 3, 2)
    png = encode(Image.fromarray(values), "PNG")
    remarks = []
    np.testing.assert_array_equal(images.decode(png, remarks=remarks)[..., 0], values >> 8)
    assert remarks == [images.DARK]
    with_sbit = png[:33] + png_chunk(b"sBIT", b"\x0c") + png[33:]
    np.testing.assert_array_equal(images.decode(with_sbit, remarks=remarks), eight)
    shifted = encode(Image.fromarray(values << 4), "PNG")  # as PNG requires
    with_sbit = shifted[:33] + png_chunk(b"sBIT", b"\x0c") + shifted[33:]
    np.testing.assert_array_equal(images.decode(with_sbit, remarks=remarks), eight)
    tiff = encode(Image.fromarray(values), "TIFF", tiffinfo={281: 4095})
    np.testing.assert_array_equal(images.decode(tiff, remarks=remarks), eight)
    pgm = b"P5 64 64 4095\n" + values.astype(">u2").tobytes()
    assert np.abs(images.decode(pgm, remarks=remarks).astype(int) - eight).max() <= 1
    assert remarks == [images.DARK]
    deep = np.repeat(values[..., None], 3, 2).astype(">u2").tobytes()
    rows = b"".join(b"\0" + deep[i * 384 : (i + 1) * 384] for i in range(64))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 16, 2, 0, 0, 0))
    rgb = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows))
    images.decode(rgb + png_chunk(b"IEND", b""), remarks=remarks)
    assert remarks == [images.DARK] * 2


@pytest.mark.parametrize(("largest", "scale"), [(1, 255), (255, 1), (65535, 1 / 256)])
def test_floats_are_scaled_by_their_range(largest, scale):
    values = np.linspace(0, largest, 64, dtype=np.float32).reshape(8, 8)
    found = images.decode(encode(Image.fromarray(values), "TIFF"))[..., 0]
    assert np.abs(found - values * scale).max() <= 1
    with pytest.raises(BadImage, match="a range that the file does not name"):
        images.decode(encode(Image.fromarray(values * np.float32(1e6) + 1), "TIFF"))


def test_every_format_is_refused_by_its_header_before_it_is_decoded(monkeypatch):
    def load(_):
        raise AssertionError("decoded")

    monkeypatch.setattr(images.ImageFile.ImageFile, "load", load)
    for kind in ("JPEG", "MPO", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM"):
        with pytest.raises(BadImage, match="96×64 is over the limit of 6143 pixels"):
            images.decode(encode(cases.BASE, kind), max_pixels=6143)


def test_the_size_of_a_webp_is_checked_before_pillow_allocates_it(monkeypatch):
    for options in ({}, {"lossless": True}, {"exif": b"x"}):  # VP8, VP8L, VP8X
        data = encode(cases.BASE, "WEBP", **options)
        assert formats.webp_size(data) == (96, 64)
        monkeypatch.setattr(images.Image, "open", None)
        with pytest.raises(BadImage, match="over the limit"):
            images.decode(data, max_pixels=100)
        monkeypatch.undo()


def test_a_tile_of_a_tiff_is_not_larger_than_an_image_may_be():
    tags = (
        (256, 8),
        (257, 8),
        (258, 8),
        (259, 1),
        (262, 1),
        (277, 1),
        (322, 16_000),
        (323, 16_000),
    )
    tags += ((324, 200), (325, 64))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + b"\0" * 200
    with pytest.raises(BadImage, match="16000×16000 is over the limit"):
        images.decode(data, max_pixels=10**6)


def test_previews_in_raw_files_are_not_read():
    for tags in ({254: 1}, {50706: b"\1\4\0\0"}):  # a reduced image, as NEF has; a DNG
        with pytest.raises(NotRead, match="raw file"):
            images.decode(encode(cases.BASE, "TIFF", tiffinfo=tags))
    with pytest.raises(NotRead, match="raw file"):
        images.decode(b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 99)


def test_the_message_names_the_lower_of_our_limit_and_pillows(monkeypatch):
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 1000)
    for max_pixels, limit in ((10**6, 2000), (1999, 1999)):
        with pytest.raises(BadImage, match=rf"over the limit of {limit} pixels"):
            images.decode(encode(cases.BASE, "PNG"), max_pixels=max_pixels)


DAMAGED_TIFFS = """
import io, logging, numpy as np
from PIL import Image
from mgta_tf import cli
from mgta_tf.data import images
cli.quiet_libraries()
rng = np.random.default_rng(0)
picture = Image.fromarray(rng.integers(0, 256, (24, 32, 3)).astype(np.uint8))
reasons = set()
for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
    file = io.BytesIO()
    picture.convert("YCbCr" if kind == "jpeg" else "RGB").save(file, "TIFF", compression=kind)
    for _ in range(60):
        data = bytearray(file.getvalue())
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        try:
            images.decode(bytes(data), max_pixels=10**6)
        except images.BadImage as error:
            reasons.add(str(error)[:9])
print(sorted(reasons))
"""


def test_a_damaged_tiff_has_a_reason_and_libtiff_prints_nothing():
    """In a subprocess, because libtiff writes to the terminal itself, not through Python."""
    command = [sys.executable, "-c", DAMAGED_TIFFS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert "truncated" in done.stdout
    assert done.stderr == ""


@pytest.mark.skipif(images.has_heif(), reason="pillow-heif is installed here")
def test_heic_without_its_library_is_reported():
    with pytest.raises(NotRead, match="needs pillow-heif; run pip install"):
        images.decode(cases.HEIC)


@pytest.mark.skipif(not images.has_heif(), reason="pillow-heif, an extra, is not installed")
def test_heic_with_its_library():
    images.load_heif()
    data = encode(cases.BASE, "HEIF", quality=95)
    assert np.abs(images.decode(data).astype(int) - np.asarray(cases.BASE)).mean() < 8
    with pytest.raises(BadImage, match="over the limit"):
        images.decode(data, max_pixels=100)
    with pytest.raises(BadImage):
        images.decode(data[: len(data) // 2])


def test_a_plain_ppm_of_comments_is_read_in_one_pass():
    data = b"P2 #x\n2 1 #y\n255\n" + b"#\n" * 300_000 + b"7 #z\n9"
    np.testing.assert_array_equal(images.decode(data)[0, :, 0], (7, 9))
    with pytest.raises(BadImage):
        images.decode(b"P6 #" + b"x" * 10**7)
