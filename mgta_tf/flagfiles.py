"""Flagfiles: one flag per line, # for comments, --flagfile=OTHER to include another flagfile.

absl searches an included flagfile in the current folder. Here its path is relative to the including
file, so a flagfile works from every folder and in an installed package.
"""

from __future__ import annotations

import os
import sys

from mgta_tf.errors import UserError

DEEPEST = 8  # maximum depth of inclusion
PACKAGE = os.path.dirname(os.path.abspath(__file__))  # contains the folder flags/

# Flags of earlier versions with their defaults. Flagfiles of old runs contain them.
RETIRED = {
    "cluster_sampling": "uniform",
    "kmeans_max_steps": "100",
    "kmeans_tolerance": "1e-4",
    "min_cluster_size": "10",
    "probe_images": "2000",
    "triplet_temperature": "0.1",
}
# Newer flags, with the value that reproduces earlier versions. It applies to flagfiles of old runs,
# which are recognized by a retired flag.
LATER = {"labels": "clusters"}


def expand(words: list[str]) -> list[str]:
    """Replaces every --flagfile by the flags in it, and removes retired flags.

    Raises:
      UserError: a flagfile cannot be read or includes itself; or a retired flag does not have its
        old default.
    """
    return _without_retired(_included(words, within=()))


def _included(words: list[str], within: tuple[str, ...]) -> list[str]:
    """Expands flagfiles in `words`. within: paths of the including flagfiles, outermost first."""
    expanded, rest = [], iter(words)
    for word in rest:
        name, _, value = word.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            expanded.append(word)
            continue
        path = find(value or next(rest, ""), os.path.dirname(within[-1]) if within else "")
        where = f"{within[-1]}: --flagfile={path}" if within else f"--flagfile={path}"
        if os.path.abspath(path) in within:
            raise UserError(f"{where}: includes itself")
        if len(within) == DEEPEST:
            raise UserError(f"{where}: more than {DEEPEST} levels of included flagfiles")
        expanded += _included(_flags_in(path, where), (*within, os.path.abspath(path)))
    return expanded


def find(name: str, folder: str = "") -> str:
    """Path of a flagfile: `name` relative to `folder`, else in the package's own flags/."""
    path = os.path.join(folder, os.path.expanduser(name))
    own = os.path.join(PACKAGE, name)
    if not os.path.exists(path) and name.startswith("flags/") and os.path.isfile(own):
        return own
    return path


def _flags_in(path: str, where: str) -> list[str]:
    try:
        # surrogateescape keeps file names that are not UTF-8.
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
            lines = [line.strip() for line in file]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{where}: {reason}") from None
    if any("\0" in line for line in lines if not line.startswith("-")):
        raise UserError(f"{where}: not a text file")
    return [line for line in lines if line and not line.startswith(("#", "//"))]


def _without_retired(words: list[str]) -> list[str]:
    """Drops retired flags that have their old default, and prints one line about them.

    If there are any, the flags of LATER that are not given get their old behavior.
    """
    kept, dropped = [], []
    for word in words:
        name, given, value = word.lstrip("-").partition("=")
        if not given:  # a boolean: --name or --noname
            name, value = (name[2:], "false") if name[2:] in RETIRED else (name, "true")
        if name not in RETIRED or not word.startswith("-"):
            kept.append(word)
        elif not _equal(value, RETIRED[name]):
            raise UserError(
                f"--{name}={value}: this flag is retired, and only its old default "
                f"{RETIRED[name]} can still be run; remove it"
            )
        else:
            dropped.append(f"--{name}")
    if dropped:
        ignored = ", ".join(sorted(set(dropped)))
        print(f"mgta_tf: retired flags at their old defaults, ignored: {ignored}", file=sys.stderr)
        named = {word.lstrip("-").partition("=")[0] for word in kept}
        kept += [f"--{name}={value}" for name, value in LATER.items() if name not in named]
    return kept


def _equal(one: str, other: str) -> bool:
    """Whether two values are equal as text or as numbers."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one.lower() == other.lower()
