"""The report as one HTML page: pictures, figures, styles and scripts inside, no network."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image
from plotly.offline import get_plotlyjs

from mgta_tf.clustering.members import SHOWN
from mgta_tf.config import format_value
from mgta_tf.data import sampler
from mgta_tf.errors import encodable
from mgta_tf.evaluation.knn import nearest
from mgta_tf.reporting import curves, figures, neighbors, overview
from mgta_tf.reporting.record import Members, Record
from mgta_tf.reporting.tables import Table, table
from mgta_tf.runtime.progress import duration
from mgta_tf.runtime.workdir import NEUTRAL

BASELINES = {"chance": "by chance", "untrained": "untrained net", "thumbnail": "4×4 pixels"}
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
        "losses": curves.losses(records),
        "agreement": figures.agreement(run),
        "sizes": figures.sizes(run.members, kind_of_members(run)) if run.members else None,
        "flows": flows,
        "map": figures.scatter(figures.flat_map(run.members)) if run.members else None,
        "probe": figures.online_probe(records),
    }
    agreement = neighbors.agreement(run.members) if run.members else None
    text = environment.get_template("report.html").render(
        run=run,
        records=records,
        plots={name: plot and figures.as_json(plot) for name, plot in plots.items()},
        title=title(run),
        kind=kind_of_members(run),
        status=status(run),
        versions=run.summary.get("versions"),
        data=run.summary.get("data", ""),
        facts=facts(run),
        learned=overview.learned(run, agreement),
        figures=figures_table(run),
        found=overview.found(run, agreement),
        next_steps=overview.next_steps(run),
        comparison=comparison(records) if len(records) > 1 else None,
        warnings=warnings(records),
        times=times(run),
        turns=turns_table(run),
        labellings=labellings_table(run),
        probes=probes_table(run),
        detection=detection_table(run),
        reconstructions=reconstructions(run),
        others=[(other.name, reconstructions(other)[-1:]) for other in records[1:]],
        originals=tiles(run.workdir.originals),
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
    """4 significant digits; '' for None."""
    return "" if value is None else f"{value:.{digits}g}" if abs(value) < 1e4 else f"{value:,.0f}"


# ---------------------------------------------------------------------------------- What was run


def title(run: Record) -> str:
    """The kind of training, in the paper's words if it is the paper's."""
    if run.supervised:
        return "Training with labels"
    return "MGTA pre-training" if run.flags["labels"] == "clusters" else "Pre-training"


def status(run: Record) -> str:
    """Whether it is done, and if not, where it stands."""
    if run.finished:
        return "finished"
    if not run.summary:
        return "not finished: no turn has ended yet"
    done, turns = run.summary.get("turns_done"), run.summary.get("turns")
    last = figures.turn_name(run.stages[-1], run.one_net) if run.stages else "none yet"
    return f"not finished: {done} of {turns} turns are done, the last training was {last}"


def facts(run: Record) -> list[tuple[str, str]]:
    """(what, value) for the head of the page."""
    summary, found = run.summary, []
    if "num_images" in summary:
        images = f"{summary['num_images']:,} of {run.flags['image_size']} px"
        found.append(("images", images))
        found.append(("network", f"{summary['num_parameters'] / 1e6:.2f} M parameters"))
    seconds = sum(seconds for _, _, seconds in times(run))
    if seconds:
        found.append(("time", duration(seconds)))
    for row in run.stages[-1:]:
        if "accuracy" in row:
            found.append(("training accuracy", f"{row['accuracy']:.1%}"))
    for row in run.labellings[-1:]:
        found.append(
            ("clusters", f"{row['num_clusters']}, {row['smallest']}–{row['largest']} images")
        )
    return found


def figures_table(run: Record) -> Table | None:
    """Every figure of the net beside its values before training and by chance."""
    return table(
        overview.figures(run),
        ("figure", lambda figure: figure.name),
        ("now", lambda figure: figure.now),
        ("before training", lambda figure: figure.before),
        ("by chance", lambda figure: figure.chance),
        ("better if", lambda figure: "higher" if figure.higher else "lower"),
    )


def turns_table(run: Record) -> Table | None:
    """The losses after every TMP."""
    return table(
        [row for row in run.stages if "steps" in row],
        ("turn", lambda row: figures.turn_name(row, run.one_net)),
        ("images", lambda row: f"{row['images']:,}"),
        ("steps", lambda row: f"{row['steps']:,}"),
        ("λ₁", lambda row: number(row["lambda"])),
        ("reconstruction", lambda row: number(row["reconstruction_loss"])),
        ("triplet", lambda row: number(row["triplet_loss"])),
        ("positive", lambda row: number(row.get("hardest_positive"))),
        ("negative", lambda row: number(row.get("hardest_negative"))),
        ("time", lambda row: duration(row["seconds"])),
    )


def labellings_table(run: Record) -> Table | None:
    """The clusters of every GLP."""
    return table(
        run.labellings,
        ("labels of", lambda row: figures.labelling_name(row, run.one_net)),
        ("images", lambda row: f"{row['images']:,}"),
        ("clusters", lambda row: f"{row['num_clusters']:,}"),
        ("smallest", lambda row: str(row["smallest"])),
        ("median", lambda row: number(row["median"])),
        ("largest", lambda row: str(row["largest"])),
        ("re-seeded", lambda row: str(row["empty_clusters"])),
        ("NMI, round before", lambda row: number(row["nmi_previous"], 3)),
        ("NMI, other net", lambda row: number(row.get("nmi_nets"), 3)),
        ("NMI, classes", lambda row: number(row["nmi_truth"], 3)),
        ("by chance", lambda row: number(row.get("nmi_chance"), 3)),
    )


def probes_table(run: Record) -> Table | None:
    """Table 2: each result of mgta_tf.probe, and below it what it is compared with."""
    rows = []
    for name, result in run.probes.items():
        rows.append({"name": name, **result})
        for of, values in (result.get("baselines") or {}).items():
            rows.append({"name": f"{name}: {BASELINES.get(of, of)}", **values})
    return table(
        rows,
        ("encoder", lambda row: row["name"]),
        ("mAP", lambda row: number(row.get("map"), 3)),
        ("accuracy", lambda row: number(row.get("top1"), 3)),
        ("20-NN", lambda row: number((row.get("knn") or {}).get("20"), 3)),
        ("endpoint", lambda row: str(row.get("endpoint", ""))),
        ("images to fit", lambda row: str(row.get("num_train", ""))),
        ("to test", lambda row: str(row.get("num_test", ""))),
    )


def detection_table(run: Record) -> Table | None:
    """Table 3: each result of mgta_tf.detect."""

    def value(row: dict[str, Any], key: str) -> str:
        return "diverged" if row.get("diverged") else number(row.get(key), 3)

    return table(
        [{"name": name, **result} for name, result in run.detection.items()],
        ("encoder", lambda row: row["name"]),
        ("AP50, 11 points", lambda row: value(row, "ap50_voc07")),
        ("AP50, area", lambda row: value(row, "ap50_area")),
        ("COCO AP", lambda row: value(row, "coco_ap")),
    )


def comparison(records: Sequence[Record]) -> Table | None:
    """Runs side by side: status and facts, figures, then the flags that differ."""
    by_run = []
    for run in records:
        values = {"status": status(run).split(":")[0], **dict(facts(run))}
        for figure in overview.figures(run):
            before = f" (before: {figure.before})" if figure.before else ""
            values[figure.name] = f"{figure.now}{before}"
        by_run.append(values)
    names = dict.fromkeys(name for values in by_run for name in values)
    rows = [(name, [values.get(name, "") for values in by_run]) for name in names]
    for flag in dict.fromkeys(name for r in records for name in r.flags if name not in NEUTRAL):
        typed = [format_value(r.flags[flag]) if flag in r.flags else "" for r in records]
        if len(set(typed)) > 1:
            rows.append((f"--{flag}", typed))
    columns = [(r.name, lambda row, i=i: row[1][i]) for i, r in enumerate(records)]
    return table(rows, ("", lambda row: row[0]), *columns, keep=True)


PLACE = ("data_source", "data_dir", "data_split")  # of the images, where that is all that is known
SIZE = ("image_size", "load_size")  # of the images, on which all figures depend


def warnings(records: Sequence[Record]) -> list[str]:
    """Sentences that say which values of these runs must not be compared, and why."""
    found = []
    if images := different_images(records):
        reasons = "; ".join(images)
        found.append(
            f"These runs do not have the same images: {reasons}. Compare neither their losses nor "
            "their figures."
        )
    if scales := different_flags(records, ("reconstruction_reduction",)):
        found.append(f"Their reconstruction losses have different scales: {scales[0]}.")
    if labels := different_flags(records, ("labels",)):
        found.append(f"Their triplet losses are of different batches: {labels[0]}.")
    return found


def different_images(records: Sequence[Record]) -> list[str]:
    """How the images of runs differ.

    By their names and contents; runs of earlier versions do not say these, only where images lie.
    """
    prints = {r.summary.get("data_fingerprint") for r in records}
    known = None not in prints
    found = different_flags(records, SIZE if known else (*PLACE, *SIZE))
    counts = dict.fromkeys(r.summary.get("num_images") for r in records)
    numbers = [f"{count:,}" for count in counts if count is not None]
    if len(numbers) > 1:
        found.append(f"they have {' and '.join(numbers)} images")
    elif known and len(prints) > 1:
        found.append("the names or contents of their images differ")
    return found


def different_flags(records: Sequence[Record], names: Sequence[str]) -> list[str]:
    """The flags of these names in which runs differ, with their values."""
    found = []
    for name in names:
        values = list(dict.fromkeys(format_value(r.flags.get(name, "")) for r in records))
        if len(values) > 1:
            found.append(f"--{name} is {' and '.join(value or 'empty' for value in values)}")
    return found


def times(run: Record) -> list[tuple[str, int | None, float]]:
    """(what, turns or None, seconds): where the time went.

    Runs of earlier versions do not say what passed between their turns.
    """
    names = {
        "iae": "stage 1, IAE",
        "mutual": "stage 2, training",
        "final": "stage 3, training",
        "supervised": "training",
    }
    found: dict[str, list[float]] = {}
    rows = [*run.stages, *run.labellings]
    for row in run.stages:
        alone = figures.trained_without_clusters(row)
        name = "training" if alone else names[row["stage"]]
        found.setdefault(name, []).append(row["seconds"])
    for row in run.labellings:
        found.setdefault("labelling", []).append(row["seconds"])
    parts: list[tuple[str, int | None, float]] = [
        (name, len(seconds), sum(seconds)) for name, seconds in found.items()
    ]
    pictures = sum(row.get("show_seconds") or 0.0 for row in rows)
    waited = sum(row.get("wall_seconds") or 0.0 for row in rows)
    others = waited - pictures - sum(seconds for _, _, seconds in parts)
    parts.append(("pictures", None, pictures))
    parts.append(("start, checking images, building graphs, checkpoints", None, others))
    return [part for part in parts if part[2] > 0]


# --------------------------------------------------------------------------------------- Pictures


def data_uri(jpeg: bytes) -> str:
    """A JPEG inside the page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def thinned(rows: list[Any]) -> list[Any]:
    """At most ROWS of them: the first, the last, and evenly between."""
    return [rows[i] for i in sampler.evenly(len(rows), ROWS)]


def tiles(path: str) -> list[str]:
    """The images of a strip one by one, inside the page; none if it is not there."""
    if not os.path.exists(path):
        return []
    with Image.open(path) as strip:
        return list(_tiles(strip, 0, strip.height, strip.width // strip.height))


def _tiles(sheet: Image.Image, top: int, side: int, count: int, left: int = 0) -> Iterator[str]:
    """`count` square images of a row of a sheet, from the pixel `left`."""
    for number in range(count):
        x = left + number * side
        file = io.BytesIO()
        tile = sheet.crop((x, top, x + side, top + side))
        tile.save(file, "JPEG", quality=85, subsampling=0)
        yield data_uri(file.getvalue())


def reconstructions(run: Record) -> list[dict[str, Any]]:
    """The same images, reconstructed after the turns: `name`, `tiles`, `loss`."""
    rows = [row for row in run.stages if row.get("reconstruction_loss") is not None]
    found = [
        {
            "name": figures.turn_name(row, run.one_net),
            "loss": row["reconstruction_loss"],
            "tiles": tiles(run.workdir.reconstruction(row["round"], row["net"] - 1)),
        }
        for row in thinned(rows)
    ]
    return [row for row in found if row["tiles"]]


def galleries(run: Record) -> list[dict[str, Any]]:
    """Representative clusters by labelling: `name`, and rows with `nearest` and `farthest` tiles.

    Earlier versions could choose a cluster twice; here it is shown once, for all its reasons.
    """
    found = []
    for labelling in thinned(run.labellings):
        path = run.workdir.gallery(labelling["round"], labelling["net"] - 1)
        shown = labelling["representative"]
        if not os.path.exists(path) or not shown:
            continue
        rows: dict[int, dict[str, Any]] = {}
        with Image.open(path) as sheet:
            side = sheet.height // len(shown)
            farthest = sheet.width - SHOWN * side  # after the nearest and a gap
            for number, one in enumerate(shown):
                if one["cluster"] in rows:
                    rows[one["cluster"]]["kind"] += f" and {one['kind']}"
                    continue
                near = min(SHOWN, one["images"])
                far = min(SHOWN, one["images"] - near)
                top = number * side
                rows[one["cluster"]] = {
                    **one,
                    "nearest": list(_tiles(sheet, top, side, near)),
                    "farthest": list(_tiles(sheet, top, side, far, farthest)),
                }
        name = figures.labelling_name(labelling, run.one_net)
        found.append({"name": name, "rows": list(rows.values()), "shown": SHOWN})
    return found


def labels_name(run: Record, members: Members) -> str:
    """'round 2 · N1', 'final · N1'; 'round 2' where there is one net."""
    stage = "final" if members.round > run.flags["rounds"] else "mutual"
    row = {"stage": stage, "round": members.round, "net": members.net}
    return figures.labelling_name(row, run.one_net)


def kind_of_members(run: Record) -> str:
    """'cluster', or 'group' where they are made for the page, because training used none."""
    return "cluster" if run.labellings else "group"


def members_json(run: Record) -> dict[str, Any]:
    """What the page's script knows of the members, position by position on the sheet of sprites."""
    members = run.members
    assert members
    classes = None
    if members.truth is not None:
        classes = [members.class_names[i] if i >= 0 else "none" for i in members.truth]
    return {
        "title": labels_name(run, members),
        "kind": kind_of_members(run),
        "neighbors": nearest(members.coordinates).tolist(),
        "queries": neighbors.queries(members),
        "label": members.label.tolist(),
        "distance": [round(float(distance), 3) for distance in members.distance],
        "name": members.name,
        "classes": classes,
        "sizes": members.sizes.tolist(),
        "columns": int(np.ceil(np.sqrt(len(members.label)))),
    }
