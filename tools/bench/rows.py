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


def finish(rows: list[dict[str, Any]], path: str) -> None:
    """Prints the rows, and writes them as JSON if `path` names a file."""
    for each in rows:
        peer = "" if each["peer"] is None else f" against {each['peer']:.4g}"
        print(
            f"{each['bench']}: {each['ours']:.4g}{peer} {each['unit']}, ratio {each['ratio']:.3g}, "
            f"target {each['target']:g}: {'met' if each['pass'] else 'MISSED'}"
        )
    if path:
        write_json(path, rows)
