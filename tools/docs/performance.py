"""Writes the tables of docs/performance.md from the results of tools/bench.py.

  python tools/bench.py all --torch_python=TORCH_VENV/bin/python \
      --json=docs/results/performance.json --plot=docs/performance.png
  python -m tools.docs.performance

The tables are between two marks in the page; the rest of the page is written by hand.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from typing import Any

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from tools.docs import marked


@dataclasses.dataclass(frozen=True)
class PerformanceConfig:
    """The page."""

    json: str = flag(
        "docs/results/performance.json",
        "JSON files written by `tools/bench.py … --json=…`, separated by commas.",
    )
    page: str = flag("docs/performance.md", "Page whose tables are replaced.")


def main(config: PerformanceConfig) -> None:
    rows = [row for path in config.json.split(",") for row in read(path)]
    marked.replace(config.page, "tools/docs/performance.py", tables(rows))


def read(path: str) -> list[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"--json={path}: cannot be read ({error})") from None


def tables(rows: list[dict[str, Any]]) -> str:
    """Markdown: machine and versions; a line per row; then the tables of decoders and threads."""
    versions: dict[str, set[str]] = collections.defaultdict(set)
    for row in rows:
        for name, version in row["versions"].items():
            versions[name].add(version)
    dates = sorted({row["date"] for row in rows})
    machines = sorted({f"{row['threads']} cores of {row['processor']}" for row in rows})
    lines = [
        f"Measured on {' and '.join(dates)}, {' and '.join(machines)}, load "
        f"{max(row['load'] for row in rows):.1f} at most; "
        + ", ".join(f"{name} {' and '.join(sorted(all_of))}" for name, all_of in versions.items())
        + ".",
        "",
        "| what | ours | peer | unit | ratio | target | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [line_of(row) for row in rows if "share" not in row]
    laws = [law_of(row) for row in rows if "seconds_each" in row]
    lines += ["", *laws] if laws else []
    return "\n".join([*lines, *table_of_decoders(rows), *table_of_threads(rows)]) + "\n"


def line_of(row: dict[str, Any]) -> str:
    """A row of the first table."""
    peer = "" if row["peer"] is None else number(row["peer"])
    ratio, met = "", "not measured"
    if row["ratio"] is not None:
        ratio = f"{row['ratio']:.2f} ± {uncertainty(row):.2f}"
        met = "met" if row["pass"] else "missed"
    return (
        f"| {row['bench']} | {number(row['ours'])} | {peer} | {row['unit']} | {ratio} | "
        f"{row['target']:g} | {met} |"
    )


def law_of(row: dict[str, Any]) -> str:
    graphs = ""
    if "graph_seconds" in row:
        graphs = f"; the first takes {number(row['graph_seconds'])} s more, for graphs"
    return (
        f"* {row['bench']}: {number(row['fixed_seconds'])} s + {row['seconds_each']:.3g} s each, "
        f"from {', '.join(f'{x:,}' for x in row['x'])}{graphs}."
    )


def table_of_decoders(rows: list[dict[str, Any]]) -> list[str]:
    """Cost of a step by net and decoder."""
    lines = []
    for row in rows:
        for decoder, work in row.get("gflop_per_image", {}).items():
            net = row["bench"].removeprefix("step, ").partition(", --decoder")[0]
            spent = row["ms_per_image"][decoder]
            lines.append(
                f"| {net} | {decoder} | {number(work)} | {number(spent)} | "
                f"{number(1e3 * work / spent)} |"
            )
    head = "| net | `--decoder` | GFLOP per image | ms per image | GFLOP/s |"
    return with_head(head, lines)


def table_of_threads(rows: list[dict[str, Any]]) -> list[str]:
    """Images per second, and fraction of the matrix product's rate, by arrangement on the cores."""
    lines = []
    for row in rows:
        net = row["bench"].removeprefix("threads, ").rpartition(": ")[0]
        ratios, rates = (1.0, row["ratio"]), (row["peer"], row["ours"])
        for (way, share), rate, ratio in zip(row.get("share", {}).items(), rates, ratios):
            lines.append(f"| {net} | {way} | {number(rate)} | {ratio:.2f} | {share:.2f} |")
    return with_head(
        "| net | arrangement | images/s | ratio | fraction of the product's rate |", lines
    )


def with_head(head: str, lines: list[str]) -> list[str]:
    """A table without repeated lines, after an empty line; nothing if it has no lines."""
    return ["", head, "|---|---|---|---|---|", *dict.fromkeys(lines)] if lines else []


def uncertainty(row: dict[str, Any]) -> float:
    """Uncertainty of the ratio: the sum of the relative errors of both times."""
    relative = [row["spread"][name] / row["median"][name] for name in row["median"]]
    return row["ratio"] * sum(sorted(relative, reverse=True)[:2])


def number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    cli.run(main, PerformanceConfig)
