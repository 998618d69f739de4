"""The study's rows in tables and lists, with intervals. Pure functions of the rows."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from scipy import stats

Rows = dict[str, list[dict[str, Any]]]

# The evaluations of an encoder, all in percent; None where it was not run.
EVALUATIONS: dict[str, Callable[[dict[str, Any]], float | None]] = {
    "SVM mAP": lambda row: row["map"],
    "top-1": lambda row: row["top1"],
    "20-NN": lambda row: row["knn"]["20"],
    "VOC-mini mAP": lambda row: row.get("voc_map"),
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


def completed(rows: Rows) -> Rows:
    """The rows of runs that did not collapse."""
    return {name: [row for row in part if "collapsed" not in row] for name, part in rows.items()}


def measures(found: list[dict[str, Any]]) -> list[str]:
    """Mean and deviation of the rows by each evaluation, as cells."""
    columns = ([evaluate(row) for row in found] for evaluate in EVALUATIONS.values())
    return [spread([value for value in values if value is not None]) for values in columns]


def answer(rows: Rows, claim: str, one: str, other: str) -> str:
    """A comparison, and the difference of mAP between its two methods over the seeds of both."""
    differences = paired(rows, one, other)
    if not differences:
        return f"**{claim}** Not run yet."
    base = statistics.mean(
        row["map"] for row in rows[other] if row["seed"] in seeds_of(rows, one, other)
    )
    mean = statistics.mean(differences)
    found = f"{mean:+.2f} mAP ({100 * mean / base:+.0f} %)"
    if len(differences) == 1:
        return f"**{claim}** {found}; one seed, no interval."
    low, high = interval(differences)
    verdict = decided(low, high, "better", "worse", "not significant")
    return (
        f"**{claim}** {verdict}, {found}, 95 % interval {low:+.2f} to {high:+.2f} "
        f"({100 * low / base:+.0f} to {100 * high / base:+.0f} %), {len(differences)} seeds."
    )


def by_every_evaluation(plan: dict[str, Any], rows: Rows) -> list[str]:
    """A table of all questions; a difference whose interval excludes 0 is bold."""
    lines = [f"| | {' | '.join(EVALUATIONS)} |", "|---|" + "---|" * len(EVALUATIONS)]
    for question, one, other in plan["questions"]:
        cells = [f"{question} (`{one}` − `{other}`)"]
        for evaluate in EVALUATIONS.values():
            values = paired(rows, one, other, evaluate)
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
    evaluate: Callable[[dict[str, Any]], float | None] = EVALUATIONS["SVM mAP"],
) -> list[float]:
    """`one` − `other` by an evaluation, for each seed that both have."""
    of = {name: {row["seed"]: evaluate(row) for row in rows[name]} for name in (one, other)}
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
    """Every method; its mAP − that of `base`, with the interval, in the fifth column."""
    lines = [
        f"| method | what | seeds | SVM mAP | against `{base}` | top-1 | 20-NN | VOC-mini mAP "
        "| labels' ARI | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ended = completed(rows)
    for name, method in methods.items():
        found, lost = ended[name], len(rows[name]) - len(ended[name])
        seeds = f"{len(found)}, {lost} collapsed" if lost else str(len(found))
        # Rows from before version 0.2 have `at_rest`.
        stuck = sum(bool(row.get("stuck_at_margin", row.get("at_rest"))) for row in found)
        seeds += f", {stuck} stuck at the margin" if stuck else ""
        cells = [f"`{name}`", method["about"], seeds, *measures(found)]
        cells.insert(4, "" if name == base else difference(paired(ended, name, base)))
        spent = [row["cpu_seconds"] for row in found if row["cpu_seconds"]]
        cells += [label_agreement(found), f"{statistics.mean(spent):.0f}" if spent else "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def label_agreement(found: list[dict[str, Any]]) -> str:
    """'0.006 → 0.013': ARI of labels and classes on D1, in the first and last round, as means.

    '-' if it was not recorded.
    """
    known = []
    for row in found:
        rounds = [turn for turn in row.get("turns", []) if turn["stage"] == "mutual"]
        turns = [turn for turn in rounds if turn["ari_truth"] is not None]  # those with labels
        if turns:
            same = [turn["ari_truth"] for turn in turns if turn["half"] == turns[0]["half"]]
            known.append((same[0], same[-1]))
    if not known:
        return "-"
    return " → ".join(f"{statistics.mean(values):.3f}" for values in zip(*known))


def difference(values: list[float]) -> str:
    """'+0.42 (+0.10 to +0.74)', '+0.42' for a single value, '-' for none."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):+.2f}"
    if len(values) == 1:
        return mean
    low, high = interval(values)
    return f"{mean} ({low:+.2f} to {high:+.2f})"


def verdicts(plan: dict[str, Any], rows: Rows) -> list[str]:
    """Three lists: better than its table's base, worse, and not significant."""
    kinds = ("Better", "Worse", "Not significant (the 95 % interval includes 0)")
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
    """The runs that collapsed, each with its message."""
    found = [
        f"* `{name}`, seed {row['seed']}: {row['collapsed']}"
        for name, part in rows.items()
        for row in part
        if "collapsed" in row
    ]
    return ["Collapsed, without a figure:", "", *found, ""] if found else []


def spread(values: list[float]) -> str:
    """'5.62 ± 0.11', '5.62' for a single value, '-' for none."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def search_lines(search: list[dict[str, Any]]) -> list[str]:
    """A table of the search's rows, best first; each shows what differs from the first trial."""
    if not search:
        return ["Not run yet."]
    trials = [row for row in search if row["method"].startswith("trial")]
    first = trials[0]["searched"] if trials else {}
    lines = [
        "| trial | SVM mAP | top-1 | 20-NN | differs from the paper's settings |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(search, key=lambda row: -row.get("map", 0.0)):
        changed = {k: v for k, v in row["searched"].items() if first.get(k) != v}
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
