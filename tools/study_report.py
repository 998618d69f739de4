"""The study's rows as a page and a picture: pure functions of the rows."""

from __future__ import annotations

import statistics
from typing import Any

from scipy import stats

Rows = dict[str, list[dict[str, Any]]]


def methods_of(plan: dict[str, Any]) -> dict[str, Any]:
    """Every method of the plan by name, from all its tables.

    The flags of one that is `like` another are the other's, changed by its own.
    """
    methods: dict[str, Any] = {}
    for part in plan["tables"].values():
        for name, method in part.items():
            like = methods[method["like"]]["flags"] if "like" in method else {}
            methods[name] = {**method, "flags": {**like, **method.get("flags", {})}}
    return methods


def judged(rows: Rows) -> Rows:
    """Those of runs that came to their end."""
    return {name: [row for row in part if "collapsed" not in row] for name, part in rows.items()}


def page(plan: dict[str, Any], rows: Rows, search: list[dict[str, Any]]) -> str:
    """docs/results.md."""
    every, rows = rows, judged(rows)
    cpu_seconds = sum(row["cpu_seconds"] for part in rows.values() for row in part)
    lines = [
        "# Results: does mutual guidance help?",
        "",
        " ".join(answer(rows, *question) for question in plan["questions"]),
        "",
        plan["what"],
        "",
        "Percentages; mean ± standard deviation over the seeds. 95 % intervals are Student's t on "
        "the differences of runs with the same seed. An interval across 0 decides nothing, and of "
        "twenty intervals one is expected to miss: none is corrected for their number. ARI: how "
        "far the pseudo labels agree with the classes, in the first turn → in the last of stage 2; "
        "0 is chance (rows of before 2026-11-25 did not keep it).",
        "",
        "![mAP of every method](results/table.png)",
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
        *[line for finding in plan["findings"] for line in (finding, "")],
        "## Search",
        "",
        *search_lines(search),
        "",
        "## How it was made",
        "",
        "```",
        "python tools/study.py --plan=docs/study.json --data_dir=tiny-imagenet-100 \\",
        "    --voc_root=VOCdevkit --workdir=runs/study",
        "python tools/search.py --data_dir=tiny-imagenet-100 --workdir=runs/search "
        "--output=docs/results/search.json",
        "```",
        "",
        f"{sum(map(len, rows.values()))} runs, {cpu_seconds / 3600:.1f} hours of a CPU core. "
        + used_versions(rows),
        "",
    ]
    return "\n".join(lines)


def summary(plan: dict[str, Any], rows: Rows) -> str:
    """The README's table: the methods of the first table, each with its command and date."""
    rows = judged(rows)
    lines = [
        "| method | SVM mAP | top-1 | 20-NN | VOC-mini mAP | seeds | `--only=` | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, method in next(iter(plan["tables"].values())).items():
        found = rows[name]
        date = max((row["date"] for row in found), default="-")
        cells = [method["about"], *measures(found), str(len(found)), f"`{name}`", date]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def measures(found: list[dict[str, Any]]) -> list[str]:
    """SVM mAP, top-1, 20-NN and VOC-mini mAP of the rows, as cells."""
    readers = (
        lambda row: row["map"],
        lambda row: row["top1"],
        lambda row: row["knn"]["20"],
        lambda row: row["voc_map"],
    )
    return [spread([read(row) for row in found if read(row) is not None]) for read in readers]


def answer(rows: Rows, question: str, one: str, other: str) -> str:
    """A question, and what the runs of both methods with the same seeds say to it."""
    differences = paired(rows, one, other)
    if not differences:
        return f"**{question}** Not run yet."
    base = statistics.mean(
        row["map"] for row in rows[other] if row["seed"] in seeds_of(rows, one, other)
    )
    mean = statistics.mean(differences)
    said = f"{mean:+.2f} mAP ({100 * mean / base:+.0f} %)"
    if len(differences) == 1:
        return f"**{question}** {said} on one seed, which decides nothing."
    low, high = interval(differences)
    verdict = decided(low, high, "Yes", "No, the reverse", "Undecided")
    return (
        f"**{question}** {verdict}: {said}, 95 % interval {low:+.2f} to {high:+.2f}, "
        f"{len(differences)} seeds."
    )


def seeds_of(rows: Rows, one: str, other: str) -> list[int]:
    """Seeds with which both were run."""
    known = [{row["seed"] for row in rows[name]} for name in (one, other)]
    return sorted(known[0] & known[1])


def paired(rows: Rows, one: str, other: str) -> list[float]:
    """mAP of `one` less that of `other`, for each seed that both have."""
    of = {name: {row["seed"]: row["map"] for row in rows[name]} for name in (one, other)}
    return [of[one][seed] - of[other][seed] for seed in seeds_of(rows, one, other)]


def interval(values: list[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of two values or more."""
    mean, error = statistics.mean(values), statistics.stdev(values) / len(values) ** 0.5
    reach = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean - reach, mean + reach


def decided(low: float, high: float, above: str, below: str, across: str) -> str:
    """The word for an interval that lies above 0, below it, or across it."""
    return above if low > 0 else below if high < 0 else across


def table(methods: dict[str, Any], rows: Rows, base: str) -> list[str]:
    """Every method; its mAP less that of `base`, with the interval, in the fifth column."""
    lines = [
        f"| method | what | seeds | SVM mAP | against `{base}` | top-1 | 20-NN | VOC-mini mAP "
        "| ARI of the labels | CPU s a run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ended = judged(rows)
    for name, method in methods.items():
        found, lost = ended[name], len(rows[name]) - len(ended[name])
        seeds = f"{len(found)}, {lost} collapsed" if lost else str(len(found))
        cells = [f"`{name}`", method["about"], seeds, *measures(found)]
        cells.insert(4, "" if name == base else difference(paired(ended, name, base)))
        cells.append(label_agreement(found))
        cells.append(f"{statistics.mean(r['cpu_seconds'] for r in found):.0f}" if found else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def label_agreement(found: list[dict[str, Any]]) -> str:
    """'0.006 → 0.013', means over rows: ARI of the classes and the first and last pseudo labels."""
    known = [row["ari"] for row in found if row.get("ari")]  # rows before 2026-11-25 have none
    if not known:
        return "-"
    ends = (statistics.mean(values[place] for values in known) for place in (0, -1))
    return " → ".join(f"{value:.3f}" for value in ends)


def difference(values: list[float]) -> str:
    """'+0.42 (+0.10 to +0.74)', or '+0.42' of one, or '-' of none."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):+.2f}"
    if len(values) == 1:
        return mean
    low, high = interval(values)
    return f"{mean} ({low:+.2f} to {high:+.2f})"


def verdicts(plan: dict[str, Any], rows: Rows) -> list[str]:
    """Three lists: what is better than its table's base, what is worse, what cannot be told."""
    kinds = ("Better", "Worse", "No difference that was seen")
    lists: dict[str, list[str]] = {kind: [] for kind in kinds}
    for title, methods in plan["tables"].items():
        base = plan["bases"][title]
        for name in methods:
            values = paired(rows, name, base)
            if name == base or len(values) < 2:
                continue
            lists[decided(*interval(values), *kinds)].append(
                f"`{name}` against `{base}`: {difference(values)}"
            )
    return [
        line
        for kind, found in lists.items()
        if found
        for line in (f"{kind}:", "", *(f"* {words}" for words in found), "")
    ]


def collapses(rows: Rows) -> list[str]:
    """A list of the runs that ended before their end, and of what they said."""
    found = [
        f"* `{name}`, seed {row['seed']}: {row['collapsed']}"
        for name, part in rows.items()
        for row in part
        if "collapsed" in row
    ]
    return ["Collapsed, and so without a figure:", "", *found, ""] if found else []


def spread(values: list[float]) -> str:
    """'5.62 ± 0.11', or '5.62' of one, or '-' of none."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def search_lines(search: list[dict[str, Any]]) -> list[str]:
    """A table of the search's trials, best first; each shows what differs from the first trial."""
    if not search:
        return ["Not run yet."]
    trials = [row for row in search if row["method"].startswith("trial")]
    letter = trials[0]["searched"] if trials else {}
    lines = [
        "Judged on a held-out third of the training photographs, one seed; all start from one IAE "
        "(`tools/search.py`). `trial_000` is the letter of the paper.",
        "",
        "| trial | SVM mAP | top-1 | 20-NN | differs from the letter |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(search, key=lambda row: -row.get("map", 0.0)):
        differs = ""
        if row["method"].startswith("trial"):
            changed = {k: v for k, v in row["searched"].items() if letter.get(k) != v}
            differs = ", ".join(f"{name}={value}" for name, value in changed.items())
        found = ["collapsed", "-", "-"]
        if "collapsed" not in row:
            found = [f"{value:.2f}" for value in (row["map"], row["top1"], row["knn"]["20"])]
        lines.append(f"| `{row['method']}` | {' | '.join(found)} | {differs} |")
    return lines


def used_versions(rows: Rows) -> str:
    used = {str(sorted(row["versions"].items())) for part in rows.values() for row in part}
    if not used:
        return ""
    one = next(row["versions"] for part in rows.values() for row in part)
    words = ", ".join(f"{name} {version}" for name, version in one.items())
    return f"Versions: {words}" + (" (and others: see the rows)." if len(used) > 1 else ".")


def draw(plan: dict[str, Any], rows: Rows, path: str) -> None:
    """Bars with the standard deviation over seeds; every run a dot."""
    from matplotlib.figure import Figure

    rows = judged(rows)
    names = [name for name in methods_of(plan) if rows[name]]
    first_table = next(iter(plan["tables"].values()))
    figure = Figure(figsize=(max(4.0, 0.7 * len(names) + 1.5), 4.0), layout="constrained")
    axes = figure.subplots()
    for place, name in enumerate(names):
        values = [row["map"] for row in rows[name]]
        error = statistics.stdev(values) if len(values) > 1 else None
        color = "tab:blue" if name in first_table else "tab:gray"
        axes.bar(place, statistics.mean(values), yerr=error, color=color, alpha=0.6, capsize=4)
        axes.plot([place] * len(values), values, "k.", markersize=5)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_ylabel("SVM mAP, %")
    axes.set_title("Frozen res4: methods blue, variants grey", fontsize="medium")
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=110)
