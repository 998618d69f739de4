"""The images of a run: checked once, square, uint8; in memory when they fit the budget."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mgta_tf.data import images
from mgta_tf.data.images import BadImage
from mgta_tf.data.sources import DataConfig, Source, open_source
from mgta_tf.errors import UserError, printable

ALIGNMENT = 64  # bytes, of the memory that TensorFlow takes as its own
CHECKED_AT_ONCE = 1024  # images in flight while all are checked


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStore:
    """Images by index, 0 … len - 1.

    size: pixels per side. format: what the source is, in words.
    names: [N], for messages. labels: int32 [N] or None. class_names: of the labels.
    skipped: (name, reason) of every image that was left out.
    pixels: uint8 [N, size, size, 3] when they are held in memory, else None.
    """

    size: int
    format: str
    names: tuple[str, ...]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    pixels: np.ndarray | None
    _source: Source
    _index: np.ndarray  # [N] numbers of the kept images in the source
    _policy: str
    _max_pixels: int
    _pool: ThreadPoolExecutor

    def __len__(self) -> int:
        return len(self._index)

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Images by index, [n] → uint8 [n, size, size, 3]; decoded by threads if not in memory.

        Raises:
          UserError: an image that was good when the run began cannot be read any more.
        """
        if self.pixels is not None:
            return self.pixels[indices]
        return np.stack(list(self._pool.map(self._load, indices)))

    def fingerprint(self) -> str:
        """SHA-256 of the names in their order: a run goes on with the images it began with."""
        return hashlib.sha256("\n".join(self.names).encode(errors="replace")).hexdigest()

    def _load(self, index: int) -> np.ndarray:
        try:
            source = self._source.read(int(self._index[index]))
            return images.load_square(source, self.size, self._policy, self._max_pixels)
        except (BadImage, OSError) as error:
            raise UserError(
                f"{self.names[index]}: was readable when the run began and is not now ({error}); "
                "restore it and give the same command again"
            ) from None


def open_images(data: DataConfig, size: int, skipped_file: str = "") -> ImageStore:
    """Finds the images, checks each of them once, says what was found.

    Args:
      data: Where they are; `--load_size`, where given, is the size to store.
      size: Pixels per side to store otherwise.
      skipped_file: Written with a line "name<TAB>reason" for every image that cannot be used.

    Raises:
      UserError: there are none, or too many are bad.
    """
    store = load_store(
        open_source(data),
        size=data.load_size or size,
        policy=data.resize_policy,
        cache_budget_mb=data.cache_budget_mb,
        max_bad_fraction=data.max_bad_fraction,
        max_pixels=data.max_image_pixels,
        skipped_file=skipped_file,
    )
    where = "in memory" if store.pixels is not None else "read as they are needed"
    print(
        f"{store.format}: {len(store)} images of {store.size} px, {where}; "
        f"{len(store.skipped)} skipped",
        flush=True,
    )
    return store


def load_store(
    source: Source,
    *,
    size: int,
    policy: str = "crop",
    cache_budget_mb: int = 4096,
    max_bad_fraction: float = 0.01,
    max_pixels: int = images.MAX_PIXELS,
    skipped_file: str = "",
) -> ImageStore:
    """Decodes every image once: to check it, and to keep it where all fit the budget.

    Args:
      source: Where the images come from.
      size: Pixels per side to store.
      policy: How an image becomes square: `images.resize`.
      cache_budget_mb: Decoded images are kept in memory up to this many MiB in all.
      max_bad_fraction: Largest share of images that may be unusable.
      max_pixels: Larger images are refused.
      skipped_file: Written with a line "name<TAB>reason" for every image left out.

    Raises:
      UserError: no image is left, or more are bad than allowed.
    """
    total = len(source.names)
    fits = total * size * size * 3 <= cache_budget_mb * 2**20
    pixels = aligned((total, size, size, 3)) if fits else None
    pool = ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1)))

    def check(number: int) -> str | None:
        try:
            image = images.load_square(source.read(number), size, policy, max_pixels)
        except (BadImage, OSError) as error:
            return str(error)
        if pixels is not None:
            pixels[number] = image
        return None

    reasons = dict(enumerate(_map_in_blocks(pool, check, total)))
    bad = {number: reason for number, reason in reasons.items() if reason is not None}
    skipped = tuple((source.names[number], reason) for number, reason in bad.items())
    if skipped_file:
        with open(skipped_file, "w", encoding="utf-8") as file:
            file.writelines(f"{printable(name)}\t{printable(why)}\n" for name, why in skipped)
    if len(bad) > max_bad_fraction * total or len(bad) == total:
        name, reason = skipped[0]
        raise UserError(
            f"{len(bad)} of {total} images cannot be used, more than --max_bad_fraction="
            f"{max_bad_fraction} allows; the first is {name}: {reason}"
            + (f"; all are listed in {skipped_file}" if skipped_file else "")
        )
    good = np.array([number for number in range(total) if number not in bad], np.int64)
    return ImageStore(
        size=size,
        format=source.format,
        names=tuple(source.names[number] for number in good),
        labels=None if source.labels is None else source.labels[good],
        class_names=source.class_names,
        skipped=skipped,
        pixels=_without(pixels, bad, good),
        _source=source,
        _index=good,
        _policy=policy,
        _max_pixels=max_pixels,
        _pool=pool,
    )


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 that begins where TensorFlow wants memory to begin, so that it need not copy it."""
    length = int(np.prod(shape))
    memory = np.empty(length + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return memory[first : first + length].reshape(shape)


def _map_in_blocks(pool: ThreadPoolExecutor, function, total: int) -> Iterator[str | None]:
    """`pool.map`, which would queue a future for every image of a large set at once."""
    for start in range(0, total, CHECKED_AT_ONCE):
        yield from pool.map(function, range(start, min(start + CHECKED_AT_ONCE, total)))


def _without(pixels: np.ndarray | None, bad: dict[int, str], good: np.ndarray):
    """The good images moved together in place: a copy would double the memory."""
    if pixels is None or not bad:
        return pixels
    for place, number in enumerate(good):
        pixels[place] = pixels[number]
    return pixels[: len(good)]
