"""The check of all images before a run: each is decoded once, and the result is remembered."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Union

import numpy as np

from mgta_tf.data.images import BadImage, NotRead
from mgta_tf.data.layouts import Source
from mgta_tf.data.remembered import DIGEST, CheckFile, Remembered, Verdict, digest_of, stamp_of
from mgta_tf.runtime.progress import counting, duration

STAMPED_AT_ONCE, CHECKED_AT_ONCE = 4096, 16  # images of a task of the pool
TASKS = 128  # in the queue of the pool
SAVE_SECONDS = 60.0  # between two saves of an unfinished check
LONG_SECONDS = 60.0  # of a check after which the run prints how others skip it
# Called with the number of an image, its content, and a list to which it appends remarks; raises
# `BadImage`.
Decode = Callable[[int, Union[bytes, np.ndarray], list[str]], None]
NO_CLASS = Verdict("unsupported", "no class")


@dataclasses.dataclass(frozen=True, eq=False)
class Checked:
    """What is known about the images of a source.

    digests: uint8 [N, DIGEST], of their contents. codes: int32 [N], indices of verdicts.
    earlier: number of images that an earlier run has checked.
    seconds: of the check of the others, if their result is remembered; else 0.
    """

    digests: np.ndarray
    codes: np.ndarray
    verdicts: tuple[Verdict, ...]
    earlier: int
    seconds: float

    def errors(self) -> dict[int, BadImage]:
        """The errors of unusable images by number, in order."""
        unusable = [code for code, verdict in enumerate(self.verdicts) if verdict.kind]
        numbers = np.flatnonzero(np.isin(self.codes, unusable))
        return {int(n): self.verdicts[self.codes[n]].error() for n in numbers}

    def notes(self, path: str) -> list[str]:
        """The lines to print: remarks on usable images, and how many `path` remembered.

        After a long check also how other runs skip it.
        """
        counts = np.bincount(self.codes, minlength=len(self.verdicts))
        pairs = zip(self.verdicts, counts)
        lines = [f"{n} {v.text}" for v, n in pairs if v.text and not v.kind and n]
        if self.earlier:
            lines.append(f"{self.earlier:,} checked by an earlier run ({path})")
        if self.seconds >= LONG_SECONDS:
            share = shlex.quote(f"--check_file={path}")
            lines.append(f"checked in {duration(self.seconds)}; other runs skip it with {share}")
        return lines


def check_images(
    source: Source,
    decode: Decode,
    pool: ThreadPoolExecutor,
    file: CheckFile,
    labelled: bool,
) -> Checked:
    """Decodes every image that `file` does not remember, and adds it to the file.

    The file is also saved every minute and when the check is interrupted. What opening the source
    has found is saved beside it first.

    Args:
      source: The images.
      decode: Decodes an image; called by several threads.
      pool: Threads.
      file: What earlier runs have found.
      labelled: Whether images without a class are unusable.
    """
    source.keep(file.path)
    total, known = len(source.names), file.load()
    stamps = _stamps(source, pool) if file.path else np.zeros(total, np.uint64)
    classless = np.zeros(total, bool)
    if labelled and source.labels is not None:
        classless = source.labels < 0
        stamps[classless] = 0
    rows = known.rows_of(stamps)
    digests, codes = np.zeros((total, DIGEST), np.uint8), np.zeros(total, np.int32)
    found = rows >= 0
    digests[found], codes[found] = known.digests[rows[found]], known.codes[rows[found]]
    table = {verdict: code for code, verdict in enumerate(known.verdicts)}
    codes[classless] = table.setdefault(NO_CLASS, len(table))
    pending = np.flatnonzero(~found & ~classless).astype(np.int32)
    earlier = int(found.sum())
    del rows, found, classless
    seconds = 0.0
    if len(pending):
        work = _Work(source, decode, file, known, stamps, digests, codes, table)
        began = time.monotonic()
        seconds = time.monotonic() - began if work.check(pending, pool) else 0.0
    return Checked(digests, codes, tuple(table), earlier, seconds)


@dataclasses.dataclass(eq=False)
class _Work:
    """A check under way; the arrays are those of `Checked`, and stamps uint64 [N]."""

    source: Source
    decode: Decode
    file: CheckFile
    known: Remembered
    stamps: np.ndarray
    digests: np.ndarray
    codes: np.ndarray
    table: dict[Verdict, int]

    def check(self, pending: np.ndarray, pool: ThreadPoolExecutor) -> bool:
        """Checks the images with these numbers, int [n]. Returns whether the file has them."""
        done, saved = 0, time.monotonic()

        def verdicts_from(first: int) -> list[Verdict]:
            return [self._verdict(int(n)) for n in pending[first : first + CHECKED_AT_ONCE]]

        try:
            with counting(len(pending)) as progress:
                tasks = range(0, len(pending), CHECKED_AT_ONCE)
                for verdicts in in_order(pool, verdicts_from, tasks):
                    for number, verdict in zip(pending[done : done + len(verdicts)], verdicts):
                        self.codes[number] = self.table.setdefault(verdict, len(self.table))
                    done += len(verdicts)
                    progress.advance(len(verdicts))
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self._save(pending[:done])
                        saved = time.monotonic()
        finally:
            kept = self._save(pending[:done])
        return kept

    def _verdict(self, number: int) -> Verdict:
        try:
            content = self.source.read(number)
        except (BadImage, OSError) as error:
            self.stamps[number] = 0  # it is not a matter of content, and not remembered
            return _verdict_of(error)
        self.digests[number] = np.frombuffer(digest_of(content), np.uint8)
        remarks: list[str] = []
        try:
            self.decode(number, content, remarks)
        except (BadImage, OSError) as error:
            return _verdict_of(error)
        return Verdict("", "; ".join(remarks))

    def _save(self, numbers: np.ndarray) -> bool:
        numbers = numbers[self.stamps[numbers] > 0]
        if not len(numbers):
            return False
        stamps, first = np.unique(self.stamps[numbers], return_index=True)
        numbers = numbers[first]
        new = Remembered(stamps, self.digests[numbers], self.codes[numbers], tuple(self.table))
        return self.file.save(self.known.updated(new))


def _verdict_of(error: BadImage | OSError) -> Verdict:
    return Verdict("unsupported" if isinstance(error, NotRead) else "damaged", reason_of(error))


def reason_of(error: BadImage | OSError) -> str:
    """The reason why an image cannot be used, without details, for counting."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


def stamp_in(source: Source, number: int) -> int:
    """The stamp of an image of a source; 0 if it has none, or its file cannot be found."""
    try:
        return stamp_of(source.stamp(number))
    except OSError:
        return 0


def _stamps(source: Source, pool: ThreadPoolExecutor) -> np.ndarray:
    """The stamps of all images, uint64 [N]. Threads wait together where a disk is far away."""
    stamps = np.zeros(len(source.names), np.uint64)

    def stamp(first: int) -> None:
        for number in range(first, min(first + STAMPED_AT_ONCE, len(stamps))):
            stamps[number] = stamp_in(source, number)

    for _ in in_order(pool, stamp, range(0, len(stamps), STAMPED_AT_ONCE)):
        pass
    return stamps


def in_order(pool: ThreadPoolExecutor, function: Callable, tasks: range) -> Iterator[Any]:
    """`pool.map` in blocks, because it would queue all tasks at once."""
    for start in range(0, len(tasks), TASKS):
        yield from pool.map(function, tasks[start : start + TASKS])
