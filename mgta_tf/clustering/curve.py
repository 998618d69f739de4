"""Plots of the criteria over the candidates for K."""

from __future__ import annotations

import os

from mgta_tf.clustering.choose import Choice


def draw(choice: Choice, path: str) -> None:
    """Writes a PNG with CH(k) of eq. 2, the inertia, and the criterion if it is another."""
    from matplotlib.figure import Figure

    candidates = [row["k"] for row in choice.table]
    curves = {"Calinski-Harabasz (eq. 2)": "ch", "inertia": "inertia"}
    if choice.criterion != "ch":
        curves = {choice.criterion: "score", **curves}
    figure = Figure(figsize=(4 * len(curves), 3.2), layout="constrained")
    for axes, (title, key) in zip(figure.subplots(1, len(curves)), curves.items()):
        axes.plot(candidates, [row[key] for row in choice.table], "o-", markersize=4)
        axes.axvline(choice.best_k, color="tab:red", linestyle="--", linewidth=1)
        axes.set(title=title, xlabel="number of clusters k")
        axes.grid(alpha=0.3)
    edge = ", on the edge of the candidates" if choice.on_edge else ""
    figure.suptitle(f"K = {choice.best_k} by {choice.criterion}{edge}", color="tab:red")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    figure.savefig(path, dpi=110)
