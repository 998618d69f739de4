"""Writes the table of docs/performance.md from the results of tools/bench.py.

  python tools/bench.py all --torch_python=TORCH_VENV/bin/python --json=bench.json \
      --plot=docs/performance.png
  python -m tools.docs.performance --json=bench.json

The table is between two marks in the page; the rest of the page is written by hand.
"""

from __future__ import annotations

import dataclasses
import json
import platform
from typing import Any

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from tools.docs import marked


@dataclasses.dataclass(frozen=True)
class PerformanceConfig:
    """The page."""

    json: str = flag("bench.json", "JSON file written by `tools/bench.py all --json=…`.")
    page: str = flag("docs/performance.md", "Page whose table is replaced.")


def main(config: PerformanceConfig) -> None:
    try:
        with open(config.json, encoding="utf-8") as file:
            rows = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"--json={config.json}: cannot be read ({error})") from None
    marked.replace(config.page, "tools/docs/performance.py", table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: date and machine, then a line per row."""
    versions: dict[str, str] = {}
    for row in rows:
        versions.update(row["versions"])
    lines = [
        f"Measured on {rows[0]['date']}, {rows[0]['threads']} cores of {processor()}, load "
        f"{max(row['load'] for row in rows):.1f} at most; "
        + ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        + ".",
        "",
        "| what | ours | peer | unit | ratio | target | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        peer = "" if row["peer"] is None else number(row["peer"])
        lines.append(
            f"| {row['bench']} | {number(row['ours'])} | {peer} | {row['unit']} | "
            f"{row['ratio']:.2f} ± {uncertainty(row):.2f} | {row['target']:g} | "
            f"{'met' if row['pass'] else 'missed'} |"
        )
    lines.append("")
    for row in rows:
        if "seconds_each" in row:
            lines.append(
                f"* {row['bench']}: {number(row['fixed_seconds'])} s + {row['seconds_each']:.3g} s "
                f"each, from {', '.join(map(str, row['x']))}."
            )
    return "\n".join(lines) + "\n"


def uncertainty(row: dict[str, Any]) -> float:
    """Uncertainty of the ratio: the sum of the relative errors of both times."""
    relative = [row["spread"][name] / row["median"][name] for name in row["median"]]
    return row["ratio"] * sum(sorted(relative, reverse=True)[:2])


def number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def processor() -> str:
    """The model name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    cli.run(main, PerformanceConfig)
