"""The report as one HTML page: pictures, figures, styles and scripts inside, no network."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image
from plotly.offline import get_plotlyjs

from mgta_tf.clustering.members import SHOWN
from mgta_tf.config import format_value
from mgta_tf.errors import encodable
from mgta_tf.reporting import figures
from mgta_tf.reporting.record import Members, Record
from mgta_tf.runtime.progress import duration
from mgta_tf.runtime.workdir import NEUTRAL

ROWS = 12  # labellings and reconstructions that are shown, at most: the first, the last, between


def render(records: Sequence[Record]) -> str:
    """The page of a run, with others to compare it with.

    records: the run, then the others.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mgta_tf.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(duration=duration, number=number)
    run = records[0]
    flows, steps = figures.flows(run)
    plots = {
        "losses": figures.losses(records),
        "agreement": figures.agreement(run),
        "sizes": figures.sizes(run.members) if run.members else None,
        "flows": flows,
        "map": figures.scatter(figures.flat_map(run.members)) if run.members else None,
        "probe": figures.online_probe(records),
    }
    text = environment.get_template("report.html").render(
        run=run,
        records=records,
        plots={name: plot and figures.as_json(plot) for name, plot in plots.items()},
        status=status(run),
        versions=run.summary.get("versions"),
        data=run.summary.get("data", "").replace(", no classes", ""),
        facts=facts(run),
        comparison=comparison(records) if len(records) > 1 else None,
        times=times(run),
        turns=[{"name": figures.turn_name(row), **row} for row in run.stages if "steps" in row],
        reconstructions=reconstructions(run),
        others=[(other.name, reconstructions(other)[-1:]) for other in records[1:]],
        originals=picture(run.workdir.originals),
        galleries=galleries(run),
        flow_steps=steps,
        members=members_json(run) if run.members else None,
        changed=[(name, format_value(run.flags[name])) for name in run.changed],
        sprites=data_uri(run.members.sprites) if run.members else None,
        flagfile=_text(run.workdir.flagfile),
        skipped=_text(run.workdir.skipped).splitlines(),
        plotly=Markup(get_plotlyjs()),
        style=_part("report.css"),
        script=_part("report.js"),
    )
    return encodable(text)  # paths and names may hold bytes of other encodings


def _part(name: str) -> Markup:
    path = os.path.join(os.path.dirname(__file__), "templates", name)
    return Markup(_text(path))


def _text(path: str) -> str:
    """A text file, '' without it."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="backslashreplace") as file:
        return file.read()


def number(value: float | None, digits: int = 4) -> str:
    """4 significant digits; '–' for what there is not."""
    return "–" if value is None else f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:,.0f}"


# ---------------------------------------------------------------------------------- What was run


def status(run: Record) -> str:
    """Whether it is done, and if not, where it stands."""
    if run.finished:
        return "finished"
    if not run.summary:
        return "not finished: no turn has ended yet"
    done, turns = run.summary.get("turns_done"), run.summary.get("turns")
    last = figures.turn_name(run.stages[-1]) if run.stages else "none yet"
    return f"not finished: {done} of {turns} turns are done, the last training was {last}"


def facts(run: Record) -> list[tuple[str, str]]:
    """(what, value) for the head of the page."""
    summary, found = run.summary, []
    if "num_images" in summary:
        images = f"{summary['num_images']:,} of {run.flags['image_size']} px"
        found.append(("images", images))
        found.append(("network", f"{summary['num_parameters'] / 1e6:.2f} M parameters"))
    seconds = sum(row["seconds"] for row in [*run.stages, *run.labellings])
    if seconds:
        found.append(("time", duration(seconds)))
    for row in run.stages[-1:]:
        if row.get("reconstruction_loss") is not None:
            found.append(("reconstruction loss", number(row["reconstruction_loss"])))
        if row.get("triplet_loss"):
            found.append(("triplet loss", number(row["triplet_loss"])))
        if "accuracy" in row:
            found.append(("training accuracy", f"{row['accuracy']:.1%}"))
    for row in run.labellings[-1:]:
        found.append(
            ("clusters", f"{row['num_clusters']}, {row['smallest']}–{row['largest']} images")
        )
        if row.get("nmi_truth") is not None:
            found.append(("NMI with the classes", f"{row['nmi_truth']:.3f}"))
    evaluated = [row for row in run.stages if row.get("probe_knn") is not None]
    if evaluated:
        found.append(("20-NN", f"{evaluated[-1]['probe_knn']:.1f} %"))
    return found


def comparison(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """(what, a value for each run): the facts, then the flags that differ."""
    by_run = [dict([("status", status(r).split(":")[0]), *facts(r)]) for r in records]
    rows = list(dict.fromkeys(name for values in by_run for name in values))
    table = [(name, [values.get(name, "–") for values in by_run]) for name in rows]
    flags = dict.fromkeys(name for r in records for name in r.flags if name not in NEUTRAL)
    for name in flags:
        values = [format_value(r.flags.get(name, "–")) for r in records]
        if len(set(values)) > 1:
            table.append((f"--{name}", values))
    return table


def times(run: Record) -> list[tuple[str, int, float]]:
    """(stage, turns, seconds): where the time went."""
    names = {"iae": "stage 1, IAE", "mutual": "stage 2, training", "final": "stage 3, training"}
    found: dict[str, list[float]] = {}
    for row in run.stages:
        found.setdefault(names.get(row["stage"], row["stage"]), []).append(row["seconds"])
    for row in run.labellings:
        found.setdefault("labelling", []).append(row["seconds"])
    for row in [*run.stages, *run.labellings]:
        if row.get("show_seconds") is not None:
            found.setdefault("of it, pictures", []).append(row["show_seconds"])
    return [(name, len(seconds), sum(seconds)) for name, seconds in found.items()]


# --------------------------------------------------------------------------------------- Pictures


def data_uri(jpeg: bytes) -> str:
    """A JPEG inside the page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def picture(path: str) -> str | None:
    """A picture of the run inside the page; None if it is not there."""
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return data_uri(file.read())


def thinned(rows: list[Any]) -> list[Any]:
    """At most ROWS of them: the first, the last, and evenly between."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int))
    return [rows[i] for i in chosen]


def reconstructions(run: Record) -> list[dict[str, Any]]:
    """The same images, reconstructed after the turns: `name`, `picture`, `loss`."""
    rows = [row for row in run.stages if row.get("reconstruction_loss") is not None]
    found = [
        {
            "name": figures.turn_name(row),
            "loss": row["reconstruction_loss"],
            "picture": picture(run.workdir.reconstruction(row["round"], row["net"] - 1)),
        }
        for row in thinned(rows)
    ]
    return [row for row in found if row["picture"]]


def galleries(run: Record) -> list[dict[str, Any]]:
    """Representative clusters by labelling: `name`, and a row with a `picture` for each."""
    found = []
    for row in thinned(run.labellings):
        path = run.workdir.gallery(row["round"], row["net"] - 1)
        if os.path.exists(path) and row["representative"]:
            with Image.open(path) as sheet:
                rows = [
                    {**one, "picture": _strip(sheet, number, len(row["representative"]))}
                    for number, one in enumerate(row["representative"])
                ]
            found.append({"name": figures.labelling_name(row), "rows": rows, "shown": SHOWN})
    return found


def _strip(sheet: Image.Image, number: int, count: int) -> str:
    """Row `number` of a picture of `count` rows."""
    height = sheet.height // count
    part = sheet.crop((0, number * height, sheet.width, (number + 1) * height))
    file = io.BytesIO()
    part.save(file, "JPEG", quality=85, subsampling=0)
    return data_uri(file.getvalue())


def labels_name(run: Record, members: Members) -> str:
    """'round 2 · N1', 'final · N1'."""
    stage = "final" if members.round > run.flags["rounds"] else "mutual"
    return figures.labelling_name({"stage": stage, "round": members.round, "net": members.net})


def members_json(run: Record) -> dict[str, Any]:
    """What the page's script knows of the members, position by position on the sheet of sprites."""
    members = run.members
    assert members
    classes = None
    if members.truth is not None:
        classes = [members.class_names[i] if i >= 0 else "none" for i in members.truth]
    return {
        "title": labels_name(run, members),
        "label": members.label.tolist(),
        "distance": [round(float(distance), 3) for distance in members.distance],
        "name": members.name,
        "classes": classes,
        "sizes": members.sizes.tolist(),
        "columns": int(np.ceil(np.sqrt(len(members.label)))),
    }
