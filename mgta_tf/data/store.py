"""The images of a run: checked once, resized to squares, in memory if they fit the budget."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mgta_tf.data import images, tree
from mgta_tf.data.checks import Decode, check_images, reason_of, stamp_in
from mgta_tf.data.images import BadImage, NotRead
from mgta_tf.data.names import ENCODING, Names
from mgta_tf.data.remembered import CheckFile, digest_of
from mgta_tf.data.sources import DataConfig, Source, open_source
from mgta_tf.errors import UserError, printable, quantity
from mgta_tf.runtime import files

ALIGNMENT = 64  # bytes; TensorFlow uses memory with this alignment without a copy
HASHED_AT_ONCE = 4096  # names


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStore:
    """Images by index, 0 … len - 1.

    size: pixels per side. format: description of the source.
    names: [N], for messages. labels: int32 [N] or None. class_names: of the labels.
    skipped: (name, reason) of every damaged image. unread: of every other file.
    notes: lines to print about the images.
    pixels: uint8 [N, size, size, 3] if they are kept in memory, else None. An image that an earlier
      run has checked is in it only after `fill`.
    """

    size: int
    format: str
    names: Names
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]
    unread: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    pixels: np.ndarray | None
    _source: Source
    _digests: np.ndarray  # uint8 [N, 16], digests of the images in the source
    _index: np.ndarray  # int32 [N], numbers of the kept images in the source
    _filled: np.ndarray  # bool [N], whether `pixels` holds the image
    _file: CheckFile
    _policy: str
    _max_pixels: int
    _pool: ThreadPoolExecutor

    def __len__(self) -> int:
        return len(self._index)

    def batch(self, indices: np.ndarray) -> np.ndarray:
        """Images by index, [n] → uint8 [n, size, size, 3]; decoded by threads if not in memory.

        Raises:
          UserError: an image that was usable when it was checked can no longer be read.
        """
        if self.pixels is None:
            return np.stack(list(self._pool.map(self._load, indices)))
        self.fill(indices)
        return self.pixels[indices]

    def fill(self, indices: np.ndarray) -> None:
        """Decodes the images, [n], that are to be kept in memory and are not yet.

        Raises:
          UserError: as `batch`.
        """
        if self.pixels is None:
            return
        lacking = np.unique(indices[~self._filled[indices]])
        for index, image in zip(lacking, self._pool.map(self._load, lacking)):
            self.pixels[index] = image
        self._filled[lacking] = True

    def fingerprint(self, labels: bool = False) -> str:
        """SHA-256 of the names, in order, and the contents of the images, wherever they lie.

        A resumed run compares it with that of the images it began with.

        Args:
          labels: Whether to include their classes.
        """
        digest = hashlib.sha256(str(len(self)).encode())
        for first in range(0, len(self), HASHED_AT_ONCE):
            contents = map(bytes, self._digests[first : first + HASHED_AT_ONCE])
            names = self.names[first : first + HASHED_AT_ONCE]
            pairs = (n.encode(*ENCODING) + b"\0" + c for n, c in zip(names, contents))
            digest.update(b"".join(pairs))
        if labels and self.labels is not None:
            digest.update(self.labels.tobytes() + repr(self.class_names).encode("ascii", "replace"))
        return digest.hexdigest()

    def fingerprint_of_names(self) -> str:
        """SHA-256 of the names only, the fingerprint of earlier versions."""
        digest = hashlib.sha256()
        for number, name in enumerate(self.names):
            digest.update(("\n" * bool(number) + name).encode(errors="replace"))
        return digest.hexdigest()

    def _load(self, index: int) -> np.ndarray:
        try:
            source = self._source.read(int(self._index[index]))
            if digest_of(source) != self._digests[index].tobytes():
                raise BadImage("its content has changed")
            return images.load_square(source, self.size, self._policy, self._max_pixels)
        except (BadImage, OSError) as error:
            self._file.forget(stamp_in(self._source, int(self._index[index])))
            raise UserError(
                f"{self.names[index]}: was readable when it was checked and is not now "
                f"({reason_of(error)}); "
                "restore it and rerun the same command"
            ) from None


def open_images(
    data: DataConfig,
    size: int,
    skipped_file: str = "",
    *,
    labelled: bool = False,
    check: Callable[[int, np.ndarray | None], None] | None = None,
    source: Source | None = None,
    remembered: str = "",
) -> ImageStore:
    """Finds the images, checks those that no run has checked before, and prints a summary.

    Args:
      data: Flags of the images; `--load_size`, if given, replaces `size`.
      size: Pixels per side to store.
      skipped_file: Written with a line "name<TAB>reason" for every file that is not used.
      labelled: Whether images without a class are skipped.
      check: Called with the number of images and their labels; raises `UserError` if they do not
        fit the flags. It is called before decoding, and again if some images cannot be used.
      source: The images, if they have been found already.
      remembered: File of the check, unless `--check_file` names another; '' remembers nothing.

    Raises:
      UserError: there are no images, too many are damaged, or more than half are not supported.
    """
    source = source or open_source(data, remembered=remembered)
    if check:
        check(len(source.names), source.labels)
    store = load_store(
        source,
        size=data.load_size or size,
        policy=data.resize_policy,
        cache_budget_mb=data.cache_budget_mb,
        max_bad_fraction=data.max_bad_fraction,
        max_pixels=data.max_image_pixels,
        skipped_file=skipped_file,
        labelled=labelled,
        check_file=data.check_file or remembered,
    )
    if check and len(store) < len(source.names):
        check(len(store), store.labels)
    print("\n".join(describe(store)), flush=True)
    return store


def describe(store: ImageStore) -> list[str]:
    """The lines to print: one that counts every file, and notes about the images."""
    where = "in memory" if store.pixels is not None else "read on demand"
    line = f"{store.format}: {quantity(len(store), 'image')} of {store.size} px, {where}"
    line += counts(store.skipped, store.unread)
    return [printable(text) for text in (line, *(f"  {note}" for note in store.notes))]


def counts(skipped: Sequence[tuple[str, str]], unread: Sequence[tuple[str, str]]) -> str:
    """The number of unused files by reason, as the end of the line that counts the images."""
    line = ""
    for what, found in (("skipped", skipped), ("not read", unread)):
        reasons = f" ({tree.by_reason(reason for _, reason in found)})" if found else ""
        line += f"; {len(found)} {what}{reasons}" if found or what == "skipped" else ""
    return line


def load_store(
    source: Source,
    *,
    size: int,
    policy: str = "crop",
    cache_budget_mb: int = 4096,
    max_bad_fraction: float = 0.01,
    max_pixels: int = images.MAX_PIXELS,
    skipped_file: str = "",
    labelled: bool = False,
    check_file: str = "",
) -> ImageStore:
    """Decodes every image once, to check it and, if all fit the budget, to keep it in memory.

    Images that `check_file` remembers are decoded only when they are needed.

    Args:
      source: Source of the images.
      size: Pixels per side to store.
      policy: How an image becomes square: `images.resize`.
      cache_budget_mb: Memory budget in MiB for the decoded images of the run.
      max_bad_fraction: Largest fraction of images that may be damaged.
      max_pixels: Larger images count as damaged.
      skipped_file: Written with a line "name<TAB>reason" for every file that is not used.
      labelled: Whether images without a class are skipped.
      check_file: File that remembers the check; '' remembers nothing.

    Raises:
      UserError: no image is usable, too many are damaged, or more than half are not supported.
    """
    total = len(source.names)
    fits = total * size * size * 3 <= cache_budget_mb * 2**20
    pixels = aligned((total, size, size, 3)) if fits else None
    filled = np.zeros(total if fits else 0, bool)
    pool = ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1)))
    file = CheckFile(check_file, max_pixels)
    decode = _decoder(pixels, filled, size, policy, max_pixels)
    checked = check_images(source, decode, pool, file, labelled)
    bad = checked.errors()
    skipped, unread = report_unusable(source, bad, skipped_file, max_bad_fraction)
    good = np.delete(np.arange(total, dtype=np.int32), list(bad))
    return ImageStore(
        size=size,
        format=source.format,
        names=Names(source.names[n] for n in good.tolist()) if bad else Names.of(source.names),
        labels=None if source.labels is None else source.labels[good],
        class_names=source.class_names,
        skipped=skipped,
        unread=unread,
        notes=(*source.notes, *checked.notes(file.path)),
        pixels=_without(pixels, filled, bad, good),
        _source=source,
        _digests=checked.digests[good] if bad else checked.digests,
        _index=good,
        _filled=filled[good] if fits else filled,
        _file=file,
        _policy=policy,
        _max_pixels=max_pixels,
        _pool=pool,
    )


def _decoder(
    pixels: np.ndarray | None, filled: np.ndarray, size: int, policy: str, max_pixels: int
) -> Decode:
    """Decodes an image to check it, and keeps it in `pixels` if there are any."""

    def decode(number: int, content: bytes | np.ndarray, remarks: list[str]) -> None:
        image = images.pixels_of(content, size, max_pixels, remarks)
        if pixels is not None:
            pixels[number] = images.resize(image, size, policy)
            filled[number] = True

    return decode


def report_unusable(
    source: Source,
    bad: Mapping[int, BadImage | OSError],
    skipped_file: str,
    max_bad_fraction: float,
):
    """(skipped, unread) of an `ImageStore`, which are also written to `skipped_file`.

    bad: errors of the unusable images by number; `NotRead` for those that are not damaged.

    Raises:
      UserError: there are too many.
    """
    unknown = {n: error for n, error in bad.items() if isinstance(error, NotRead)}
    skipped = tuple((source.names[n], reason_of(e)) for n, e in bad.items() if n not in unknown)
    kinds = [(source.names[number], reason_of(error)) for number, error in unknown.items()]
    unread = (*kinds, *((one.name, one.reason) for one in source.unread))
    if skipped_file:
        lines = (f"{printable(n)}\t{printable(why)}\n" for n, why in (*skipped, *unread))
        files.write_text(skipped_file, "".join(lines))
    listed = f"; all are listed in {skipped_file}" if skipped_file else ""
    total = len(source.names)
    lost = [reason for _, reason in kinds] + [one.reason for one in source.unread if one.lost]
    if len(lost) > (total - len(kinds) + len(lost)) / 2:
        raise UserError(
            f"{len(lost)} of {total - len(kinds) + len(lost)} images are not read, more than half: "
            f"{tree.by_reason(lost)}. Fix that, or give --data_dir=@FILE, a list of the images to "
            f"use{listed}"
        )
    if len(skipped) > max_bad_fraction * total or len(bad) == total:
        name, reason = (skipped or kinds)[0]
        raise UserError(
            f"{len(skipped) or total} of {total} images cannot be used, more than "
            f"--max_bad_fraction={max_bad_fraction} allows; the first is {name}: {reason}{listed}"
        )
    return skipped, unread


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Uninitialized uint8 with the alignment that TensorFlow needs to use it without a copy."""
    length = int(np.prod(shape))
    memory = np.empty(length + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return memory[first : first + length].reshape(shape)


def _without(pixels: np.ndarray | None, filled: np.ndarray, bad: Iterable[int], good: np.ndarray):
    """Moves the good images together in place, because a copy would double the memory."""
    if pixels is None or not bad:
        return pixels
    for place, number in enumerate(good):
        if filled[number]:
            pixels[place] = pixels[number]
    return pixels[: len(good)]
