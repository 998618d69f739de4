"""Small image files, folders and file names as they occur in practice."""

import functools
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
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"  # the header alone


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
    """Name → (JPEG with some kind of metadata, the orientation that it states)."""
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
            "a text beyond the end": (exif_bytes(6, [(0x010F, 2, 5000, rest)]), 6),
            "a directory as text": (exif_bytes(6, [(34665, 2, 4, b"abc\0")]), 6),
            "a directory beyond the end": (
                exif_bytes(6, [(34665, 4, 1, struct.pack("<I", 10**6))]),
                6,
            ),
            "a directory in itself": (exif_bytes(6, [(34665, 4, 1, struct.pack("<I", 8))]), 6),
            "negative sizes": (exif_bytes(6, neg), 6),
            "as text": (ascii_six, 1),
            "XMP": (xmp, 6),
        }
    )
    return {name: (with_app1(payload), turn) for name, (payload, turn) in found.items()}


def metadata_files():
    """Name → a file with troublesome metadata and the pixels of BASE (approximately, if a JPEG)."""
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
    """Saves a picture, by default of noise, in the format that the suffix names."""
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
    """Folders good, with_bad and folder_café with twelve images each, under Latin-1 names.

    In with_bad, one more file is not an image.
    """
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
    """Folders dark and light with 24 images each; half are in the wrong one unless `right`."""
    shutil.rmtree(out, ignore_errors=True)
    rng = np.random.default_rng(0)
    for i in range(24):
        for name, mean in (("dark", 60), ("light", 190)):
            other = {"dark": "light", "light": "dark"}[name]
            where = name if right or i % 4 < 2 else other
            pixels = np.clip(rng.normal(mean, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
            put(f"{out}/{where}/{i:02d}.png", Image.fromarray(pixels))


def replace_contents(folder):
    """Replaces every image by noise under the same name."""
    rng = np.random.default_rng(99)
    for where, _, names in os.walk(folder):
        for name in names:
            noise = rng.integers(0, 255, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(noise).save(os.path.join(where, name))


MANY, SPLIT = range(12), ("train", "val")


def photos(out, folder, suffix=".jpg"):
    """Twelve images."""
    for i in MANY:
        put(f"{out}/{folder}/{i}{suffix}")


def tiny_imagenets(out, images):
    """Tiny ImageNet in the changed layouts in which copies of it circulate."""
    for wnid in ("n1", "n2"):
        for part in SPLIT:
            images(f"tiny_restructured/{part}/{wnid}/images", ".JPEG")
        images(f"tiny_noimages/train/{wnid}", ".JPEG")
        images(f"tiny_missing/train/{wnid}/images", ".JPEG")
        images(f"tiny_parent/tiny-imagenet-200/train/{wnid}/images", ".JPEG")
    for name in ("tiny_restructured", "tiny_noimages", "tiny_parent/tiny-imagenet-200"):
        text(f"{out}/{name}/wnids.txt", "n1\nn2\n")
    text(f"{out}/tiny_missing/wnids.txt", "n1\nn2\nn3\nn4\nn5\n")


def split_layouts(images):
    """Folders with train and val in all the usual places."""
    for part in SPLIT:
        for name in ("cats", "dogs"):
            images(f"imagefolder_splits/{part}/{name}")
            images(f"images_split/images/{part}/{name}")
            images(f"parent/set/{part.title()}/{name}")
            images(f"splits_in_classes/{name}/{part}")
            sets = {"train": "training_set", "val": "Validation Set"}[part]
            images(f"kaggle_sets/{sets}/{sets}/{name}")
        for name in ("bochum", "ulm"):
            images(f"cityscapes/leftImg8bit/{part}/{name}", ".png")
            images(f"cityscapes/gtFine/{part}/{name}", ".png")
        images(f"roboflow/{ {'val': 'valid'}.get(part, part) }/images")
        images(f"years_of_coco/{part}2017")
        images(f"flat_splits/{part}")


def layouts(out):
    """Writes a folder of each layout; its folders of images hold twelve each."""
    images = functools.partial(photos, out)
    tiny_imagenets(out, images)
    split_layouts(images)
    for name in ("cats", "dogs", "birds"):
        images(f"stray_picture/{name}")
    put(f"{out}/stray_picture/preview.png")
    for month in ("01", "02", "03"):
        images(f"date_tree/2024/{month}", ".JPG")
    for name in ("cats", "dogs"):
        images(f"deeper/{name}")
        images(f"deeper/{name}/more")
        images(f"parent_of_classes/archive/{name}")
        images(f"classes_and_csv/{name}")
        images(f"class_train/{name}")
        images(f"test_beside_classes/{name}")
        images(f"mac_classes/{name}")
        images(f"service_folders/{name}")
        for i in MANY:
            text(f"{out}/mac_classes/__MACOSX/{name}/._{i}.jpg", b"\0\5\x16\7")
    images("class_train/train")
    images("test_beside_classes/test")
    for i in MANY:
        put(f"{out}/mostly_webp/{i}.jpg")
        put(f"{out}/mostly_webp/w{i}.webp")
        text(f"{out}/mostly_webp/IMG_{i}.HEIC", b"\0\0\0\x18ftypheic")
        text(f"{out}/mac/._{i}.jpg", b"\0\5\x16\7")
        text(f"{out}/mac/__MACOSX/._{i}.jpg", b"\0\5\x16\7")
        text(f"{out}/yolo/labels/{i}.txt", "0 0.5 0.5 1 1")
        put(f"{out}/no_suffix/{i}.png")
        os.rename(f"{out}/no_suffix/{i}.png", f"{out}/no_suffix/{i}")
    images("mac")
    images("yolo/images")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        text(f"{out}/mac/{name}", "x")
    for name in (".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN", "lost+found", ".git"):
        images(f"service_folders/{name}")
    images("single_class/all")
    images("kaggle/images")
    images("kaggle_train/train")
    images("kaggle_train/test")
    text(f"{out}/kaggle/train.csv", "id,label\n1.jpg,cat\n")
    text(f"{out}/kaggle_train/train.csv", "image_id,label\n1.jpg,cat\n")
    text(f"{out}/classes_and_csv/train.csv", "id,species\n1,a\n")
    images("images_masks/images")
    images("images_masks/masks", ".png")
    images("voc/VOC2007/JPEGImages")
    images("voc/VOC2007/SegmentationClass", ".png")
