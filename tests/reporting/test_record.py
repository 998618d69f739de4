"""The files of a run as the report reads them, and the figures of them, on hand-worked cases."""

import dataclasses
import glob

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.reporting import curves, figures, page, record
from mgta_tf.runtime.tensorboard import TensorBoardWriter
from mgta_tf.runtime.workdir import Workdir


def log(directory, points):
    board = TensorBoardWriter(directory)
    for step, value in points:
        board.scalars("net1", step, {"triplet_loss": value, "rate": 9.0})
    board.flush()


def test_the_last_value_of_a_repeated_step_counts(tmp_path):
    log(str(tmp_path), [(20, 3.0), (40, 2.0)])
    for path in glob.glob(str(tmp_path / "net1" / "*")):  # renamed as an earlier session's
        tf.io.gfile.rename(path, path.replace("tfevents.", "tfevents.0"))
    log(str(tmp_path), [(40, 1.5), (60, 1.0)])
    curves = record.read_curves(str(tmp_path))
    assert list(curves) == ["net1"]
    assert list(curves["net1"]) == ["triplet_loss"]  # the learning rate is not drawn
    steps, values = curves["net1"]["triplet_loss"]
    assert list(steps) == [20, 40, 60]
    assert list(values) == [3.0, 1.5, 1.0]


def test_a_metric_is_read_under_its_tag_and_as_earlier_versions_wrote_it(tmp_path):
    board = TensorBoardWriter(str(tmp_path))
    board.scalars("net1", 20, {"triplet_loss": 3.0})
    board.metrics("net1", 40, {"triplet_loss": 2.0})
    board.metrics("net1", 60, {"triplet_loss": 1.0})
    board.flush()
    steps, values = record.read_curves(str(tmp_path))["net1"]["triplet_loss"]
    assert (list(steps), list(values)) == ([20, 40, 60], [3.0, 2.0, 1.0])


def test_a_truncated_file_is_read_up_to_the_cut(tmp_path):
    log(str(tmp_path), [(step, 1.0) for step in range(1, 9)])
    (path,) = (tmp_path / "net1").iterdir()
    path.write_bytes(path.read_bytes()[:-80])
    steps, _ = record.read_curves(str(tmp_path))["net1"]["triplet_loss"]
    assert list(steps) == list(range(1, 8))


def test_long_curves_become_means_of_neighbors():
    steps, values = record.thinned({step: float(step) for step in range(1, 1501)})
    assert len(steps) == 500
    assert list(steps[:2]) == [2, 5]
    assert list(values[:2]) == [2.0, 5.0]
    assert (steps[-1], values[-1]) == (1499, 1499.0)


def row(stage, round_number, net, **values):
    return {"stage": stage, "round": round_number, "net": net, **values}


@pytest.fixture
def run(tmp_path):
    """Three labellings of N1 and one of N2.

    Round 2 has round 1's clusters under other numbers, except for image 3.
    """
    workdir = Workdir(str(tmp_path / "w"))
    for number, net, index, label in (
        (1, 0, [0, 1, 2, 3, 4], [0, 0, 1, 1, -1]),
        (1, 1, [5, 6], [0, 1]),
        (2, 0, [0, 1, 2, 3, 4], [1, 1, 0, 1, 0]),
        (3, 0, [0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 1, 1]),
    ):
        distance = np.zeros(len(index))
        workdir.save_labels(number, net, np.array(index), np.array(label), distance)
    summary = {
        "stages": [
            row("iae", 0, 1, steps=100),
            row("mutual", 1, 2, steps=30),
            row("mutual", 1, 1, steps=30),
            row("mutual", 2, 2, steps=30),
            row("mutual", 2, 1, steps=30),
            row("final", 3, 2, steps=60),
        ],
        "labellings": [
            row("mutual", 1, 1),
            row("mutual", 1, 2),
            row("mutual", 2, 1),
            row("final", 3, 1),
        ],
    }
    empty = {"flags": {}, "changed": [], "supervised": False, "finished": True, "updated": ""}
    empty["baselines"] = {}
    empty.update(curves={}, members=None, probes={}, detection={})
    return record.Record(name="w", workdir=workdir, summary=summary, **empty)


def test_rounds_are_marked_where_a_net_begins_them(run):
    places = curves.Places.of([run])
    assert places.begins == {"IAE": 0, "round 1": 100, "round 2": 130, "final": 160}
    assert [position for position, _ in places.marks()] == [0, 100, 130, 160]


def test_flows_are_of_the_net_with_the_most_labellings(run):
    figure, steps = figures.flows(run)
    assert [step["name"] for step in steps] == [
        "round 1 · N1 → round 2 · N1",
        "round 2 · N1 → final · N1",
    ]
    assert [step["images"] for step in steps] == [4, 5]
    assert steps[0]["kept"] == 75  # 0 → 1 keeps two images, 1 → 0 keeps one of two
    assert steps[1]["kept"] == 60  # 1 → 0 keeps three of five; 0 has no counterpart
    (sankey,) = figure.data
    names = list(sankey.node.label)
    links = zip(sankey.link.source, sankey.link.target, sankey.link.value)
    assert [(names[s], names[t], v) for s, t, v in links] == [
        ("cluster 0", "cluster 1", 2),
        ("cluster 1", "cluster 0", 1),
        ("cluster 1", "cluster 1", 1),
        ("cluster 1", "cluster 0", 3),
        ("cluster 0", "cluster 0", 2),
    ]


def test_small_clusters_are_merged_in_the_flows(run):
    index = np.arange(20)
    for number in (1, 2):
        run.workdir.save_labels(number, 0, index, index, np.zeros(20))
    figure, steps = figures.flows(run)
    assert steps[0]["kept"] == 100
    names = list(figure.data[0].node.label)
    assert names.count("12 smaller") == 2
    assert names[: figures.FLOWING] == [f"cluster {i}" for i in range(figures.FLOWING)]


def test_there_are_no_flows_without_images_in_common(run):
    run.summary["labellings"] = run.summary["labellings"][:2]
    assert figures.flows(run) == (None, [])
    run.workdir.save_labels(2, 0, np.array([90]), np.array([0]), np.zeros(1))
    run.summary["labellings"].append(row("mutual", 2, 1))  # a new split may share nothing
    assert figures.flows(run) == (None, [])


def test_thinned_rows_keep_both_ends():
    rows = page.thinned(list(range(100)))
    assert len(rows) == page.ROWS
    assert (rows[0], rows[-1]) == (0, 99)
    assert page.thinned([1, 2]) == [1, 2]
    assert page.thinned([]) == []


def test_status_of_a_run_that_is_not_finished(run):
    assert page.status(run) == "finished"
    summary = {**run.summary, "turns": 11, "turns_done": 6}
    open_ = dataclasses.replace(run, finished=False, summary=summary)
    assert page.status(open_).startswith("not finished: 6 of 11 turns are done")
    nothing = dataclasses.replace(run, finished=False, summary={})
    assert page.status(nothing) == "not finished: no turn has ended yet"


@pytest.mark.parametrize(
    ("value", "words"), [(None, ""), (0.123456, "0.1235"), (1234.5, "1234"), (5e6, "5,000,000")]
)
def test_numbers(value, words):
    assert page.number(value) == words


def test_labellings_of_version_0_1_have_representative_clusters(run):
    """Version 0.1 wrote `telling`; rows of hosts that did not cluster have neither key."""
    old, new = [{"kind": "largest"}], [{"kind": "smallest"}]
    rows = [{"round": 1, "telling": old}, {"round": 2, "representative": new}, {"round": 3}]
    run = dataclasses.replace(run, summary={"labellings": rows})
    assert [row["representative"] for row in run.labellings] == [old, new, None]
