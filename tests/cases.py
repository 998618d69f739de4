"""Image files, folders and names as people have them; small, and made anew by each test."""

import io
import os
import shutil
import struct

import numpy as np
from PIL import Image, PngImagePlugin

SMALL = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)
BASE = Image.fromarray(SMALL).resize((96, 64), Image.Resampling.BICUBIC)


def encode(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


JPEG = encode(BASE, "JPEG", quality=90)


# ------------------------------------------------------------------------------------ Image files


def exif_bytes(orientation, extra=()):
    """Little-endian EXIF with raw entries (tag, type, count, value of 4 bytes)."""
    entries = sorted([(0x0112, 3, 1, struct.pack("<HH", orientation, 0)), *extra])
    body = b"".join(struct.pack("<HHI", tag, kind, n) + value for tag, kind, n, value in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0\0\0\0"


def with_app1(payload):
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + JPEG[2:]


def with_text(size, **options):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "x" * size, **options)
    return encode(BASE, "PNG", pnginfo=info)


def turned_files():
    """Name → (JPEG with metadata of some kind, the orientation that it says)."""
    rest = struct.pack("<I", 9999)
    neg = [(0x0100, 9, 1, struct.pack("<i", -1)), (0x0101, 8, 1, struct.pack("<hh", -1, 0))]
    ascii_six = (
        b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI", 1, 0x0112, 2, 2) + b"6\0" + b"\0" * 6
    )
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation="6"/>'
    found = {f"exif {o}": (exif_bytes(o), o) for o in range(1, 9)}
    found.update(
        {
            "unknown": (exif_bytes(9), 1),
            "zero": (exif_bytes(0), 1),
            "header twice": (b"Exif\0\0" + exif_bytes(6), 6),
            "garbage": (b"Exif\0\0this is no TIFF at all", 1),
            "empty": (b"Exif\0\0", 1),
            "cut": (exif_bytes(6)[:20], 1),
            "a text that lies outside": (exif_bytes(6, [(0x010F, 2, 5000, rest)]), 6),
            "a directory as text": (exif_bytes(6, [(34665, 2, 4, b"abc\0")]), 6),
            "a directory far away": (exif_bytes(6, [(34665, 4, 1, struct.pack("<I", 10**6))]), 6),
            "a directory in itself": (exif_bytes(6, [(34665, 4, 1, struct.pack("<I", 8))]), 6),
            "negative sizes": (exif_bytes(6, neg), 6),
            "as text": (ascii_six, 1),
            "XMP": (xmp, 6),
        }
    )
    return {name: (with_app1(payload), turn) for name, (payload, turn) in found.items()}


def metadata_files():
    """Name → a file whose metadata is in the way, with the pixels of BASE (nearly, where JPEG)."""
    noise = np.random.default_rng(1).integers(0, 256, 12_000_000).astype(np.uint8).tobytes()
    png = encode(BASE, "PNG", dpi=(72, 72))
    place = png.index(b"pHYs")
    jfif = JPEG[:4] + struct.pack(">H", 9) + b"JFIF\0\1\1" + JPEG[4 + JPEG[5] :]
    avif = encode(BASE, "AVIF", quality=100, exif=exif_bytes(1))
    return {
        "motion_12MB.jpg": JPEG + b"MotionPhoto_Data" + noise,
        "mpo.jpg": encode(BASE, "MPO", save_all=True, append_images=[BASE.rotate(180)], quality=90),
        "short_jfif.jpg": jfif,
        "icc_huge.jpg": encode(BASE, "JPEG", quality=90, icc_profile=b"\0" * 2_000_000),
        "comments.jpg": JPEG[:2]
        + (b"\xff\xfe\xff\xff" + b"\xff\xda" * 32766 + b"x") * 40
        + JPEG[2:],
        "text.png": with_text(5_000_000),
        "text_zip.png": with_text(5_000_000, zip=True),
        "icc_huge.png": encode(BASE, "PNG", icc_profile=b"\0" * 80_000_000),
        "trailing.png": encode(BASE, "PNG") + b"\0" * 1000,
        "bad_crc.png": png[: place + 13] + b"\0\0\0\0" + png[place + 17 :],
        "apng.png": encode(BASE, "PNG", save_all=True, append_images=[BASE.rotate(90)]),
        "exif_garbage.avif": avif.replace(b"II*\0\x08", b"????\x08"),
        "exif_garbage.webp": encode(BASE, "WEBP", lossless=True, exif=b"Exif\0\0no TIFF"),
    }


def many_scans(side=600, scans=3000):
    """(a progressive JPEG of many scans, the same as an MPO's first picture, an ordinary JPEG)."""
    picture = Image.fromarray(np.full((side, side, 3), 77, np.uint8))
    plain = encode(picture, "JPEG", progressive=True, quality=30)
    many = plain[:-2] + plain[plain.rindex(b"\xff\xda") : -2] * scans + plain[-2:]
    second = encode(Image.new("RGB", (8, 8)), "JPEG")

    def mpf(first_length, second_place):
        entries = [(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, struct.pack("<I", 2))]
        entries.append((0xB002, 7, 32, struct.pack("<I", 50)))
        body = b"II*\0\x08\0\0\0" + struct.pack("<H", 3)
        body += b"".join(struct.pack("<HHI", t, y, n) + v for t, y, n, v in entries) + b"\0" * 4
        body += struct.pack("<IIIHH", 0x00030000, first_length, 0, 0, 0)
        body += struct.pack("<IIIHH", 0, len(second), second_place, 0, 0)
        return b"\xff\xe2" + struct.pack(">H", len(body) + 6) + b"MPF\0" + body

    length = len(many) + len(mpf(0, 0))
    return many, many[:2] + mpf(length, length - 10) + many[2:] + second, plain


# ---------------------------------------------------------------------------------------- Folders


def put(path, picture=None):
    """A small picture of noise, in the format that the suffix names."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    noise = np.random.default_rng(len(os.listdir(os.path.dirname(path)))).integers(
        0, 255, (8, 8, 3)
    )
    picture = picture or Image.fromarray(noise.astype(np.uint8)).resize((40, 32))
    picture.save(path)


def text(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def latin1_names(out):
    """Folders good, with_bad, folder_café: twelve images with Latin-1 names, one is no image."""
    root = os.fsencode(out)
    rng = np.random.default_rng(0)
    for folder, name in (
        (b"good", b"caf\xe9%d"),
        (b"with_bad", b"caf\xe9%d"),
        (b"folder_caf\xe9", b"%d"),
    ):
        os.makedirs(root + b"/" + folder)
        for i in range(12):
            picture = Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8))
            with open(root + b"/" + folder + b"/" + name % i + b".jpg", "wb") as file:
                picture.save(file, "JPEG")
    with open(root + b"/with_bad/no\xe9.jpg", "wb") as file:
        file.write(b"no image")


def relabelled(out, right):
    """Folders dark and light of 24 images each; unless `right`, half lie in the wrong one."""
    shutil.rmtree(out, ignore_errors=True)
    rng = np.random.default_rng(0)
    for i in range(24):
        for name, mean in (("dark", 60), ("light", 190)):
            other = {"dark": "light", "light": "dark"}[name]
            where = name if right or i % 4 < 2 else other
            pixels = np.clip(rng.normal(mean, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
            put(f"{out}/{where}/{i:02d}.png", Image.fromarray(pixels))


def replace_contents(folder):
    """Noise in place of every image, under the same names."""
    rng = np.random.default_rng(99)
    for where, _, names in os.walk(folder):
        for name in names:
            noise = rng.integers(0, 255, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(noise).save(os.path.join(where, name))
