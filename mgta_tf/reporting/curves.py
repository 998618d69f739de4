"""The report's loss curves: of one run by its steps, of several with their stages aligned."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from mgta_tf.data.sampler import steps_of
from mgta_tf.reporting.figures import COLORS, plain
from mgta_tf.reporting.record import Record

DASHES = {"net1": "dot", "net2": "solid", "run": "solid"}
LETTER = 0.02  # width of a letter on a phone, as a fraction of the figure's width
TICKS = 8  # maximum number of ticks on a logarithmic axis
POSITIVE, NEGATIVE = ("hardest_positive",), ("hardest_negative",)


@dataclasses.dataclass(frozen=True)
class Panel:
    """title: above it. axis: of y. logarithmic: whether y is."""

    title: str
    tags: tuple[str, ...]
    axis: str
    logarithmic: bool = False


LOSSES = (
    Panel("Reconstruction loss (eq. 7)", ("reconstruction_loss",), "loss", logarithmic=True),
    Panel("Triplet loss (eq. 6)", ("triplet_loss",), "loss"),
)
DISTANCES = (Panel("Distance to positive and negative", POSITIVE + NEGATIVE, "distance"),)
DISTANCES_OF_MANY = (  # separate panels, because dashes already distinguish the nets
    Panel("Distance to the positive", POSITIVE, "distance"),
    Panel("Distance to the negative", NEGATIVE, "distance"),
)
SUPERVISED = (
    Panel("Cross-entropy", ("loss",), "loss"),
    Panel("Accuracy on the training images", ("accuracy",), "share"),
)


def losses(records: Sequence[Record]) -> go.Figure | None:
    """Loss curves of all runs on shared axes, with marks where stages and rounds begin.

    Of several runs every stage and round begins at the same place, however many steps it takes.
    """
    if all(record.supervised for record in records):
        panels: tuple[Panel, ...] = SUPERVISED
    else:
        panels = (*LOSSES, *(DISTANCES if len(records) == 1 else DISTANCES_OF_MANY))
    panels = tuple(panel for panel in panels if any(_has(r, panel.tags) for r in records))
    if not panels:
        return None
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.28 / len(panels) if len(panels) > 1 else 0,
        subplot_titles=[panel.title for panel in panels],
    )
    figure.update_annotations(x=0, xanchor="left", font=dict(size=13))  # the titles
    places = Places.of(records)
    for row, panel in enumerate(panels, 1):
        values = _add_curves(figure, row, records, panel, places)
        figure.update_yaxes(title_text=panel.axis, row=row, col=1)
        if panel.logarithmic:
            ticks = log_ticks(values)
            shown = dict(tickmode="array", tickvals=ticks, ticktext=[f"{t:g}" for t in ticks])
            figure.update_yaxes(type="log", **shown, row=row, col=1)
    _mark(figure, places)
    steps = "training steps of the net"
    aligned = "steps of the net, stages aligned" if len(records) > 1 else steps
    figure.update_xaxes(title_text=aligned, row=len(panels), col=1)
    figure.update_layout(
        height=110 + 220 * len(panels),
        showlegend=True,
        legend=dict(orientation="h", yanchor="top", y=-0.26 / len(panels), x=0),
        hovermode="x unified",
    )
    return figure


def _add_curves(
    figure: go.Figure, row: int, records: Sequence[Record], panel: Panel, places: Places
) -> np.ndarray:
    """Draws a panel. Returns all values on it."""
    named = {trace.name for trace in figure.data}
    drawn = [np.empty(0)]
    for number, record in enumerate(records):
        for writer, curves in record.curves.items():
            for tag in panel.tags:
                if tag in curves:
                    points = places.of_curve(number, writer, *curves[tag])
                    trace = _curve(records, number, writer, tag, points)
                    trace.showlegend = trace.name not in named
                    named.add(trace.name)
                    figure.add_trace(trace, row=row, col=1)
                    drawn.append(np.asarray(trace.y))
    return np.concatenate(drawn)


def _mark(figure: go.Figure, places: Places) -> None:
    """A line where each stage and round begins; its name at the top of the first panel.

    A run of a single stage has nothing to mark.
    """
    for position, label in places.marks() if len(places.begins) > 1 else ():
        figure.add_vline(x=position, line=dict(width=1, dash="dash", color="#8a8f98"))
        figure.add_annotation(
            x=position,
            y=1,
            yref="paper",
            yanchor="top",
            xanchor="left",
            text=label,
            showarrow=False,
            font=dict(size=11),
            xshift=2,
        )


def _has(record: Record, tags: tuple[str, ...]) -> bool:
    return any(tag in curves for tag in tags for curves in record.curves.values())


def _curve(records, number: int, writer: str, tag: str, points) -> go.Scatter:
    """One line; triplets are not drawn where there were none, in stage 1."""
    steps, values = points
    if tag in ("triplet_loss", "hardest_positive", "hardest_negative"):
        shown = ~(values <= 0)
        steps, values = steps[shown], values[shown]
    nets = records[number].curves.keys() & {"net1", "net2"}
    net = {"net1": "N1", "net2": "N2"}.get(writer, "") if len(nets) > 1 else ""
    if len(records) > 1:
        name = " ".join(word for word in (plain(records[number].name), net) if word)
        color, dash = COLORS[number % len(COLORS)], DASHES[writer]
    else:
        what = {"hardest_positive": "positive", "hardest_negative": "negative"}.get(tag, "")
        loss = "loss" if tag.endswith("loss") else "training"
        name = " ".join(word for word in (net, what) if word) or loss
        color = COLORS[("net1", "net2", "run").index(writer)]
        dash = "dot" if what == "negative" else "solid"
    return go.Scatter(
        x=steps, y=values, name=name, mode="lines", line=dict(color=color, dash=dash, width=1.8)
    )


def log_ticks(values: np.ndarray) -> list[float]:
    """Values to label on a logarithmic axis: 0.05, 0.1, 0.2, …; fewer for a wide range.

    values: [n], the values that are drawn; those that are not positive are ignored.
    """
    values = values[values > 0]
    if not len(values):
        return []
    low, high = values.min(), values.max()
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1,)):
        ticks = [float(f"{step}e{power}") for power in powers for step in steps]
        inside = [tick for tick in ticks if low / 1.1 <= tick <= high * 1.1]
        if len(inside) <= TICKS:
            return inside
    return inside[:: -(-len(inside) // TICKS)]


# ------------------------------------------------------------------------------- Stages and rounds


@dataclasses.dataclass(frozen=True)
class Span:
    """A stage or a round in the steps of one net: it begins after `first`, and ends with `last`."""

    label: str
    first: int
    last: int


def spans(record: Record) -> dict[int, list[Span]]:
    """The stages and rounds that are done, by net (1 or 2)."""
    begun = _steps_of_another_iae(record)
    done: dict[int, int] = {1: begun, 2: begun}
    found: dict[int, list[Span]] = {1: [], 2: []}
    for row in record.stages:
        if "steps" not in row:
            continue
        label = {"iae": "IAE", "final": "final"}.get(row["stage"], f"round {row['round']}")
        net = row["net"]
        span = Span(label, done[net], done[net] + row["steps"])
        found[net].append(span)
        done[net] = span.last
        if row["stage"] == "iae":
            found[2].append(span)  # N2 copies the IAE, and counts its steps
            done[2] = span.last
    return found


def _steps_of_another_iae(record: Record) -> int:
    """The steps of an IAE from `--iae_checkpoint`, from which the run continues to count."""
    flags = record.flags
    if not flags.get("iae_checkpoint") or not record.summary:
        return 0
    batch = flags["clusters_per_batch"] * flags["images_per_cluster"]
    return steps_of(record.summary["num_images"], flags["iae_epochs"], batch)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where steps are drawn. begins: of each stage and round, by its label, in order.

    spans: by run and net. aligned: whether steps move to where their stage begins.
    """

    begins: dict[str, int]
    spans: list[dict[int, list[Span]]]
    aligned: bool

    @classmethod
    def of(cls, records: Sequence[Record]) -> Places:
        """One run by its own steps; of several, a stage is as wide as the longest of its kind."""
        by_run = [spans(record) for record in records]
        every = [span for nets in by_run for found in nets.values() for span in found]
        if len(records) == 1:
            begins: dict[str, int] = {}
            for span in sorted(every, key=lambda span: span.first):
                begins.setdefault(span.label, span.first)
            return cls(begins, by_run, aligned=False)
        labels = sorted({span.label for span in every}, key=_order)
        begins, end = {}, 0
        for label in labels:
            begins[label] = end
            end += max(span.last - span.first for span in every if span.label == label)
        return cls(begins, by_run, aligned=True)

    def of_curve(
        self, run: int, writer: str, steps: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the points of a net of a run are drawn, [n] each; an unfinished stage comes last.

        Stages are separated by NaN, so that no line connects them across a stage of other runs.
        """
        own = self.spans[run].get({"net1": 1, "net2": 2}.get(writer, 0), [])
        if not self.aligned or not own:
            return steps, values
        x: list[float] = []
        y: list[float] = []
        for number, span in enumerate(own):
            last = span.last if number + 1 < len(own) else np.inf
            inside = (span.first < steps) & (steps <= last)
            x += [*(steps[inside] - span.first + self.begins[span.label]), np.nan]
            y += [*values[inside], np.nan]
        return np.array(x[:-1]), np.array(y[:-1])

    def marks(self) -> list[tuple[int, str]]:
        """(position, label) of every stage and round; '' where the label does not fit on a phone.

        Rounds after the first are labelled with their number only. Stages take precedence.
        """
        width = max((begin + self._width(label) for label, begin in self.begins.items()), default=0)
        words = {
            label: label if label in ("IAE", "round 1", "final") else label.split()[1]
            for label in self.begins
        }
        taken: list[tuple[float, float]] = []
        shown = set()
        for label in sorted(self.begins, key=lambda label: label.startswith("round")):
            first = self.begins[label]
            last = first + width * LETTER * (len(words[label]) + 1)
            if all(last <= left or right <= first for left, right in taken):
                taken.append((first, last))
                shown.add(label)
        return [(at, words[label] if label in shown else "") for label, at in self.begins.items()]

    def _width(self, label: str) -> int:
        """Steps of the longest stage or round of this name."""
        every = (span for nets in self.spans for own in nets.values() for span in own)
        return max(span.last - span.first for span in every if span.label == label)


def _order(label: str) -> tuple[int, int]:
    """The order of stages in a run, and of rounds by number."""
    if label.startswith("round"):
        return 1, int(label.split()[1])
    return (0, 0) if label == "IAE" else (2, 0)
