"""The study's rows as a page and a picture: pure functions of the rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from scipy import stats

Rows = dict[str, list[dict[str, Any]]]

# What an encoder is judged by, all in per cent; None where it was not.
JUDGES: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "SVM mAP": lambda row: row["map"],
    "top-1": lambda row: row["top1"],
    "20-NN": lambda row: row["knn"]["20"],
    "VOC-mini mAP": lambda row: row["voc_map"],
}


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
    known = [row["cpu_seconds"] for part in rows.values() for row in part if row["cpu_seconds"]]
    lines = [
        "# Results: does mutual guidance help?",
        "",
        " ".join(answer(rows, *question) for question in plan["questions"])
        + f" {plan['headline']}",
        "",
        plan["what"],
        "",
        *[f"* {words}" for words in plan["words"]],
        "",
        "![mAP of every method](results/table.png)",
        "",
        "## The questions, by every judge",
        "",
        *by_every_judge(plan, rows),
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
        "## What this cannot say",
        "",
        *[f"* {words}" for words in plan["limits"]],
        "",
        "## Search",
        "",
        *search_lines(search),
        "",
        "## How it was made",
        "",
        "```",
        "python tools/study.py --plan=docs/study.json --data_dir=tiny-imagenet-100 \\",
        "    --voc_root=VOCdevkit --workdir=runs/study",
        "python -m tools.study.search --data_dir=tiny-imagenet-100 --workdir=runs/search "
        "--output=docs/results/search.json",
        "```",
        "",
        f"{sum(map(len, rows.values()))} runs, and the search's {len(search)}; "
        f"{sum(known) / 3600:.1f} hours of a CPU core for the runs of the study that were not "
        "interrupted, without VOC-mini and the stage 1 that they share. " + used_versions(rows),
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
    """What each judge says of the rows, as cells."""
    said = ([judge(row) for row in found] for judge in JUDGES.values())
    return [spread([value for value in values if value is not None]) for values in said]


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
        f"**{question}** {verdict}: {said}, 95 % interval {low:+.2f} to {high:+.2f} "
        f"({100 * low / base:+.0f} to {100 * high / base:+.0f} %), {len(differences)} seeds."
    )


def by_every_judge(plan: dict[str, Any], rows: Rows) -> list[str]:
    """A table of all questions; a difference whose interval is not across 0 is in bold type."""
    lines = [f"| | {' | '.join(JUDGES)} |", "|---|" + "---|" * len(JUDGES)]
    for question, one, other in [*plan["questions"], *plan["more_questions"]]:
        cells = [f"{question} (`{one}` less `{other}`)"]
        for judge in JUDGES.values():
            values = paired(rows, one, other, judge)
            clear = len(values) > 1 and decided(*interval(values), "+", "-", "")
            cells.append(f"**{difference(values)}**" if clear else difference(values))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def seeds_of(rows: Rows, one: str, other: str) -> list[int]:
    """Seeds with which both were run."""
    known = [{row["seed"] for row in rows[name]} for name in (one, other)]
    return sorted(known[0] & known[1])


def paired(
    rows: Rows,
    one: str,
    other: str,
    judge: Callable[[dict[str, Any]], float | None] = JUDGES["SVM mAP"],
) -> list[float]:
    """What a judge gives `one` less what it gives `other`, for each seed that both have."""
    of = {name: {row["seed"]: judge(row) for row in rows[name]} for name in (one, other)}
    pairs = [(of[one][seed], of[other][seed]) for seed in seeds_of(rows, one, other)]
    return [a - b for a, b in pairs if a is not None and b is not None]


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
        "| labels' ARI | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ended = judged(rows)
    for name, method in methods.items():
        found, lost = ended[name], len(rows[name]) - len(ended[name])
        seeds = f"{len(found)}, {lost} collapsed" if lost else str(len(found))
        resting = sum(row.get("at_rest", False) for row in found)
        seeds += f", {resting} at rest" if resting else ""
        cells = [f"`{name}`", method["about"], seeds, *measures(found)]
        cells.insert(4, "" if name == base else difference(paired(ended, name, base)))
        spent = [row["cpu_seconds"] for row in found if row["cpu_seconds"]]
        cells += [label_agreement(found), f"{statistics.mean(spent):.0f}" if spent else "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def label_agreement(found: list[dict[str, Any]]) -> str:
    """'0.006 → 0.013', means over rows: ARI of the classes and the first labels of D1, and the last
    of D1 in stage 2; '-' where it was not recorded."""
    known = []
    for row in found:
        turns = [turn for turn in row.get("turns", []) if turn["stage"] == "mutual"]
        if turns:
            same = [turn["ari_truth"] for turn in turns if turn["half"] == turns[0]["half"]]
            known.append((same[0], same[-1]))
    if not known:
        return "-"
    return " → ".join(f"{statistics.mean(values):.3f}" for values in zip(*known))


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
            if name == base or len(values) < 2 or methods[name]["kind"] != "mgta":
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
    """A table of the search's rows, best first; each shows what differs from the first trial."""
    if not search:
        return ["Not run yet."]
    trials = [row for row in search if row["method"].startswith("trial")]
    letter = trials[0]["searched"] if trials else {}
    lines = [
        "Judged on a held-out third of the training photographs, one seed (`tools.study.search`)."
        " `trial_000` has the paper's own settings, eq. 7's sum among them. The trials and `equal` "
        "start from one IAE, `iae`; the other `iae_…` are stage 1 alone. The first trials are "
        "written down in the tool (`FIRST`), Optuna's TPE proposes the rest from their rows; "
        "`final_…` are the best again, from another seed and with twice the rounds.",
        "",
        "| trial | SVM mAP | top-1 | 20-NN | differs from the paper's settings |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(search, key=lambda row: -row.get("map", 0.0)):
        changed = {k: v for k, v in row["searched"].items() if letter.get(k) != v}
        differs = ", ".join(f"{name}={_short(value)}" for name, value in changed.items())
        found = ["collapsed", "-", "-"]
        if "collapsed" not in row:
            found = [f"{value:.2f}" for value in (row["map"], row["top1"], row["knn"]["20"])]
        lines.append(f"| `{row['method']}` | {' | '.join(found)} | {differs} |")
    return lines


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def used_versions(rows: Rows) -> str:
    used = {str(sorted(row["versions"].items())) for part in rows.values() for row in part}
    if not used:
        return ""
    one = next(row["versions"] for part in rows.values() for row in part)
    words = ", ".join(f"{name} {version}" for name, version in one.items())
    return f"Versions: {words}" + (" (and others: see the rows)." if len(used) > 1 else ".")


def draw(plan: dict[str, Any], rows: Rows, path: str) -> None:
    """Bars with the standard deviation over seeds, a group for each table; every run a dot."""
    from matplotlib.figure import Figure

    first = next(iter(plan["tables"]))
    rows, base = judged(rows), plan["bases"][first]
    places: dict[str, int] = {}
    titles: dict[str, int] = {}
    for title, part in plan["tables"].items():
        names = [name for name in part if rows[name]]
        if names:
            titles[title] = len(places) + len(titles)
            places.update({name: titles[title] + 1 + i for i, name in enumerate(names)})
    height = len(places) + len(titles)
    figure = Figure(figsize=(8.0, 0.24 * height + 1.0), layout="constrained")
    axes = figure.subplots()
    for name, place in places.items():
        values = [row["map"] for row in rows[name]]
        error = statistics.stdev(values) if len(values) > 1 else None
        color = "tab:blue" if name in plan["tables"][first] else "tab:gray"
        axes.barh(place, statistics.mean(values), xerr=error, color=color, alpha=0.6, capsize=3)
        axes.plot(values, [place] * len(values), "k.", markersize=4)
    for title, place in titles.items():
        axes.text(0.05, place, title.replace("`", ""), va="center", fontsize="small", weight="bold")
    if rows[base]:
        axes.axvline(statistics.mean(row["map"] for row in rows[base]), color="k", lw=0.8, ls="--")
    axes.set_yticks(list(places.values()), list(places), fontsize="small")
    axes.set_ylim(height - 0.4, -0.6)
    axes.set_xlabel(f"SVM mAP of frozen res4, %; dashed: {base}")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
