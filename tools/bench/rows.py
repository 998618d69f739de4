"""Rows of results, shared by the benchmarks."""

from __future__ import annotations

from typing import Any

from mgta_tf.runtime.files import write_json


def row(
    bench: str, ours: float, peer: float | None, unit: str, ratio: float, target: float,
    below: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """A row. It passes if its ratio is at least `target`, or at most `target` with `below`."""
    met = ratio <= target if below else ratio >= target
    return dict(
        bench=bench, ours=ours, peer=peer, unit=unit, ratio=ratio, target=target, **{"pass": met}
    )


def not_measured(bench: str, ours: float, unit: str, target: float, reason: str) -> dict[str, Any]:
    """A row whose peer cannot run here, for `reason`: its ratio is null, and it does not pass."""
    name = f"{bench} (not measured: {reason})"
    return dict(
        bench=name, ours=ours, peer=None, unit=unit, ratio=None, target=target, **{"pass": False}
    )


def finish(rows: list[dict[str, Any]], path: str) -> None:
    """Prints the rows, and writes them as JSON if `path` names a file."""
    for each in rows:
        print(line(each))
    if path:
        write_json(path, rows)


def line(row: dict[str, Any]) -> str:
    """The row as one line of text."""
    peer = "" if row["peer"] is None else f" against {row['peer']:.4g}"
    what = f"{row['bench']}: {row['ours']:.4g}{peer} {row['unit']}"
    if row["ratio"] is None:
        return what
    met = "met" if row["pass"] else "MISSED"
    return f"{what}, ratio {row['ratio']:.3g}, target {row['target']:g}: {met}"
