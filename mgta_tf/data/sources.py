"""Sources of images. `open_source` detects the format of a folder.

A `Source` is a list of images that can be read in any order and from any thread. Nothing is decoded
here; `mgta_tf.data.store` decodes all formats.
"""

from __future__ import annotations

import dataclasses
import os

import numpy as np

from mgta_tf.config import flag
from mgta_tf.data import digits, formats, images, layouts, prepared, shapes, tree
from mgta_tf.data.layouts import Source
from mgta_tf.data.names import Names
from mgta_tf.errors import UserError, quantity
from mgta_tf.runtime import files

GENERATED = ("digits", "shapes")  # sources that need no files


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Images."""

    data_dir: str = flag(
        "",
        "Folder of images at any depth (the first sub-folder is the class), Tiny ImageNet, "
        "miniImageNet (CSV splits or mini-imagenet-cache-*.pkl), or TFRecords of "
        "mgta_tf.make_tfrecord. The format is detected and printed. Separate several folders by "
        "commas; @FILE is a list of image files, one per line.",
    )
    data_source: str = flag(
        "",
        "Source of images in place of a folder: 'digits' draws handwritten digits in random "
        "colors; 'shapes' generates outlines on photographs; 'tfds:NAME' reads a TensorFlow "
        "Dataset that is prepared on disk (in --data_dir, or TFDS's default folder).",
    )
    data_split: str = flag(
        "train",
        "Split of the images: train, val or test, as folders or the data set name them (valid "
        "and validation mean val). Data without splits are all train. TFDS takes its own "
        "syntax, such as train[:50%].",
        advanced=True,
    )
    shapes_count: int = flag(
        2000,
        "Number of images that 'digits' or 'shapes' generates.",
        minimum=1,
        advanced=True,
    )
    load_size: int = flag(
        0,
        "Stored size in pixels per side, from which crops are cut; 0 uses --image_size.",
        minimum=0,
    )
    resize_policy: str = flag(
        "crop",
        "Method that makes images square: crop the center, squash the sides, or pad with black.",
        choices=images.RESIZE_POLICIES,
        advanced=True,
    )
    cache_budget_mb: int = flag(
        4096, "Memory for decoded images in MiB; larger sets are decoded on the fly.", minimum=0
    )
    max_bad_fraction: float = flag(
        0.01,
        "Fraction of unusable images above which a run refuses to start.",
        minimum=0.0,
        maximum=1.0,
        advanced=True,
    )
    follow_links: bool = flag(
        False,
        "Permission to read images that symbolic links place outside --data_dir.",
        advanced=True,
    )
    max_image_pixels: int = flag(
        images.MAX_PIXELS, "Pixel limit; larger images are skipped.", minimum=1, advanced=True
    )

    check_file: str = flag(
        "",
        "File that remembers which images are usable, so that runs that name the same file check "
        "each image once; an index of TFRecords is saved beside it. '' is a file in --workdir, "
        "for this run only.",
        advanced=True,
    )

    def __post_init__(self):
        known = self.data_source in ("", *GENERATED) or self.data_source.startswith("tfds:")
        if not known:
            raise UserError(
                f"--data_source={self.data_source}: must be 'digits', 'shapes' or 'tfds:NAME'"
            )


def open_source(config: DataConfig, split: str = "", remembered: str = "") -> Source:
    """Opens the source given by the flags.

    Args:
      config: The flags.
      split: Replaces `--data_split`.
      remembered: File of checks, unless `--check_file` names another; '' is none. An index that an
        earlier run has saved beside it spares reading records.

    Raises:
      UserError: there are no images, the format is unknown, or the split does not exist.
    """
    split, folder = split or config.data_split, config.data_dir
    check_file = config.check_file or remembered
    if config.data_source in GENERATED:
        return _generated(config.data_source, config.shapes_count, split)
    if config.data_source:
        name = config.data_source.partition(":")[2]
        return prepared.open_dataset(name, split, folder, check_file)
    parts = _parts(folder)
    request = layouts.Request(split, config.follow_links, check_file)
    opened = [_open_part(part, request) for part in parts]
    source = opened[0][1] if len(opened) == 1 else _joined(opened)
    if not len(source.names):
        beside = tree.by_reason(one.reason for one in source.unread)
        raise UserError(
            f"--data_dir={folder}: no images in it ({formats.WORDS}), nor Tiny ImageNet's, "
            "miniImageNet's or make_tfrecord.py's files"
            + (f"; not read: {beside}" if beside else "")
        )
    return source


def splits_of(config: DataConfig) -> tuple[str, ...]:
    """The splits that all folders of --data_dir have: some of train, val and test."""
    found = [
        () if part.startswith("@") else layouts.splits(part, config.follow_links)
        for part in _parts(config.data_dir)
    ]
    return tuple(split for split in found[0] if all(split in other for other in found))


def _parts(data_dir: str) -> list[str]:
    """The folders and lists in --data_dir.

    Raises:
      UserError: the flag is empty, or one of them does not exist.
    """
    parts = [data_dir]
    if not os.path.isdir(data_dir):
        parts = [part.strip() for part in data_dir.split(",") if part.strip()]
    if not parts:
        raise UserError("no images: give --data_dir=FOLDER, or --data_source=shapes")
    for part in parts:
        if os.path.isdir(part) or (part.startswith("@") and os.path.isfile(part[1:])):
            continue
        if os.path.isfile(part):
            raise UserError(f"--data_dir={part}: a file; name a folder, or @{part} if it is a list")
        raise UserError(f"--data_dir={part}: no such {'list' if part[0] == '@' else 'folder'}")
    return parts


def _open_part(part: str, request: layouts.Request) -> tuple[str, Source]:
    """Opens a folder or a list: (the folder that names are relative to, its images)."""
    if os.path.isdir(part):
        return part, layouts.open_folder(part, request)
    if request.split != layouts.ALL:
        raise layouts.refuse_split(part, request.split, ())
    return _listed_files(part[1:])


def _listed_files(path: str) -> tuple[str, Source]:
    """The files of a list, one per line; names are relative to the folder of the list.

    The list is trusted, because the user gives it: absolute paths and links are followed.
    """
    folder, lines = os.path.dirname(os.path.abspath(path)), files.lines(path)
    if damaged := next((line for line in lines if "\0" in line), ""):
        raise UserError(f"--data_dir=@{path}: {damaged[:80]!r} cannot be a file; it has a NUL byte")
    if not lines:
        raise UserError(f"--data_dir=@{path}: an empty list")
    for number, line in enumerate(lines):  # in place: there may be a million
        lines[number] = os.path.normpath(os.path.join(folder, os.path.expanduser(line.strip())))
    root = os.path.commonpath({os.path.dirname(name) for name in lines})
    begin = len(os.path.join(root, ""))
    names = [name[begin:] for name in dict.fromkeys(lines)]
    classes = tree.classes_of(names, [place for _, place in tree.splits_of(names)])
    kinds, labels = layouts.numbered(classes)
    twice = len(lines) - len(names)
    source = layouts.from_files(
        f"list of files, {layouts.in_words(len(kinds))}",
        tree.Listing(root, names, []),
        names,
        labels,
        kinds,
        links=True,
        notes=(f"{quantity(twice, 'duplicate line')} ignored",) if twice else (),
    )
    return root, source


def _joined(parts: list[tuple[str, Source]]) -> Source:
    """Joins several sources; names are relative to their common folder, classes match by name.

    Raises:
      UserError: a folder lies inside another.
    """
    roots = [os.path.abspath(root) for root, _ in parts]
    for i, root in enumerate(roots):
        for other in roots[:i]:
            if os.path.commonpath([root, other]) in (root, other):
                raise UserError(f"--data_dir: {root} and {other} overlap; name each image once")
    common = os.path.commonpath(roots)
    sources = [source for _, source in parts]
    kinds = sorted({kind for source in sources for kind in source.class_names})
    number_of = {kind: number for number, kind in enumerate(kinds)}
    names, labels, unread = Names(), [], []
    for root, source in zip(roots, sources):
        prefix = os.path.relpath(root, common)
        for name in source.names:
            names.append(os.path.join(prefix, name))
        unread += [one._replace(name=os.path.join(prefix, one.name)) for one in source.unread]
        own = [number_of[kind] for kind in source.class_names]
        truth = [-1] * len(source.names) if source.labels is None else source.labels
        labels += [own[label] if label >= 0 else -1 for label in truth]
    starts = np.cumsum([0] + [len(source.names) for source in sources])

    def place(number: int) -> tuple[Source, int]:
        part = int(np.searchsorted(starts, number, side="right")) - 1
        return sources[part], number - int(starts[part])

    def read(number: int) -> bytes | np.ndarray:
        source, own = place(number)
        return source.read(own)

    def stamp(number: int) -> str:
        source, own = place(number)
        return source.stamp(own)

    def keep(check_file: str) -> None:
        for source in sources:
            source.keep(check_file)

    return Source(
        " + ".join(dict.fromkeys(source.format for source in sources)),
        names,
        np.array(labels, np.int32) if kinds else None,
        tuple(kinds),
        read,
        tuple(unread),
        tuple(note for source in sources for note in source.notes),
        stamp,
        keep,
    )


def _generated(name: str, count: int, split: str) -> Source:
    """The first `count` digits or shapes of a split."""
    generator, classes = {
        "digits": (digits, digits.DIGITS),
        "shapes": (shapes, shapes.SHAPES),
    }[name]
    if split not in generator.SPLITS:
        *others, last = generator.SPLITS
        raise UserError(f"{name} has the splits {', '.join(others)} and {last}, not {split!r}")
    seed = generator.SPLITS.index(split)
    return Source(
        f"{name} ({split}, generated)",
        [f"{name.removesuffix('s')} {number}" for number in range(count)],
        np.array([generator.label_of(number, seed) for number in range(count)], np.int32),
        classes,
        lambda number: generator.single_object(number, seed),
    )
