"""The report's figures, as Plotly's JSON; the page chooses the colors of text, axes and grid."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix

from mgta_tf.clustering.clusters import NOISE
from mgta_tf.errors import UserError
from mgta_tf.reporting.record import Members, Record
from mgta_tf.runtime import files

# Okabe and Ito's colors, distinguishable for color-blind eyes, those that show on light and dark.
COLORS = ("#0b84c6", "#d96c1e", "#009e73", "#c068a0", "#b8860b", "#7f7f7f")
LEGEND = dict(orientation="h", yanchor="bottom", y=1.02, x=0)  # grows upward on a phone
BASELINES = {"untrained": ("untrained net", "dash"), "chance": ("by chance", "dot")}
# Of the quick evaluations: name, dash among several runs, and color of one run and of baselines.
EVALUATED = {
    "probe_knn": ("20-NN", "solid", COLORS[3]),
    "probe_map": ("SVM mAP", "dot", COLORS[4]),
}
FLOWING = 8  # largest clusters of a labelling, which the flows show separately


def as_json(figure: go.Figure) -> dict[str, Any]:
    """What Plotly.newPlot takes."""
    figure.update_layout(template="none", margin=dict(l=56, r=12, t=36, b=44))
    return json.loads(figure.to_json())


def plain(name: str) -> str:
    """A file's name where Plotly would read tags in it."""
    return name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# --------------------------------------------------------------------------------------- Clusters


def agreement(record: Record) -> go.Figure | None:
    """NMI of every labelling with the round before, with the other net, with the truth.

    Beside the agreement with the truth: by chance, and of the untrained net's clusters where a
    labelling has as many images, on which NMI depends.
    """
    untrained = record.baselines.get("untrained", {})
    rows = [
        {**row, "untrained": untrained.get("nmi_truth")}
        if row["images"] == untrained.get("clustered")
        else row
        for row in record.labellings
    ]
    kinds = {
        "nmi_previous": ("round before", COLORS[0], "solid"),
        "nmi_nets": ("other net", COLORS[1], "solid"),
        "nmi_truth": ("classes", COLORS[2], "solid"),
        "nmi_chance": ("classes, by chance", COLORS[2], "dot"),
        "untrained": ("classes, untrained net", COLORS[2], "dash"),
    }
    figure = go.Figure()
    places = [labelling_name(row, record.one_net) for row in rows]
    for key, (name, color, dash) in kinds.items():
        values = [row.get(key) for row in rows]
        if any(value is not None for value in values):
            figure.add_trace(
                go.Scatter(
                    x=places,
                    y=values,
                    name=name,
                    mode="lines+markers",
                    line=dict(color=color, dash=dash, width=2),
                    connectgaps=True,
                )
            )
    if not figure.data:
        return None
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(title_text="NMI with", range=[0, 1.05])
    figure.update_layout(height=380, showlegend=True, legend=LEGEND)
    return figure


def labelling_name(row: dict[str, Any], one_net: bool) -> str:
    """'round 2 · N1', 'final · N1'; 'round 2' where there is one net."""
    where = "final" if row["stage"] == "final" else f"round {row['round']}"
    return where if one_net else f"{where} · N{row['net']}"


def sizes(members: Members, kind: str) -> go.Figure:
    """Images of every cluster, largest first. kind: what they are called."""
    order = np.argsort(-members.sizes, kind="stable")
    order = order[members.sizes[order] > 0]
    figure = go.Figure(
        go.Bar(
            x=np.arange(1, len(order) + 1),
            y=members.sizes[order],
            customdata=order,
            marker=dict(color=COLORS[0], line=dict(width=0)),
            hovertemplate=f"{kind} %{{customdata}}: %{{y}} images<extra></extra>",
        )
    )
    figure.update_xaxes(title_text=f"{kind}s, largest first")
    figure.update_yaxes(title_text="images")
    figure.update_layout(height=260, bargap=0.1)
    return figure


def scatter(positions: np.ndarray) -> go.Figure:
    """The map. positions: float32 [n, 2]. The page's script adds colors and what hovering shows."""
    figure = go.Figure(
        go.Scatter(
            x=np.round(positions[:, 0], 2),
            y=np.round(positions[:, 1], 2),
            mode="markers",
            hoverinfo="none",
            marker=dict(size=7, line=dict(width=0)),
        )
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(height=520, hovermode="closest")
    return figure


def flat_map(members: Members) -> np.ndarray:
    """t-SNE of the members' principal coordinates, float32 [n, 2]; below 30, the first two."""
    from sklearn.manifold import TSNE

    count = len(members.coordinates)
    if count < 30:
        wide = np.pad(members.coordinates, ((0, 0), (0, 2)))
        return wide[:, :2]
    perplexity = min(30.0, (count - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init="pca", random_state=0, max_iter=500)
    return tsne.fit_transform(members.coordinates)


# ------------------------------------------------------------------------------------------ Flows


def flows(record: Record) -> tuple[go.Figure | None, list[dict[str, Any]]]:
    """Images that moved between the clusters of one net, labelling by labelling.

    Returns:
      (a Sankey diagram of what enters and leaves the largest clusters, a row for every step with
      its `name`, `images` that both labellings have, and `kept`: the share of them that stays, in
      percent, when every cluster is matched with one of the next so that as many as possible
      stay). (None, []) without two labellings of the same images.
    """
    sequence = _sequence(record)
    if len(sequence) < 2:
        return None, []
    nodes: dict[tuple[int, int], int] = {}  # (place in the sequence, cluster or NOISE): number
    names: list[str] = []
    for place, (_, label_of) in enumerate(sequence):
        kinds, counts = np.unique(list(label_of.values()), return_counts=True)
        largest = kinds[np.argsort(-counts, kind="stable")[:FLOWING]]
        for kind in sorted(largest):
            nodes[place, kind] = len(names)
            names.append(f"cluster {kind}")
        nodes[place, NOISE] = len(names)
        names.append(f"{len(kinds) - len(largest)} smaller")
    links: collections.Counter[tuple[int, int]] = collections.Counter()
    rows = []
    for place, ((before, old), (after, new)) in enumerate(zip(sequence, sequence[1:])):
        pairs = [(old[image], new[image]) for image in old if image in new]
        for one, other in pairs:
            if (place, one) in nodes or (place + 1, other) in nodes:
                source = nodes.get((place, one), nodes[place, NOISE])
                target = nodes.get((place + 1, other), nodes[place + 1, NOISE])
                links[source, target] += 1
        table = contingency_matrix(*zip(*pairs))
        kept = table[linear_sum_assignment(-table)].sum() / len(pairs)
        rows.append({"name": f"{before} → {after}", "images": len(pairs), "kept": 100 * kept})
    return _sankey(names, links), rows


def _sankey(names: list[str], links: collections.Counter[tuple[int, int]]) -> go.Figure:
    """names: of the nodes; those that stand for many clusters are gray. links: images by pair."""
    gray = [name.endswith("smaller") for name in names]
    color = ["#8a8f98" if g else COLORS[i % 5] for i, g in enumerate(gray)]
    faint = ["rgba(138,143,152,0.18)" if g else _faint(c) for g, c in zip(gray, color)]
    figure = go.Figure(
        go.Sankey(
            node=dict(label=names, color=color, pad=8, thickness=14, line=dict(width=0)),
            link=dict(
                source=[source for source, _ in links],
                target=[target for _, target in links],
                value=list(links.values()),
                color=[faint[source] for source, _ in links],
            ),
        )
    )
    figure.update_layout(height=460)
    return figure


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.38)"


def _sequence(record: Record) -> list[tuple[str, dict[int, int]]]:
    """(title, image → cluster) of labellings by one net, each of which shares images with the next.

    The net is the one with the longest such sequence.
    """
    best: list[tuple[str, dict[int, int]]] = []
    for net in (1, 2):
        found: list[tuple[str, dict[int, int]]] = []
        for row in record.labellings:
            if row["net"] == net:
                label_of = _labels(record, row)
                if found and label_of.keys().isdisjoint(found[-1][1]):
                    found = []
                found.append((labelling_name(row, record.one_net), label_of))
        if len(found) > len(best):
            best = found
    return best


def _labels(record: Record, row: dict[str, Any]) -> dict[int, int]:
    """Image → cluster of a labelling; images without one are skipped, all where it has no file.

    Raises:
      UserError: the file is damaged.
    """
    path = record.workdir.labels(row["round"], row["net"] - 1)
    if not os.path.exists(path):
        return {}
    try:
        saved = files.arrays(path, "index", "label")
    except ValueError as error:
        raise UserError(f"{path}: {error}; a run does not need it: delete it") from None
    index, label = saved["index"], saved["label"]
    return dict(zip(index[label != NOISE].tolist(), label[label != NOISE].tolist()))


# ------------------------------------------------------------------------------------- Evaluation


def online_probe(records: Sequence[Record]) -> go.Figure | None:
    """20-NN accuracy and mAP on the run's own images, after the evaluated turns.

    Level lines: by chance, and of the untrained net; of several runs, those of the first.
    """
    figure, many = go.Figure(), len(records) > 1
    for number, record in enumerate(records):
        rows = [row for row in record.stages if row.get("probe_knn") is not None]
        for key, (name, dash, color) in EVALUATED.items():
            if rows:
                line = dict(color=COLORS[number % len(COLORS)], dash=dash, width=2)
                figure.add_trace(
                    go.Scatter(
                        x=[turn_name(row, record.one_net) for row in rows],
                        y=[row[key] for row in rows],
                        name=f"{plain(record.name)} {name}" if many else name,
                        mode="lines+markers",
                        line=line if many else dict(color=color, width=2),
                    )
                )
    if not figure.data:
        return None
    for key, (name, _, color) in EVALUATED.items():
        for baseline, (of, dash) in BASELINES.items():
            value = records[0].baselines.get(baseline, {}).get(key)
            if value is not None:
                line = dict(color=color, dash=dash, width=1.5)
                figure.add_hline(value, line=line, name=f"{name}, {of}", showlegend=True)
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(title_text="percent", rangemode="tozero")
    figure.update_layout(height=380, showlegend=True, legend=LEGEND)
    return figure


def turn_name(row: dict[str, Any], one_net: bool) -> str:
    """'IAE', 'round 2 · N1', 'final · N2'; 'round 2' where there is one net; 'training' where it
    learned without clusters."""
    if trained_without_clusters(row):
        return "training"
    return "IAE" if row["stage"] == "iae" else labelling_name(row, one_net)


def trained_without_clusters(row: dict[str, Any]) -> bool:
    """Whether a TMP learned from views alone: the only stage that --labels=none has of the three.

    row: of `Record.stages`.
    """
    return row["stage"] == "final" and row.get("num_clusters") is None
