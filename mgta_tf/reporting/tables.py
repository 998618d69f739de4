"""Tables of the report, without empty columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Table:
    """head: titles of the columns. rows: a text for each column; the first names the row."""

    head: list[str]
    rows: list[list[str]]


def table(
    rows: Sequence[Any], *columns: tuple[str, Callable[[Any], str]], keep: bool = False
) -> Table | None:
    """Rows as texts; None without rows.

    Args:
      rows: Anything.
      columns: Title, and the text of a row: '' where it has none, which is shown as '–' beside
        rows that have one.
      keep: Whether columns without any text stay.
    """
    if not rows:
        return None
    cells = [[text(row) for _, text in columns] for row in rows]
    kept = [i for i in range(len(columns)) if keep or any(row[i] for row in cells)]
    return Table([columns[i][0] for i in kept], [[row[i] or "–" for i in kept] for row in cells])
