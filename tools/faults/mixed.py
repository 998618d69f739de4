"""A folder with files of every format, depth, name and kind of damage.

Each file is written with its expected fate: read, skipped as damaged, or not read. So the fate of
every single file, and all counts, can be checked.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image

from mgta_tf.data import images
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import describe, load_store
from mgta_tf.errors import printable
from tools.faults.suite import Row, Suite

READ, SKIPPED, NOT_READ = "read", "skipped", "not read"
SUFFIXES = (".jpg", ".JPEG", ".png", ".webp", ".TIF", ".heic", ".dat", "", ".txt")
PLACES = ("", "cats", "cats/deep/er", "dogs/2024/01", "dogs/a b/c,d/e/f/g", "b\udce9rds/[x] *?")
SERVICE = (".git", "cats/@eaDir", "__MACOSX/dogs", ".ipynb_checkpoints")
STEMS = ("IMG_{}", "{} ü 日本", "caf\udce9{}", "{}\ttab\nline", "quote'\"{}", "[{}] *?", "{}.rf.0f")


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def good_files() -> list[bytes]:
    """Images of every supported format, with all kinds of metadata."""
    pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    more = {"save_all": True, "append_images": [picture.rotate(180)]}
    jpeg, exif = encoded(picture, "JPEG"), Image.Exif()
    exif[0x0112] = 6
    found = [
        jpeg,
        jpeg + b"MotionPhoto_Data" + bytes(range(256)),
        jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 21) + b"Exif\0\0no TIFF at all" + jpeg[2:],
        encoded(picture, "JPEG", progressive=True, exif=exif, icc_profile=b"p" * 70_000),
        encoded(picture.convert("CMYK"), "JPEG"),
        encoded(picture, "MPO", **more),
        encoded(picture, "PNG", exif=exif) + b"\0" * 99,
        encoded(picture.convert("RGBA"), "PNG"),
        encoded(picture.quantize(4), "PNG", transparency=0),
        encoded(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG"),
        encoded(picture, "BMP"),
        encoded(picture, "GIF", **more),
        encoded(picture, "WEBP"),
        encoded(picture, "WEBP", lossless=True, exif=exif, **more),
        encoded(picture, "TIFF", compression="tiff_lzw", exif=exif),
        encoded(picture.convert("1"), "TIFF", compression="group4"),
        encoded(picture, "AVIF"),
        encoded(picture, "JPEG2000"),
        encoded(picture, "PPM"),
    ]
    if images.has_heif():
        images.load_heif()
        found.append(encoded(picture.resize((64, 64)), "HEIF"))
    return found


def write(folder: str, count: int) -> dict[str, str]:
    """Writes `count` files into a new folder; returns the expected fate of each, by name."""
    good, expected = good_files(), {}
    kinds = _bad_files(good)
    for number, (data, fate) in zip(range(count), _in_turn(good, kinds)):
        place = PLACES[number % len(PLACES)]
        if number % 25 == 24:
            place, fate = SERVICE[number % len(SERVICE)], NOT_READ
        stem = STEMS[number % len(STEMS)].format(number)
        suffix = SUFFIXES[number % len(SUFFIXES)]
        if fate == NOT_READ and place not in SERVICE and data.startswith(b"a letter"):
            suffix = (".txt", ".json", "")[number % 3]  # under an image's suffix it is damaged
        elif fate != READ and not suffix.lower().startswith((".j", ".p", ".w")):
            suffix = ".jpg"
        name = os.path.join(place, stem + suffix)
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if data == LINK:
            os.symlink("gone", path)
        elif data == PIPE:
            os.mkfifo(path)
        else:
            with open(path, "wb") as file:
                file.write(data)
        expected[name] = fate
    return expected


LINK, PIPE = b"a link that leads nowhere", b"a pipe"


def _bad_files(good: list[bytes]) -> list[tuple[bytes, str]]:
    """Files that are not photographs but have an image's suffix, with the expected outcome."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + b"\0" * 99
    cut = [(data[: len(data) // 3], SKIPPED) for data in good]
    return [
        *cut,
        (b"", SKIPPED),
        (b"<html>404</html>", SKIPPED),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", SKIPPED),
        (b"\0" * 400, SKIPPED),
        (bomb, SKIPPED),
        (b"<svg/>", NOT_READ),
        (b"8BPS\0\1", NOT_READ),
        (b"\xff\x0a\xfa\x1f", NOT_READ),  # JPEG XL
        (b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 99, NOT_READ),
        (b"a letter", NOT_READ),
        (LINK, NOT_READ),
        (PIPE, NOT_READ),
    ]


def _in_turn(good: list[bytes], bad: list[tuple[bytes, str]]) -> Iterator[tuple[bytes, str]]:
    """Yields four good files, then a bad one, and so on."""
    number = 0
    while True:
        yield from ((good[(number * 4 + i) % len(good)], READ) for i in range(4))
        yield bad[number % len(bad)]
        number += 1


def fates(folder: str, skipped_file: str) -> tuple[dict[str, str], str]:
    """The fate of each file of a folder by name, and the line that the package prints."""
    source = open_source(DataConfig(data_dir=folder))
    store = load_store(source, size=8, max_bad_fraction=1.0, skipped_file=skipped_file)
    found = dict.fromkeys(store.names, READ)
    found.update(dict.fromkeys((name for name, _ in store.skipped), SKIPPED))
    found.update(dict.fromkeys((name for name, _ in store.unread), NOT_READ))
    counts = [len(part) for part in (store, store.skipped, store.unread)]
    if sum(counts) != len(found):
        raise AssertionError(f"{counts} of {len(found)} names: some are counted twice")
    with open(skipped_file, encoding="utf-8") as file:
        listed = {line.partition("\t")[0] for line in file}
    with contextlib.suppress(KeyError):
        listed.remove("")
    if listed != {printable(name) for name, fate in found.items() if fate != READ}:
        raise AssertionError(f"{skipped_file} does not list what was not read")
    return found, describe(store)[0]


def mixed_folder(suite: Suite) -> Row:
    """Files of every kind in one folder, 10,000 or 300: how many have their expected fate."""
    folder, skipped_file = suite.folder("mixed"), suite.folder("skipped.txt")
    expected = write(folder, suite.tries(10_000, 300))
    found, line = fates(folder, skipped_file)
    right = sum(found.get(name) == fate for name, fate in expected.items())
    counts = {fate: list(expected.values()).count(fate) for fate in (READ, SKIPPED, NOT_READ)}
    names = len(found.keys() | expected.keys())
    return {"tries": names, "survived": right, "bytes_lost": 0, "line": line, **counts}
