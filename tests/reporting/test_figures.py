"""The report's figures: what a curve is beside."""

import dataclasses

import pytest

from mgta_tf.reporting import figures
from mgta_tf.reporting.record import Record
from mgta_tf.runtime.workdir import Workdir

BASELINES = {
    "untrained": {"probe_knn": 20.0, "probe_map": 21.0, "nmi_truth": 0.25, "clustered": 100},
    "chance": {"probe_knn": 10.0, "probe_map": 11.0},
}


def run(name="w", baselines=BASELINES, **summary):
    empty = dict(flags={}, changed=[], supervised=False, finished=True, updated="", curves={})
    rest = dict(members=None, probes={}, detection={})
    return Record(name, Workdir("w"), summary=summary, baselines=baselines, **empty, **rest)


def turn(round_number, knn):
    row = dict(stage="mutual", round=round_number, net=1, num_clusters=5)
    return {**row, "probe_knn": knn, "probe_map": knn + 2}


def levels(figure):
    return {line.name: (line.y0, line.line.dash) for line in figure.layout.shapes}


def test_the_quick_evaluation_is_beside_the_untrained_net_and_chance():
    one = run(stages=[turn(1, 30.0), turn(2, 40.0)])
    figure = figures.online_probe([one])
    assert [(c.name, list(c.y)) for c in figure.data] == [
        ("20-NN", [30.0, 40.0]),
        ("SVM mAP", [32.0, 42.0]),
    ]
    assert levels(figure) == {
        "20-NN, untrained net": (20.0, "dash"),
        "20-NN, by chance": (10.0, "dot"),
        "SVM mAP, untrained net": (21.0, "dash"),
        "SVM mAP, by chance": (11.0, "dot"),
    }
    assert all(line.showlegend for line in figure.layout.shapes)
    other = run("other", {}, stages=[turn(1, 35.0)])
    figure = figures.online_probe([one, other])
    assert figure.data[2].name == "other 20-NN"
    assert len(levels(figure)) == 4  # of the first run
    assert levels(figures.online_probe([other])) == {}


@pytest.mark.parametrize(("clustered", "untrained"), [(100, [None, 0.25]), (99, None)])
def test_clusters_are_beside_chance_and_those_of_the_untrained_net(clustered, untrained):
    """NMI depends on the number of images, so half of them are not beside all of them."""
    half = dict(stage="mutual", round=1, net=1, images=50, nmi_truth=0.3, nmi_chance=0.1)
    whole = dict(stage="final", round=2, net=1, images=100, nmi_truth=0.4, nmi_chance=0.05)
    baselines = {"untrained": {**BASELINES["untrained"], "clustered": clustered}}
    figure = figures.agreement(run(baselines=baselines, labellings=[half, whole]))
    found = {curve.name: list(curve.y) for curve in figure.data}
    expected = {"classes": [0.3, 0.4], "classes, by chance": [0.1, 0.05]}
    if untrained:
        expected["classes, untrained net"] = untrained
    assert found == expected


def test_a_run_of_one_net_does_not_name_it():
    """With hard negatives N2 takes all turns of the rounds; with clusters both nets do."""
    row = dict(stage="mutual", round=2, net=2, num_clusters=5, images=100, nmi_truth=0.3)
    for labels, name in (("hard_negatives", "round 2"), ("clusters", "round 2 · N2")):
        one = dataclasses.replace(run(labellings=[row]), flags={"labels": labels})
        assert list(figures.agreement(one).data[0].x) == [name]
        assert figures.turn_name(row, one.one_net) == name
