"""Decoding of untrusted images with Pillow, for all commands.

Pillow releases the GIL while it decodes and resizes, so threads are enough, and its draft mode lets
libjpeg decode a large photograph at a half, a quarter or an eighth of its size.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import io
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps

from mgta_tf.data import formats
from mgta_tf.runtime import files

RESIZE_POLICIES = ("crop", "squash", "pad")
MAX_PIXELS = 50_000_000
MAX_BYTES = 512 * 2**20  # maximum size of a file: more than 50 million pixels of 8 bytes
MAX_SCANS = 100  # scans of a progressive JPEG, each a pass over the image; cameras use ten
LARGE = 4_000_000  # pixels; larger images are decoded one at a time, not in parallel

# Tags of TIFF.
BITS, REDUCED, TILE_WIDTH, TILE_LENGTH, MAX_SAMPLE, DNG_VERSION = 258, 254, 322, 323, 281, 50706

NO_HEIF = "HEIC, which needs pillow-heif; run pip install 'mgta_tf[heic]'"
DARK = (
    "16-bit images without a value above 4095 are read as dark; if their range is 12 bits, convert "
    "them, or state the range in the file (TIFF's MaxSampleValue, PNG's sBIT)"
)

_one_large_image = threading.Lock()


class BadImage(Exception):  # noqa: N818 (it reads as a reason, not as a fault of ours)
    """An image that cannot be used; the message is the reason, in a few words."""


class NotRead(BadImage):
    """An image of an unsupported kind, which may be undamaged."""


def decode(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    draft_size: int = 0,
    remarks: list[str] | None = None,
) -> np.ndarray:
    """Encoded bytes → RGB as displayed by a viewer, uint8 [H, W, 3]; EXIF orientation is applied.

    The content determines the format: JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF, JPEG 2000, PPM, and
    HEIC if pillow-heif is installed; the first picture of several. Grayscale, palettes and CMYK are
    converted to RGB. 16-bit values are reduced to the upper 8 bits of their range, which the file
    may state. Transparent pixels are blended with white.

    Args:
      data: The file.
      max_pixels: Images with more pixels in their header are refused before decoding.
      draft_size: If not 0, a JPEG may be decoded at a fraction of its size that still leaves both
        sides at twice this or more.
      remarks: A list to which remarks about usable images are appended.

    Raises:
      NotRead: the kind of image is not supported.
      BadImage: the data are empty, not an image, truncated, too large, or too slow to decode.
    """
    found = decode_stored(data, max_pixels=max_pixels, draft_size=draft_size, remarks=remarks)
    return turned(*found)


def decode_stored(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    draft_size: int = 0,
    remarks: list[str] | None = None,
) -> tuple[np.ndarray, int]:
    """`decode` without turning: the pixels as they are stored, and the EXIF orientation, 1 to 8."""
    with _named(max_pixels):
        image = _opened(data, max_pixels)
        orientation = _orientation(image)
        if draft_size and image.format == "JPEG" and image.mode in ("RGB", "L"):
            image.draft(None, (2 * draft_size, 2 * draft_size))
        large = image.width * image.height > LARGE
        with _one_large_image if large else contextlib.nullcontext():
            image.load()
            pixels = np.asarray(_to_rgb(image, [] if remarks is None else remarks))
        if image.format == "TIFF":  # Pillow has turned it
            pixels = turned(pixels, {6: 8, 8: 6}.get(orientation, orientation))
        return pixels, orientation


def header(data: bytes) -> tuple[tuple[int, int], int]:
    """((width, height) as stored, EXIF orientation), as `decode_stored` finds them; not decoded.

    Raises:
      BadImage: the header shows that the image cannot be used.
    """
    if formats.of(data[: formats.HEAD]) == "JPEG":
        data = formats.jpeg_head(data)
    with _named(MAX_PIXELS):
        image = _opened(data, MAX_PIXELS)
        orientation = _orientation(image)
        swapped = image.format == "TIFF" and orientation >= 5  # Pillow has the displayed size
        return image.size[::-1] if swapped else image.size, orientation


@contextlib.contextmanager
def _named(max_pixels: int) -> Iterator[None]:
    """Converts any exception of a decoder to `BadImage` with the reason."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set; cut images would be used")
    try:
        yield
    except BadImage:
        raise
    except Image.UnidentifiedImageError:
        raise BadImage("damaged (its header)") from None
    except Image.DecompressionBombError:
        pillows = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow's own limit, if ours is higher
        raise BadImage(f"over the limit of {min(max_pixels, pillows)} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError) as error:
        raise BadImage(f"truncated or damaged ({' '.join(str(error).split())})") from None
    except Exception as error:  # a decoder's own exceptions (struct.error, zlib.error, …)
        raise BadImage(f"damaged ({type(error).__name__})") from None


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation: stored pixels [H, W, 3] → displayed pixels."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    """Opens an image, without decoding, and checks its size."""
    if not data:
        raise BadImage("empty file")
    kind, bits, deep, exif, xmp = formats.of(data[: formats.HEAD]), 0, False, b"", b""
    if kind == "JPEG":
        data, scans, exif, xmp = formats.plain_jpeg(data)
        if scans > MAX_SCANS:
            raise BadImage(f"a JPEG of over {MAX_SCANS} scans")
    elif kind == "PNG":
        data, bits, exif, xmp = formats.plain_png(data)
        deep = data[24:25] == b"\x10"
    elif kind == "PPM":
        data = formats.plain_ppm(data)
    elif kind == "AVIF":
        data = formats.plain_avif(data)
    elif kind == "WEBP":
        _check_size(*formats.webp_size(data), max_pixels)
    elif kind == "HEIF":
        load_heif()
    elif kind == "TIFF":
        _silence_libtiff()
    elif not kind:
        what, is_image = formats.named(data[: formats.HEAD])
        raise (NotRead if is_image else BadImage)(what or f"not a {formats.WORDS} image")
    image = Image.open(io.BytesIO(data), formats=(kind,))
    _check_size(image.width, image.height, max_pixels)
    if kind == "TIFF":
        bits, deep = _check_tiff(image, max_pixels)
    found = {"bits": bits, "deep": deep, "exif": exif, "xmp": xmp}
    image.info.update({name: value for name, value in found.items() if value})
    return image


@functools.cache
def _silence_libtiff() -> None:
    """Keeps Pillow's libtiff from writing to stderr, since `BadImage` has the reason.

    It has no effect if Pillow's libtiff cannot be accessed.
    """
    library = ctypes.CDLL(Image.core.__file__)
    with contextlib.suppress(AttributeError):
        for handler in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            handler.restype = ctypes.c_void_p
            handler(None)


def has_heif() -> bool:
    """Whether pillow-heif, which reads HEIC, is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def load_heif() -> None:
    """Makes Pillow read HEIC.

    Raises:
      NotRead: pillow-heif is not installed.
    """
    if not has_heif():
        raise NotRead(NO_HEIF)
    import pillow_heif

    pillow_heif.register_heif_opener()


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage(f"{width}×{height} is over the limit of {max_pixels} pixels")


def _check_tiff(image: Any, max_pixels: int) -> tuple[int, bool]:
    """(bits per value stated by a TIFF, 0 for its full depth; whether its depth is 16).

    Raises:
      NotRead: its first page is the preview of a camera's raw file.
      BadImage: a tile is larger than the limit for images.
    """
    tags = image.tag_v2
    if DNG_VERSION in tags or tags.get(REDUCED, 0) & 1:
        raise NotRead("a camera's raw file")
    _check_size(tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0), max(max_pixels, LARGE))
    depth, largest = max(tags.get(BITS, (1,))), tags.get(MAX_SAMPLE, 0)
    largest = max(largest) if isinstance(largest, tuple) else int(largest)
    named = largest.bit_length() if largest else depth
    return (named if named < depth or named in (12, 14) else 0), depth == 16


def _orientation(image: Image.Image) -> int:
    """The orientation, 1 … 8; to be called before loading, which removes that of a TIFF.

    libheif applies that of a HEIC itself, so the stored pixels are not available.
    """
    if image.format == "HEIF":
        return 1
    if image.format == "TIFF":
        turn = image.getexif().get(formats.ORIENTATION, 1)
        return turn if turn in range(1, 9) else 1
    xmp = image.info.get("xmp", b"")
    return formats.orientation(image.info.get("exif", b""), xmp if isinstance(xmp, bytes) else b"")


def _to_rgb(image: Image.Image, remarks: list[str]) -> Image.Image:
    clear: Any = image.info.get("transparency")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image)
        gray = Image.fromarray(_eight_bits(values, image, remarks))
        if isinstance(clear, int):
            gray.paste(255, mask=Image.fromarray(values == clear))
        return gray.convert("RGB")
    if image.mode == "RGB" and clear is None:
        if image.info.get("deep") and 0 < np.asarray(image).max(initial=0) < 16:
            remarks.append(DARK)
        return image
    if image.mode == "RGB" and max(clear) > 255:  # of 16 bits, and Pillow keeps the upper 8
        image.info["transparency"] = tuple(value >> 8 for value in clear)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or clear is not None:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, image: Image.Image, remarks: list[str]) -> np.ndarray:
    """Gray values of more than 8 bits, [H, W] → uint8 [H, W].

    The upper 8 bits of the range stated by the file, else of 16 bits. The range of floats is 0 … 1,
    or 8 or 16 bits if values are larger.

    Raises:
      BadImage: values exceed 16 bits, and the file does not state their range.
    """
    values = np.nan_to_num(values) if image.mode == "F" else values
    largest, bits = values.max(initial=0), image.info.get("bits", 0)
    if image.mode.startswith("I;16") or image.format == "PPM":
        # PNG requires values with fewer bits to be shifted up; then their lowest bits are 0.
        shifted = image.format == "PNG" and not (values & ((1 << max(16 - bits, 0)) - 1)).any()
        if not 8 <= bits < 16 or largest >= 2**bits or shifted:
            bits = 16
            if 0 < largest < 4096 and image.format != "PPM":
                remarks.append(DARK)
    elif image.mode == "F" and largest <= 1:
        return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
    elif not 8 <= bits <= 32 or image.mode == "F":
        if largest >= 2**16:
            raise BadImage(f"values up to {largest:g}, of a range that the file does not name")
        bits = 16 if largest > 255 else 8
    scaled = np.maximum(values, 0) / 2.0 ** (bits - 8)
    return np.minimum(scaled, 255).astype(np.uint8)


def resize(image: np.ndarray, size: int, policy: str) -> np.ndarray:
    """uint8 [H, W, 3] → uint8 [size, size, 3], antialiased bilinear.

    Args:
      image: RGB.
      size: Pixels per side of the result.
      policy: 'crop': the short side becomes `size`, then the center is cut out; 'squash': both
        sides become `size`, the aspect is lost; 'pad': the long side becomes `size`, black around.
    """
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    picture = Image.fromarray(image)
    if policy == "squash":
        return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    if policy == "pad":
        picture = ImageOps.pad(picture, (size, size), Image.Resampling.BILINEAR)
        return np.asarray(picture)
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))


def load_square(
    source: bytes | np.ndarray,
    size: int,
    policy: str,
    max_pixels: int,
    remarks: list[str] | None = None,
) -> np.ndarray:
    """An image of a source, encoded or as pixels → uint8 [size, size, 3].

    Raises:
      BadImage: it cannot be used.
    """
    return resize(pixels_of(source, size, max_pixels, remarks), size, policy)


def pixels_of(
    source: bytes | np.ndarray, size: int, max_pixels: int, remarks: list[str] | None = None
) -> np.ndarray:
    """An image of a source → uint8 [H, W, 3], sides of twice `size` or more where it has them.

    Raises:
      BadImage: it cannot be used.
    """
    if isinstance(source, bytes):
        source = decode(source, max_pixels=max_pixels, draft_size=size, remarks=remarks)
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
        raise BadImage(f"pixels are {source.dtype} {list(source.shape)}, not uint8 [H, W, 3]")
    return source


def shorter_side(source: bytes | np.ndarray, max_pixels: int) -> int:
    """The shorter side of an image of a source in pixels, from its header if it is encoded.

    Raises:
      BadImage: it cannot be used.
    """
    if isinstance(source, np.ndarray):
        return min(source.shape[:2])
    try:
        return min(_opened(source, max_pixels).size)
    except BadImage:
        raise
    except Exception as error:  # Pillow's, and its plugins' own
        raise BadImage(f"damaged ({type(error).__name__})") from None


def save(path: str, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as PNG, atomically."""
    with files.replacing(path) as file:
        Image.fromarray(image).save(file, "PNG")
