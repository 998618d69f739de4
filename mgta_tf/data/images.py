"""One decoder for the whole product: Pillow, for photographs that nobody has vouched for.

Pillow releases the GIL while it decodes and resizes, so threads are enough, and its draft mode lets
libjpeg decode a large photograph at a half, a quarter or an eighth of its size.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps

from mgta_tf.runtime import files

FORMATS = ("JPEG", "PNG", "BMP", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
RESIZE_POLICIES = ("crop", "squash", "pad")
MAX_PIXELS = 50_000_000
MAX_BYTES = 512 * 2**20  # of a file: 50 million pixels of 8 bytes, and more
MAX_SCANS = 100  # of a progressive JPEG, which costs a pass over the image each; cameras use ten
LARGE = 4_000_000  # pixels; above it images are decoded one after the other, not one a thread

_one_large_image = threading.Lock()


class BadImage(Exception):  # noqa: N818 (it reads as a reason, not as a fault of ours)
    """An image that cannot be used; the message is the reason, in a few words."""


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, draft_size: int = 0) -> np.ndarray:
    """Encoded bytes → RGB as a viewer shows it, uint8 [H, W, 3]; EXIF orientation is applied.

    JPEG, PNG, BMP and GIF (its first frame). Greyscale, palettes and CMYK become RGB, 16-bit
    values their upper 8 bits, transparent pixels lie on white.

    Args:
      data: The file.
      max_pixels: Images of more pixels are refused by their header, before anything is decoded.
      draft_size: If not 0, a JPEG may be decoded at a fraction of its size that still leaves both
        sides at twice this or more.

    Raises:
      BadImage: empty, not an image, truncated, too large, too laborious.
    """
    return turned(*decode_stored(data, max_pixels=max_pixels, draft_size=draft_size))


def decode_stored(
    data: bytes, *, max_pixels: int = MAX_PIXELS, draft_size: int = 0
) -> tuple[np.ndarray, int]:
    """`decode` without turning: the pixels as they are stored, and the EXIF orientation, 1 to 8."""
    if not data:
        raise BadImage("empty file")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set; half images would pass")
    try:
        with warnings.catch_warnings():
            # Pillow's own limit warns; ours decides, from the same header.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise BadImage(f"{image.width}×{image.height} is over the limit of {max_pixels} pixels")
        if image.format == "JPEG" and data.count(b"\xff\xda") > MAX_SCANS:
            raise BadImage(f"a JPEG of over {MAX_SCANS} scans")
        if draft_size and image.format == "JPEG" and image.mode in ("RGB", "L"):
            image.draft(None, (2 * draft_size, 2 * draft_size))
        large = image.width * image.height > LARGE
        with _one_large_image if large else contextlib.nullcontext():
            image.load()
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            pixels = np.asarray(_to_rgb(image))
            return pixels, orientation if orientation in range(1, 9) else 1
    except BadImage:
        raise
    except Image.UnidentifiedImageError:
        raise BadImage("not a JPEG, PNG, BMP or GIF image") from None
    except Image.DecompressionBombError:
        raise BadImage(f"over the limit of {max_pixels} pixels") from None
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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image)
        if image.mode.startswith("I;16") or values.max(initial=0) > 255:
            values = values / np.float32(256)  # 16 bits: keep the upper 8
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


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


def load_square(source: bytes | np.ndarray, size: int, policy: str, max_pixels: int) -> np.ndarray:
    """An image of a source, encoded or as pixels → uint8 [size, size, 3].

    Raises:
      BadImage: it cannot be used.
    """
    if isinstance(source, bytes):
        source = decode(source, max_pixels=max_pixels, draft_size=size)
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
        raise BadImage(f"pixels are {source.dtype} {list(source.shape)}, not uint8 [H, W, 3]")
    return resize(source, size, policy)


def save(path: str, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as PNG, whole or not at all."""
    with files.replacing(path) as file:
        Image.fromarray(image).save(file, "PNG")
