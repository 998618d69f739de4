"""The study's pages and its picture: pure functions of the plan and the rows."""

from __future__ import annotations

import statistics
from typing import Any

from tools.study import few_labels
from tools.study.comparisons import (
    Rows,
    answer,
    by_every_evaluation,
    collapses,
    completed,
    difference,
    measures,
    methods_of,
    paired,
    search_lines,
    table,
    used_versions,
    verdicts,
)

MAX_ROWS, MAX_BARS = 10, 15  # of the page's table, and of its picture


def page(
    plan: dict[str, Any],
    rows: Rows,
    others: dict[str, Rows],
    few: dict[str, list[dict[str, Any]]],
) -> str:
    """docs/results.md: claims, one table, one picture, findings, limits, how to repeat.

    Args:
      rows: rows of the study's own data, by method.
      others: the same for every other data set of the plan, by name.
      few: rows of tools/study/few_labels.py, by data set.
    """
    rows, titles = completed(rows), titles_of(plan)
    lines = [
        "# Results: methods compared for the same compute",
        "",
        *[f"* {answer(rows, *claim)}" for claim in plan["claims"]],
        "",
        plan["headline"],
        "",
        plan["what"],
        "",
        *main_table(plan, rows),
        "",
        "![SVM mAP of the main methods](results/table.png)",
        "",
        *other_data(plan, others),
        *with_few_labels(plan, few),
        "## Findings",
        "",
    ]
    for finding in plan["findings"]:
        lines += [finding["text"], "", "| method | SVM mAP | top-1 | 20-NN | seeds |"]
        lines += ["|---|---|---|---|---|"]
        for name in finding["rows"]:
            cells = [titles[name], *measures(rows[name])[:3], str(len(rows[name]))]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "## Limits",
        "",
        *[f"* {words}" for words in plan["limits"]],
        "",
        *how_to_repeat(plan),
    ]
    return "\n".join(lines)


def how_to_repeat(plan: dict[str, Any]) -> list[str]:
    """The commands that make all rows."""
    return [
        "## How to repeat it",
        "",
        "```",
        "python tools/study.py --plan=docs/study.json --data_dir=tiny-imagenet-100 \\",
        "    --more_dir=tiny-imagenet-500 --voc_root=VOCdevkit --workdir=runs/study",
        *[line for name in plan["other_data"] for line in plan["other_data"][name]["repeat"]],
        "```",
        "",
        "Only methods and seeds without a committed row are run; without `--more_dir`, none on "
        "50,000 photographs. Every method, with its flags in words: "
        "[all_methods.md](results/all_methods.md). The search for settings: "
        "[search.md](results/search.md).",
        "",
    ]


def other_data(plan: dict[str, Any], others: dict[str, Rows]) -> list[str]:
    """A section for each other data set that has rows."""
    lines = []
    for name, facts in plan["other_data"].items():
        found = completed(others[name])
        if any(found.values()):
            chosen = {**plan, "main": [method for method in found if found[method]]}
            lines += [
                f"## {facts['title']}",
                "",
                facts["about"],
                "",
                *main_table(chosen, found),
                "",
            ]
    return lines


def with_few_labels(plan: dict[str, Any], few: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The section of fine-tuning, with a table for each data set that has rows."""
    if not any(few.values()):
        return []
    facts = plan["few_labels"]
    lines = ["## With few labels", "", facts["text"], ""]
    for name, title in facts["titles"].items():
        if few[name]:
            lines += [title, "", *few_labels.table(few[name], titles_of(plan)), ""]
    return lines


def titles_of(plan: dict[str, Any]) -> dict[str, str]:
    """The name in words of every method, by id; the id where the plan has none."""
    return {**{name: f"`{name}`" for name in methods_of(plan)}, **plan["titles"], **plan["peers"]}


def main_table(plan: dict[str, Any], rows: Rows) -> list[str]:
    """At most ten methods with their cost, and the difference to the baseline."""
    base, titles = plan["baseline"], titles_of(plan)
    lines = [
        f"| method | passes | SVM mAP | difference from {titles[base]} | top-1 | 20-NN | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in plan["main"][:MAX_ROWS]:
        found = rows[name]
        mean_ap, top1, knn, _ = measures(found)
        gap = "" if name == base else difference(paired(rows, name, base))
        cells = [titles[name], passes(plan, name, found), mean_ap, gap, top1, knn]
        lines.append(f"| {' | '.join([*cells, str(len(found))])} |")
    return lines


def passes(plan: dict[str, Any], name: str, found: list[dict[str, Any]]) -> str:
    """The cost of a method in image passes per photograph, from its rows or else from the plan."""
    known = [row["passes"] for row in found if row.get("passes") is not None]
    cost = statistics.mean(known) if known else plan["passes"].get(name)
    return "-" if cost is None else f"{cost:.0f}"


def summary(plan: dict[str, Any], rows: Rows) -> str:
    """The README's table: at most six methods."""
    rows, titles = completed(rows), titles_of(plan)
    lines = ["| pre-training | SVM mAP | top-1 | 20-NN | seeds |", "|---|---|---|---|---|"]
    for name in plan["readme"][:6]:
        cells = [titles[name], *measures(rows[name])[:3], str(len(rows[name]))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def all_methods(plan: dict[str, Any], rows: Rows) -> str:
    """docs/results/all_methods.md: every row of the study, by question and by table."""
    every, rows = rows, completed(rows)
    known = [row["cpu_seconds"] for part in rows.values() for row in part if row["cpu_seconds"]]
    lines = [
        "# Every method of the study",
        "",
        "The main results: [results.md](../results.md).",
        "",
        *[f"* {words}" for words in plan["words"]],
        "",
        "## The questions, by every evaluation",
        "",
        *by_every_evaluation(plan, rows),
        "",
        *[
            line
            for title, part in plan["tables"].items()
            for line in (f"## {title}", "", *table(part, every, plan["bases"][title]), "")
        ],
        "## What helped and what did not",
        "",
        *verdicts(plan, rows),
        *collapses(every),
        *[line for note in plan["notes"] for line in (note, "")],
        f"{sum(map(len, rows.values()))} runs, {sum(known) / 3600:.1f} hours of a CPU core for "
        "those that were not interrupted, without VOC-mini and the stage 1 that runs of a seed "
        "share. " + used_versions(rows),
        "",
    ]
    return "\n".join(lines)


def search_page(plan: dict[str, Any], search: list[dict[str, Any]]) -> str:
    """docs/results/search.md: every trial of the search."""
    lines = [
        "# The search for settings",
        "",
        "Evaluated on a held-out third of the training photographs, one seed. `trial_000` has the "
        "paper's own settings, eq. 7's sum among them. The trials and `equal` start from one IAE, "
        "`iae`; the other `iae_…` are stage 1 alone. The first trials are listed in the tool "
        "(`FIRST`); Optuna's TPE proposes the rest. `final_…` repeats the best from "
        "another seed, with twice the rounds.",
        "",
        *search_lines(search),
        "",
        *[line for note in plan["search_notes"] for line in (note, "")],
        "```",
        "python -m tools.study.search --data_dir=tiny-imagenet-100 --workdir=runs/search \\",
        "    --output=docs/results/search.json",
        "```",
        "",
    ]
    return "\n".join(lines)


def draw(plan: dict[str, Any], rows: Rows, path: str) -> None:
    """At most fifteen bars with names in words; the deviation over seeds, and every run a dot."""
    from matplotlib.figure import Figure

    rows, titles, base = completed(rows), titles_of(plan), plan["baseline"]
    names = [name for name in plan["picture"] if rows[name]][:MAX_BARS]
    figure = Figure(figsize=(8.0, 0.32 * len(names) + 1.0), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = [row["map"] for row in rows[name]]
        error = statistics.stdev(values) if len(values) > 1 else None
        color = "tab:orange" if name in plan["peers"] else "tab:blue"
        axes.barh(place, statistics.mean(values), xerr=error, color=color, alpha=0.6, capsize=3)
        axes.plot(values, [place] * len(values), "k.", markersize=4)
    if rows[base]:
        axes.axvline(statistics.mean(row["map"] for row in rows[base]), color="k", lw=0.8, ls="--")
    axes.set_yticks(range(len(names)), [titles[name].replace("`", "") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(f"SVM mAP of frozen res4, %; dashed: {titles[base]}")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
