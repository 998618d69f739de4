"""One decoder for the whole product: Pillow, for photographs that nobody has vouched for.

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
MAX_BYTES = 512 * 2**20  # of a file: 50 million pixels of 8 bytes, and more
MAX_SCANS = 100  # of a progressive JPEG, which costs a pass over the image each; cameras use ten
LARGE = 4_000_000  # pixels; above it images are decoded one after the other, not one a thread

# Tags of TIFF.
BITS, REDUCED, TILE_WIDTH, TILE_LENGTH, MAX_SAMPLE, DNG_VERSION = 258, 254, 322, 323, 281, 50706

NO_HEIF = "HEIC, which needs pillow-heif; run pip install 'mgta_tf[heic]'"
DARK = (
    "16-bit images without a value above 4095 are read as dark; if their range is 12 bits, convert "
    "them, or have them say so (TIFF's MaxSampleValue, PNG's sBIT)"
)

_one_large_image = threading.Lock()


class BadImage(Exception):  # noqa: N818 (it reads as a reason, not as a fault of ours)
    """An image that cannot be used; the message is the reason, in a few words."""


class NotRead(BadImage):
    """An image that may be whole, of a kind that is not read here."""


def decode(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    draft_size: int = 0,
    remarks: list[str] | None = None,
) -> np.ndarray:
    """Encoded bytes → RGB as a viewer shows it, uint8 [H, W, 3]; EXIF orientation is applied.

    The format is known by the content: JPEG, PNG, BMP, GIF, WebP, TIFF, AVIF, JPEG 2000, PPM, and
    HEIC where pillow-heif is installed; of several pictures the first. Greyscale, palettes and CMYK
    become RGB, 16-bit values their upper 8 bits, or those of the range that the file names;
    transparent pixels lie on white.

    Args:
      data: The file.
      max_pixels: Images of more pixels are refused by their header, before anything is decoded.
      draft_size: If not 0, a JPEG may be decoded at a fraction of its size that still leaves both
        sides at twice this or more.
      remarks: Receives what should be said of an image that is used nevertheless.

    Raises:
      NotRead: of a kind that is not read.
      BadImage: empty, not an image, truncated, too large, too laborious.
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
      BadImage: it cannot be used, as its header shows.
    """
    with _named(MAX_PIXELS):
        image = _opened(data, MAX_PIXELS)
        orientation = _orientation(image)
        swapped = image.format == "TIFF" and orientation >= 5  # Pillow names the size as displayed
        return image.size[::-1] if swapped else image.size, orientation


@contextlib.contextmanager
def _named(max_pixels: int) -> Iterator[None]:
    """Whatever a decoder raises, as `BadImage` with the reason."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set; half images would pass")
    try:
        yield
    except BadImage:
        raise
    except Image.UnidentifiedImageError:
        raise BadImage("damaged (its header)") from None
    except Image.DecompressionBombError:
        pillows = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # where ours is higher, Pillow's decides
        raise BadImage(f"over the limit of {min(max_pixels, pillows)} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError) as error:
        raise BadImage(f"truncated or damaged ({' '.join(str(error).split())})") from None
    except Exception as error:  # a decoder's own exceptions (struct.error, zlib.error, …)
        raise BadImage(f"damaged ({type(error).__name__})") from None


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as they are stored [H, W, 3] → as a viewer shows them for an EXIF orientation."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows, flip_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    """The image by its header, of a size that is allowed."""
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
    """Keeps Pillow's libtiff from writing to stderr; the reason of `BadImage` says what is wrong.

    A Pillow whose libtiff cannot be reached goes on writing there.
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
    """The bits that a TIFF says its values have, 0 for all of its depth; whether that is 16.

    Raises:
      NotRead: its first page is the preview of a camera's raw file.
      BadImage: a tile of it is larger than an image may be.
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
    """1 … 8, of an image that is not loaded: of a TIFF it is gone then.

    libheif applies a HEIC's itself, and nothing sees the pixels before.
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
        grey = Image.fromarray(_eight_bits(values, image, remarks))
        if isinstance(clear, int):
            grey.paste(255, mask=Image.fromarray(values == clear))
        return grey.convert("RGB")
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
    """Grey values of more than 8 bits, [H, W] → uint8 [H, W].

    Of a range that the file names its upper 8 bits; else of 16 bits. Of floats 0 … 1 is the range,
    or where values are larger that of 8 or of 16 bits.

    Raises:
      BadImage: values above 16 bits of which nothing says where they end.
    """
    values = np.nan_to_num(values) if image.mode == "F" else values
    largest, bits = values.max(initial=0), image.info.get("bits", 0)
    if image.mode.startswith("I;16") or image.format == "PPM":
        # PNG wants values of fewer bits shifted up; those that are have their lowest bits empty.
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
      policy: 'crop': the short side becomes `size`, then the centre is cut out; 'squash': both
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
    if isinstance(source, bytes):
        source = decode(source, max_pixels=max_pixels, draft_size=size, remarks=remarks)
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
        raise BadImage(f"pixels are {source.dtype} {list(source.shape)}, not uint8 [H, W, 3]")
    return resize(source, size, policy)


def shorter_side(source: bytes | np.ndarray, max_pixels: int) -> int:
    """The shorter side of an image of a source in pixels, by its header where it is encoded.

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
    """Writes uint8 [H, W, 3] as PNG, whole or not at all."""
    with files.replacing(path) as file:
        Image.fromarray(image).save(file, "PNG")
