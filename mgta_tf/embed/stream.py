"""Encodes all images of a source in blocks, saving each block so that the command can resume.

Memory holds the names and two blocks of decoded images: one is read while the other is encoded.
Vectors are written to a file. Each image is read once; unusable images are skipped with a reason,
as in training.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from mgta_tf.data import images
from mgta_tf.data.checks import reason_of
from mgta_tf.data.images import BadImage, NotRead
from mgta_tf.data.remembered import DIGEST, digest_of
from mgta_tf.data.sources import DataConfig, Source
from mgta_tf.data.store import counts, report_unusable
from mgta_tf.embed import table
from mgta_tf.embed.embedder import Embedder
from mgta_tf.errors import UserError, quantity
from mgta_tf.evaluation.features import in_batches
from mgta_tf.runtime import files
from mgta_tf.runtime.progress import counting

BLOCK = 512  # images per block


@dataclasses.dataclass(frozen=True)
class Block:
    """Images `first` … `last` - 1 of a source.

    vectors: float32 [n, D] of the usable images, in order. bad: errors of the others, by number.
    digest: of the contents of all images, usable or not.
    """

    first: int
    last: int
    vectors: np.ndarray
    bad: dict[int, BadImage | OSError]
    digest: bytes


def blocks(
    source: Source, embedder: Embedder, data: DataConfig, batch_size: int, first: int = 0
) -> Iterator[Block]:
    """The images from number `first` on, which is a multiple of BLOCK, encoded.

    No batch spans two blocks, so a resumed command makes the same batches as an uninterrupted one,
    and bitwise equal vectors.
    """

    def read(number: int) -> tuple[bytes, np.ndarray | BadImage | OSError]:
        content = b""
        try:
            encoded = source.read(number)
            content = digest_of(encoded)
            square = images.load_square(
                encoded, embedder.size, data.resize_policy, data.max_image_pixels
            )
            return content, square
        except (BadImage, OSError) as error:
            return content, error

    total = len(source.names)
    with ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1))) as pool:
        ahead = _submit(pool, read, first, total)
        for start in range(first, total, BLOCK):
            waiting, ahead = ahead, _submit(pool, read, start + BLOCK, total)
            found = [future.result() for future in waiting]
            good = [image for _, image in found if isinstance(image, np.ndarray)]
            vectors = [
                embedder.encode(np.stack(good[part[0] : part[-1] + 1]))
                for part in in_batches(len(good), batch_size)
            ]
            yield Block(
                start,
                start + len(found),
                np.concatenate([np.zeros((0, embedder.dimensions), np.float32), *vectors]),
                {start + i: e for i, (_, e) in enumerate(found) if not isinstance(e, np.ndarray)},
                _digest_of_block(content for content, _ in found),
            )


def _submit(pool: ThreadPoolExecutor, function, start: int, total: int) -> list[Future]:
    return [pool.submit(function, number) for number in range(start, min(start + BLOCK, total))]


def _digest_of_block(contents: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"".join(content or bytes(DIGEST) for content in contents)).digest()


def content_digest(source: Source, last: int) -> str:
    """`State.digest` after images 0 … `last` - 1, computed from their contents without decoding."""

    def content(number: int) -> bytes:
        try:
            return digest_of(source.read(number))
        except (BadImage, OSError):
            return b""

    digest = ""
    with ThreadPoolExecutor(max_workers=min(32, 2 * (os.cpu_count() or 1))) as pool:
        for start in range(0, last, BLOCK):
            numbers = range(start, min(start + BLOCK, last))
            digest = chained(digest, _digest_of_block(pool.map(content, numbers)))
    return digest


def chained(before: str, block: bytes) -> str:
    """The digest of all blocks so far and the next one."""
    return hashlib.sha256(before.encode() + block).hexdigest()


@dataclasses.dataclass
class State:
    """Progress of a table. images: number of finished images. rows: number of those with a vector.

    digest: of the contents of the finished images. bad: [number, reason, whether only unsupported]
    of those without a vector.
    """

    key: str
    images: int = 0
    rows: int = 0
    digest: str = ""
    bad: list[tuple[int, str, bool]] = dataclasses.field(default_factory=list)

    def errors(self) -> dict[int, BadImage | OSError]:
        """The errors of images without a vector, by number."""
        return {n: (NotRead if no_damage else BadImage)(why) for n, why, no_damage in self.bad}


class Partial:
    """An unfinished table: vectors in FOLDER/vectors.f32, progress in FOLDER/state.json.

    After an interruption the vectors may be one block ahead of the progress.
    """

    def __init__(self, folder: str, dimensions: int):
        self._folder, self._dimensions = folder, dimensions
        self._path, self._state = (os.path.join(folder, n) for n in ("vectors.f32", "state.json"))

    def open(self, key: str, source: Source) -> State:
        """The state to resume from: a saved one with this key, if its images have not changed.

        Raises:
          UserError: another process writes here.
        """
        os.makedirs(self._folder, exist_ok=True)
        self._file = open(self._path, "a+b")  # noqa: SIM115 (until `remove`)
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{self._folder}: another process is writing it; wait, or choose another --output"
            ) from None
        state = self._saved(key)
        if state.digest != content_digest(source, state.images):
            state = State(key)
        self._file.truncate(self._bytes(state))
        return state

    def _bytes(self, state: State) -> int:
        return state.rows * self._dimensions * 4

    def _saved(self, key: str) -> State:
        try:
            with open(self._state, encoding="utf-8") as file:
                state = State(**json.load(file))
            whole = os.path.getsize(self._path) >= self._bytes(state)
            return state if state.key == key and whole else State(key)
        except (OSError, ValueError, TypeError):  # none yet, or damaged
            return State(key)

    def add(self, state: State, block: Block) -> None:
        """Appends a block and saves the new state."""
        self._file.write(np.ascontiguousarray(block.vectors).data)
        self._file.flush()
        os.fsync(self._file.fileno())
        state.images, state.rows = block.last, state.rows + len(block.vectors)
        state.digest = chained(state.digest, block.digest)
        state.bad += [(n, reason_of(e), isinstance(e, NotRead)) for n, e in block.bad.items()]
        files.write_json(self._state, dataclasses.asdict(state))

    def vectors(self, state: State) -> np.ndarray:
        """All vectors, float32 [rows, dimensions], as a map of the file."""
        return np.memmap(self._path, np.float32, "r", shape=(state.rows, self._dimensions))

    def remove(self) -> None:
        """Deletes the folder, and with it the lock."""
        self._file.close()
        shutil.rmtree(self._folder)


def key_of(source: Source, embedder: Embedder, data: DataConfig) -> str:
    """SHA-256 of everything that a table depends on, except the contents of the images."""
    key = hashlib.sha256(
        f"{embedder.identity} {embedder.size} {data.resize_policy} {data.max_image_pixels}".encode()
    )
    for name in source.names:
        key.update(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())
    return key.hexdigest()


def write_table(
    source: Source, embedder: Embedder, data: DataConfig, batch_size: int, path: str
) -> int:
    """Encodes all of a source into a table; partial results are kept in PATH.unfinished.

    The images that were skipped are listed in PATH.skipped.txt, as a run lists them.

    Returns:
      The number of rows.

    Raises:
      UserError: another process writes it, or more images cannot be read than
        `--max_bad_fraction` allows.
    """
    partial = Partial(f"{path}.unfinished", embedder.dimensions)
    key, total = key_of(source, embedder, data), len(source.names)
    state = partial.open(key, source)
    if state.images:
        print(f"resuming after {state.images:,} of {total:,} images", file=sys.stderr, flush=True)
    for block in shown(
        blocks(source, embedder, data, batch_size, state.images), total, state.images
    ):
        partial.add(state, block)
    bad = state.errors()
    skipped, unread = report_unusable(source, bad, f"{path}.skipped.txt", data.max_bad_fraction)
    if not skipped and not unread:
        os.remove(f"{path}.skipped.txt")
    print(f"{state.rows:,} images encoded{counts(skipped, unread)}", flush=True)
    origin = {"key": key, "digest": state.digest}
    table.write(path, _kept(source, bad), partial.vectors(state), origin)
    partial.remove()
    return state.rows


def origin_of(source: Source, embedder: Embedder, data: DataConfig) -> dict[str, str]:
    """The `origin` of a table of this source; reads the images, without decoding them."""
    digest = content_digest(source, len(source.names))
    return {"key": key_of(source, embedder, data), "digest": digest}


def collect(
    source: Source, embedder: Embedder, data: DataConfig, batch_size: int, progress: bool = True
) -> tuple[list[str], np.ndarray, str]:
    """Names and vectors in memory: [N], float32 [N, D]; and a line that counts the images.

    Raises:
      UserError: more images cannot be read than `--max_bad_fraction` allows.
    """
    found = blocks(source, embedder, data, batch_size)
    vectors, bad = [], {}
    for block in shown(found, len(source.names)) if progress else found:
        vectors.append(block.vectors)
        bad.update(block.bad)
    skipped, unread = report_unusable(source, bad, "", data.max_bad_fraction)
    names = _kept(source, bad)
    line = f"{quantity(len(names), 'image')} encoded{counts(skipped, unread)}"
    return names, np.concatenate(vectors), line


def shown(found: Iterable[Block], total: int, first: int = 0) -> Iterator[Block]:
    """The blocks, with a progress line of the images that are done."""
    with counting(total, done=first, builds=1.0) as progress:
        for block in found:
            yield block
            progress.advance_to(block.last)


def _kept(source: Source, bad: Container[int]) -> list[str]:
    """The names of the images that have a vector, in their order."""
    return [name for number, name in enumerate(source.names) if number not in bad]
