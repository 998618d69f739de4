"""The result of a similarity search as one small HTML page: thumbnails inside, no network."""

from __future__ import annotations

import dataclasses

import jinja2
import numpy as np

from mgta_tf.errors import printable
from mgta_tf.reporting.page import data_uri
from mgta_tf.runtime import pictures

QUALITY = 80  # of the thumbnails, as JPEG


@dataclasses.dataclass(frozen=True)
class Hit:
    """A photograph. pixels: its thumbnail, uint8 [S, S, 3], or None where it cannot be read."""

    name: str
    pixels: np.ndarray | None
    distance: float | None

    @property
    def shown_name(self) -> str:
        return printable(self.name)

    @property
    def picture(self) -> str | None:
        return None if self.pixels is None else data_uri(pictures.jpeg(self.pixels, QUALITY))


@dataclasses.dataclass(frozen=True)
class Group:
    """Near-duplicates. size: of the group. hits: those that are shown."""

    size: int
    hits: list[Hit]


def render(
    about: str,
    queries: list[tuple[Hit, list[Hit]]],
    groups: list[Group] | None,
    more_groups: int,
    distance: float,
) -> str:
    """The page.

    Args:
      about: The encoder and the folder, in a line.
      queries: Each with its nearest photographs.
      groups: Near-duplicates; None where they were not searched for.
      more_groups: Number of groups that are not shown.
      distance: Largest distance of two near-duplicates.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mgta_tf.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("hits.html").render(
        about=printable(about),
        queries=queries,
        groups=groups,
        more_groups=more_groups,
        distance=distance,
    )
