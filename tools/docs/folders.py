"""The first hour on folders of photographs: training to a report, a search page and a table.

  python -m tools.docs.folders --sources=VOC2007/JPEGImages,tiny-imagenet-100 --workdir=runs/folders

For each of --counts, photographs of the sources are written in mixed formats, sizes and shapes.
mgta_tf.train then gets the two paths and no other flag; from its run, a report, an export, a search
page and a table are made. The times are printed, and how accurate the ETA was (tools/bench/eta.py).
Existing folders are reused. An interrupted run resumes; its time is then not that of a whole run.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.data import images
from mgta_tf.data.sources import DataConfig, Source, open_source
from mgta_tf.errors import UserError
from mgta_tf.runtime import files
from mgta_tf.runtime.progress import counting, duration
from tools.bench import eta

SEED = 0xF01D
SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".gif")
KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF"}  # the others are named as their suffix
SCALE = (0.6, 1.6)  # factor by which a photograph is resized
SHAPES = (1.0, 4 / 3, 3 / 2, 2 / 3, 3 / 4)  # width divided by height of the part that is kept
FOLDERS = ("", "holidays", "holidays/2024", "phone", "scans")


@dataclasses.dataclass(frozen=True)
class FoldersConfig:
    """The folders to make and to train on."""

    sources: str = flag(
        "", "Folders of photographs, separated by commas; each is used up before the next."
    )
    workdir: str = flag("", "Folder for the photographs and the runs.")
    counts: tuple[int, ...] = flag((150, 1000, 10_000), "Photographs of each folder.")
    minutes: float = flag(0.0, "Time budget of each training; 0 means its default.", minimum=0.0)


def main(config: FoldersConfig) -> None:
    if not config.sources or not config.workdir:
        raise UserError("--sources and --workdir are required: photographs, and where runs go")
    sources = [open_source(DataConfig(data_dir=path)) for path in config.sources.split(",")]
    for count in config.counts:
        folder = os.path.join(config.workdir, str(count))
        photos = os.path.join(folder, "photos")
        if not os.path.exists(photos):
            write_folder(sources, count, photos)
        found = first_hour(photos, folder, config.minutes)
        files.write_json(os.path.join(folder, "times.json"), found)
        print(described(count, found), flush=True)


# --------------------------------------------------------------------------------- The photographs


def write_folder(sources: Sequence[Source], count: int, folder: str) -> None:
    """Writes `count` photographs of the sources; the random choices depend on their number alone.

    Raises:
      UserError: the sources have fewer.
    """
    chosen = list(choose([len(source.names) for source in sources], count))
    with counting(count, "photographs") as progress:
        for number, (source, row) in enumerate(chosen):
            rng = np.random.default_rng([SEED, count, number])
            suffix, place = str(rng.choice(SUFFIXES)), str(rng.choice(FOLDERS))
            content = sources[source].read(row)
            pixels = content if isinstance(content, np.ndarray) else images.decode(content)
            picture = changed(Image.fromarray(pixels), rng)
            path = os.path.join(folder, place, f"IMG_{number:05d}{suffix}")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            kind = KINDS.get(suffix.lower(), suffix[1:].upper())
            picture.save(path, kind, **({"quality": 90} if kind in ("JPEG", "WEBP") else {}))
            progress.advance(1)


def choose(sizes: Sequence[int], count: int) -> Iterator[tuple[int, int]]:
    """(source, row) of `count` photographs: all of a source before any of the next one.

    sizes: number of photographs of each source. Of the last one used, a random part is taken.
    """
    if sum(sizes) < count:
        raise UserError(f"--sources: {sum(sizes)} photographs are fewer than {count}; add a folder")
    for source, size in enumerate(sizes):
        rows = np.random.default_rng([SEED, source]).permutation(size)[:count]
        yield from ((source, int(row)) for row in rows)
        count -= len(rows)


def changed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random crop of an image, with a random shape and size."""
    wanted, scale = float(rng.choice(SHAPES)), float(np.exp(rng.uniform(*np.log(SCALE))))
    width = min(image.width, image.height * wanted)
    height = width / wanted
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    box = (left, top, left + width, top + height)
    return image.resize(size, Image.Resampling.BICUBIC, box=box)


# ---------------------------------------------------------------------------------- The first hour


def first_hour(photos: str, folder: str, minutes: float) -> dict[str, Any]:
    """Runs the commands that a newcomer runs. Returns seconds of each, and the ETA's score."""
    run, saved_model = os.path.join(folder, "run"), os.path.join(folder, "saved_model")
    data = {"data_dir": photos}
    model = {**data, "saved_model": saved_model}
    query = os.path.join(photos, open_source(DataConfig(data_dir=photos)).names[0])
    hits, table = os.path.join(folder, "hits.html"), os.path.join(folder, "embeddings.csv")
    budget = {"minutes": minutes} if minutes else {}
    commands: dict[str, dict[str, Any]] = {
        "train": {**data, "workdir": run, **budget},
        "report": {"workdir": run},
        "export": {"workdir": run, "output": saved_model},
        "search": {**model, "query": query, "output": hits},
        "embed": {**model, "output": table},
    }
    watched = {name: eta.watch(f"mgta_tf.{name}", flags) for name, flags in commands.items()}
    files.write_text(os.path.join(folder, "train.txt"), watched["train"].output)
    score = eta.score(watched["train"])
    return {
        "seconds": {name: one.seconds for name, one in watched.items()},
        "eta": eta.described(watched["train"], score),
        "eta_share": score.share,
    }


def described(count: int, found: dict[str, Any]) -> str:
    """The times of a folder, and its ETA."""
    times = ", ".join(f"{name} {duration(took)}" for name, took in found["seconds"].items())
    return f"{count:,} photographs: {times}\n  {found['eta']}"


if __name__ == "__main__":
    cli.run(main, FoldersConfig)
