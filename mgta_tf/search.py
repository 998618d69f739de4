"""Image similarity search: the photographs of a folder that are nearest to a query.

  python -m mgta_tf.search --saved_model=DIR --data_dir=PHOTOS --query=photo.jpg
  python -m mgta_tf.search --saved_model=DIR --data_dir=PHOTOS --query=a.jpg,b.jpg \\
      --embeddings=photos.npz --output=hits.html
  python -m mgta_tf.search --saved_model=DIR --data_dir=PHOTOS --duplicates --output=copies.html

The distance is 1 − cosine of the embeddings minus their mean over the folder: 0 for the same image,
about 1 for two unrelated ones, 2 at most.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mgta_tf import cli
from mgta_tf.config import flag, group
from mgta_tf.data import images
from mgta_tf.data.sources import DataConfig, Source, open_source
from mgta_tf.embed import inputs, similarity, stream, table
from mgta_tf.embed.config import EncodeConfig
from mgta_tf.embed.embedder import Embedder, open_embedder
from mgta_tf.errors import UserError, printable, quantity
from mgta_tf.reporting import hits
from mgta_tf.runtime import files
from mgta_tf.runtime.progress import counting

SHOWN_GROUPS = 20  # on the terminal; the page has PAGE_GROUPS
PAGE_GROUPS, PAGE_MEMBERS = 100, 24
THUMBNAIL = 176  # pixels per side
# Thumbnails for near-duplicates: pixels per side, and largest mean difference.
ALIKE_SIZE, ALIKE = 16, 0.05


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The search."""

    query: str = flag("", "Photographs to search for, separated by commas.")
    top: int = flag(12, "Number of nearest photographs per query.", minimum=1)
    duplicates: bool = flag(False, "Groups of near-duplicates within the folder.")
    duplicate_distance: float = flag(
        0.25,
        "Largest distance of two near-duplicates, whose thumbnails of 16×16 pixels also differ by "
        "no more than 5 % of full brightness, on average.",
        minimum=0.0,
        maximum=2.0,
    )
    embeddings: str = flag(
        "",
        "Table of the folder's embeddings (.npz), as mgta_tf.embed writes it, used in place of "
        "encoding again; written if it does not exist.",
    )
    output: str = flag("", "HTML page to write, with thumbnails inside.")
    encode: EncodeConfig = group(EncodeConfig)
    data: DataConfig = group(DataConfig)


@dataclasses.dataclass(frozen=True)
class Folder:
    """The photographs to search. numbers: int [N], numbers in the source of the rows of `units`."""

    source: Source
    numbers: np.ndarray
    directions: similarity.Directions

    def name(self, row: int) -> str:
        return self.source.names[self.numbers[row]]

    def pixels(self, row: int, size: int, max_pixels: int) -> np.ndarray | None:
        """A thumbnail of the image's center, uint8 [size, size, 3]; None if it no longer exists."""
        try:
            content = self.source.read(int(self.numbers[row]))
            return images.load_square(content, size, "crop", max_pixels)
        except (OSError, images.BadImage):
            return None


def main(config: SearchConfig) -> None:
    if not config.query and not config.duplicates:
        raise UserError("--query=PHOTO or --duplicates is required")
    if config.embeddings and not config.embeddings.endswith(".npz"):
        raise UserError(f"--embeddings={config.embeddings}: must end in .npz")
    config.encode.require()
    paths = query_paths(config.query)
    source = open_source(config.data)
    embedder = open_embedder(config.encode.saved_model, config.encode.endpoint)
    _, queries = inputs.encode(embedder, paths, config.encode.batch_size)
    folder = open_folder(config, source, embedder)
    found = [(path, nearest(folder, path, vector, config)) for path, vector in zip(paths, queries)]
    groups = []
    if config.duplicates:
        groups = duplicates(folder, config)
    print_found(folder, found)
    if config.duplicates:
        print_groups(folder, groups, config.duplicate_distance)
    if config.output:
        write_page(config, folder, found, groups)


def query_paths(text: str) -> list[str]:
    """Parses --query: one path, which may contain commas, or a comma-separated list.

    Raises:
      UserError: a path is not a file.
    """
    paths = [text] if os.path.isfile(inputs.path_of(text)) else [p for p in text.split(",") if p]
    for path in paths:
        if not os.path.isfile(inputs.path_of(path)):
            raise UserError(f"--query={path}: no such file")
    return paths


def open_folder(config: SearchConfig, source: Source, embedder: Embedder) -> Folder:
    """Encodes the photographs, or reads their embeddings from --embeddings.

    Raises:
      UserError: the table was made from other photographs or another encoder.
    """
    data, batch_size = config.data, config.encode.batch_size
    print(f"{source.format}: {quantity(len(source.names), 'image')}", flush=True)
    if not config.embeddings:
        names, vectors, line = stream.collect(source, embedder, data, batch_size)
        print(line, flush=True)
    else:
        if not os.path.exists(config.embeddings):
            stream.write_table(source, embedder, data, batch_size, config.embeddings)
        names, vectors, origin = table.read(config.embeddings)
        if origin != stream.origin_of(source, embedder, data):
            raise UserError(
                f"--embeddings={config.embeddings}: made from another encoder, or the photographs "
                "have changed; delete it, or name another file"
            )
    number_of = {name: number for number, name in enumerate(source.names)}
    numbers = np.array([number_of[name] for name in names])
    return Folder(source, numbers, similarity.directions(vectors))


def nearest(
    folder: Folder, path: str, vector: np.ndarray, config: SearchConfig
) -> list[tuple[float, int]]:
    """(distance, row) of the nearest photographs, without the query itself."""
    query = folder.directions.of(vector[None])
    distances, rows = similarity.nearest(folder.directions.units, query, config.top + 1)
    hits_ = [
        (float(distance), int(row))
        for distance, row in zip(distances[0], rows[0])
        if not _same_file(os.path.join(config.data.data_dir, folder.name(row)), path)
    ]
    return hits_[: config.top]


def _same_file(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(inputs.path_of(other))


def duplicates(folder: Folder, config: SearchConfig) -> list[np.ndarray]:
    """Groups of near-duplicates, which have close embeddings and similar thumbnails.

    Embeddings alone do not distinguish a copy from another photograph of the same object, and their
    scale depends on the encoder; comparing all pairs of thumbnails would be too slow.
    """
    units = folder.directions.units
    with counting(len(units)) as progress:
        pairs = similarity.close_pairs(units, config.duplicate_distance, progress.over)
    rows = np.unique(pairs)

    def thumbnail(row: int) -> np.ndarray:
        pixels = folder.pixels(int(row), ALIKE_SIZE, config.data.max_image_pixels)
        return np.full((ALIKE_SIZE, ALIKE_SIZE, 3), np.nan) if pixels is None else pixels

    found = []
    with counting(len(rows), "thumbnails") as progress, ThreadPoolExecutor() as pool:
        for pixels in pool.map(thumbnail, rows):
            found.append(pixels)
            progress.advance(1)
    small = np.reshape(found, (len(rows), ALIKE_SIZE**2 * 3)).astype(np.float32)
    one, other = (small[np.searchsorted(rows, side)] for side in pairs.T)
    alike = np.abs(one - other).mean(1) <= ALIKE * 255
    return similarity.groups_of(pairs[alike], len(folder.numbers))


def print_found(folder: Folder, found: list[tuple[str, list[tuple[float, int]]]]) -> None:
    for path, hits_ in found:
        print(f"nearest to {printable(path)}:")
        for distance, row in hits_:
            print(f"  {distance:.3f}  {printable(folder.name(row))}")


def print_groups(folder: Folder, groups: list[np.ndarray], distance: float) -> None:
    copies = sum(len(group) - 1 for group in groups)
    print(f"groups of near-duplicates (distance ≤ {distance:g}): {len(groups)}; copies: {copies}")
    for rows in groups[:SHOWN_GROUPS]:
        print("  " + ", ".join(printable(folder.name(row)) for row in rows))
    if len(groups) > SHOWN_GROUPS:
        print(f"  and {quantity(len(groups) - SHOWN_GROUPS, 'more group')}")


def write_page(config: SearchConfig, folder: Folder, found, groups: list[np.ndarray]) -> None:
    """Writes the page of `--output`; thumbnails show the center, as the encoder sees it."""
    limit = config.data.max_image_pixels

    def hit(row: int, distance: float | None = None) -> hits.Hit:
        pixels = folder.pixels(row, THUMBNAIL, limit)
        return hits.Hit(folder.name(row), pixels, distance)

    queries = []
    for path, hits_ in found:
        content = files.read(inputs.path_of(path), images.MAX_BYTES)
        shown = hits.Hit(
            os.path.basename(path), images.load_square(content, THUMBNAIL, "crop", limit), None
        )
        queries.append((shown, [hit(row, distance) for distance, row in hits_]))
    shown_groups = [
        hits.Group(len(rows), [hit(int(row)) for row in rows[:PAGE_MEMBERS]])
        for rows in groups[:PAGE_GROUPS]
    ]
    page = hits.render(
        about=f"{config.encode.saved_model} · {len(folder.numbers):,} photographs",
        queries=queries,
        groups=shown_groups if config.duplicates else None,
        more_groups=len(groups) - len(shown_groups),
        distance=config.duplicate_distance,
    )
    files.write_text(config.output, page)
    print(f"{config.output}: {os.path.getsize(config.output) / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main, SearchConfig)
