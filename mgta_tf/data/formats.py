"""Detects image formats and removes metadata before decoding; nothing is decoded here.

The decoder gets only the data that pixels depend on. Comments, color profiles, previews and data
appended by phones are removed first, so none of them, however damaged or large, can make a
photograph unreadable.
"""

from __future__ import annotations

import re
import struct
import zlib

# Formats that `images.decode` reads, by Pillow's names; HEIF also needs pillow-heif.
READ = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF", "JPEG2000", "PPM", "HEIF")
WORDS = "JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF, JPEG 2000, PPM or HEIC"
HEAD = 512  # first bytes of a file, which determine its format
MAX_TEXT = 2**20  # maximum bytes of a text chunk that is searched for an orientation

# Suffixes of image formats, supported or not; the content of other files is inspected.
_SUFFIXES = """
    .jpg .jpeg .jpe .jfif .jif .pjpeg .mpo .png .apng .bmp .dib .gif .webp .tif .tiff .avif .jp2
    .j2k .jpx .jpf .j2c .ppm .pgm .pbm .pnm .pfm .heic .heif .hif .jxl .psd .svg .tga .ico
    .cr2 .cr3 .nef .nrw .arw .dng .orf .rw2 .raf .pef .srw .raw .exr .hdr .dcm
"""
SUFFIXES = frozenset(_SUFFIXES.split())

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_OTHERS = (  # pattern, what it is, whether it is an image
    (rb"\s*version https://git-lfs", "a Git LFS pointer; run git lfs pull", False),
    (rb"(?:\.\./)*/?(?:\.git/)?annex/objects/", "a git-annex pointer; run git annex get", False),
    (rb"(?i)\s*(?:<!doctype html|<html)", "an HTML page", False),
    (rb"%PDF", "a PDF", False),
    (rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<svg", "an SVG drawing", True),
    (rb"8BPS", "a Photoshop file", True),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL image", True),
    (rb"II\*\0....CR|....ftypcrx |IIRO|IIU\0|FUJIFILMCCD", "a camera's raw file", True),
)


def of(head: bytes) -> str:
    """The format given by the first bytes of a file: one of READ, or '' for anything else."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return "" if name == "TIFF" and head[8:10] == b"CR" else name  # a raw file of Canon
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        end = max(12, min(int.from_bytes(head[:4], "big"), HEAD))
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, end, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        heif = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
        return "HEIF" if brands & heif else ""
    return "PPM" if re.match(rb"P(?:[1-6]|f)[\s#]", head) else ""


def named(head: bytes) -> tuple[str, bool]:
    """(description, whether an image) of a file without a format of READ; empty if unknown."""
    for pattern, words, is_image in _OTHERS:
        if re.match(pattern, head, re.DOTALL):
            return words, is_image
    return "", False


# ------------------------------------------------------------------------------------------- JPEG

_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # the marker that ends a scan
_MARKER = re.compile(rb"\xff+[^\x00\xff]")  # libjpeg skips bytes before the next marker
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length


def plain_jpeg(data: bytes) -> tuple[bytes, int, bytes, bytes]:
    """A JPEG without metadata.

    Follows the markers as libjpeg does, to the end of the image. Data after it (a video or a second
    picture) are ignored.

    Returns:
      (the file without its APP and COM segments except JFIF's and Adobe's, which set the color
      space; its number of scans; its EXIF; its XMP).
    """
    kept, exif, xmp, scans, place = [data[:2]], b"", b"", 0, 2
    while match := _MARKER.search(data, place):
        place, marker = match.end(), data[match.end() - 1]
        if marker == 0xD9:
            return b"".join([*kept, b"\xff\xd9"]), scans, exif, xmp
        if marker in _ALONE:
            continue
        begin, length = place - 2, int.from_bytes(data[place : place + 2], "big")
        segment, place = data[place + 2 : place + length], place + max(length, 2)
        if marker == 0xDA:
            scans += 1
            end = _IN_SCAN.search(data, place)
            place = end.start() if end else len(data)
        elif marker == 0xE1 and segment.startswith(b"Exif\0\0"):
            exif += segment if not exif else segment[6:]
        elif marker == 0xE1 and segment.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = xmp or segment.split(b"\0", 1)[1]
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _decides_colors(marker, segment):
            kept.append(data[begin:place])
    return b"".join(kept), scans, exif, xmp  # truncated; the decoder reports it


def jpeg_head(data: bytes) -> bytes:
    """A JPEG up to its first scan, the part that has its size and its orientation."""
    place = 2
    while match := _MARKER.search(data, place):
        place, marker = match.end(), data[match.end() - 1]
        if marker in _ALONE:
            continue
        place += max(int.from_bytes(data[place : place + 2], "big"), 2)
        if marker == 0xDA:
            return data[:place]
    return data


def _decides_colors(marker: int, segment: bytes) -> bool:
    jfif = marker == 0xE0 and segment.startswith(b"JFIF\0") and len(segment) >= 14
    return jfif or (marker == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12)


# -------------------------------------------------------------------------------------------- PNG


def plain_png(data: bytes) -> tuple[bytes, int, bytes, bytes]:
    """A PNG with only the chunks that its pixels depend on.

    An animation is reduced to its default image. Damaged chunks that are not critical are skipped,
    as in libpng.

    Returns:
      (the file; the number of bits given by sBIT, or 0; its EXIF; its XMP).
    """
    kept, bits, exif, xmp, place = [data[:8]], 0, b"", b"", 8
    while place + 12 <= len(data):
        length, name = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        chunk = data[place : place + 12 + length]
        place += len(chunk)
        if not name[:1].islower():
            kept.append(chunk)
            if name == b"IEND":
                break
        elif zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            continue
        elif name == b"tRNS":
            kept.append(chunk)
        elif name == b"sBIT":
            bits = max(chunk[8:-4], default=0)
        elif name == b"eXIf":
            exif = chunk[8:-4]
        elif name in (b"tEXt", b"zTXt", b"iTXt") and length < MAX_TEXT:
            key, _, text = chunk[8:-4].partition(b"\0")
            if key == b"Raw profile type exif":  # hexadecimal, as written by ImageMagick
                exif = exif or _raw_profile(text[1:] if name == b"zTXt" else text)
            xmp = text if key == b"XML:com.adobe.xmp" else xmp
    return b"".join(kept), bits, exif, xmp


def _raw_profile(text: bytes) -> bytes:
    """The bytes of a hexadecimal profile, possibly compressed; as many as can be read."""
    try:
        if not text.startswith(b"\n"):
            text = zlib.decompressobj().decompress(text, MAX_TEXT)
        return bytes.fromhex(text.split(b"\n", 3)[-1].decode("ascii"))
    except (zlib.error, ValueError):
        return b""


# ------------------------------------------------------------------------------------- Orientation

ORIENTATION = 0x0112  # the tag of EXIF
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")


def orientation(exif: bytes, xmp: bytes) -> int:
    """The orientation of a photograph, 1 … 8: tag 0x0112 of EXIF, else of XMP, else 1.

    No other tag of EXIF is read, so a damaged one does no harm.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order:
            (place,) = struct.unpack_from(f"{order}I", exif, 4)
            (count,) = struct.unpack_from(f"{order}H", exif, place)
            for entry in range(place + 2, place + 2 + 12 * count, 12):
                tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
                if tag == ORIENTATION and kind in (1, 3, 4):
                    (turn,) = struct.unpack_from(order + " B HI"[kind], exif, entry + 8)
                    return turn if 1 <= turn <= 8 else 1
    except struct.error:  # truncated before the tag
        pass
    match = _XMP_ORIENTATION.search(xmp)
    return int(match.group(1)) if match else 1


# ------------------------------------------------------------------------------------------ Others


def webp_size(data: bytes) -> tuple[int, int]:
    """(width, height) in the header of a WebP, (0, 0) without one.

    Pillow allocates the image on opening, before its size can be checked.
    """
    kind, body = data[12:16], data[20:30]
    if kind == b"VP8X" and len(body) == 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and len(body) >= 5:
        packed = int.from_bytes(body[1:5], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(body) == 10:
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def plain_avif(data: bytes) -> bytes:
    """An AVIF with its EXIF hidden; a property of the image already holds the orientation."""
    begin = int.from_bytes(data[:4], "big")
    if data[begin + 4 : begin + 8] != b"meta":
        return data
    end = begin + int.from_bytes(data[begin : begin + 4], "big")
    return data[:begin] + data[begin:end].replace(b"Exif", b"free") + data[end:]


_COMMENT = re.compile(rb"#[^\r\n]*")


def plain_ppm(data: bytes) -> bytes:
    """A PPM without comments, which Pillow reads slowly, byte by byte.

    In the text format they may occur anywhere; in the binary format, in a header of at most 4 kB.
    """
    if data[1:2] in b"123":
        return _COMMENT.sub(b"", data)
    header, tokens = data[:4096], 3 if data[1:2] == b"4" else 4
    match = re.match(rb"(?:\s*(?:#[^\r\n]*[\r\n]+\s*)*[^\s#]+){%d}" % tokens, header)
    if not match:
        return b""
    return _COMMENT.sub(b"", header[: match.end()]) + data[match.end() :]
