"""The report's loss curves, by hand: ticks, marks, and the aligned stages of several runs."""

import numpy as np
import pytest

from mgta_tf.reporting import curves, record
from mgta_tf.runtime.workdir import Workdir


def run(name, *stages, points=None):
    """A run with these (stage, round, net, steps), and a point at every step of a net."""
    rows = [
        {"stage": stage, "round": number, "net": net, "steps": steps}
        for stage, number, net, steps in stages
    ]
    ends = {f"net{net}": sum(s[3] for s in stages if s[2] == net) for net in (1, 2)}
    steps = {net: np.arange(1, end + 1) for net, end in ends.items() if end}
    tags = ("reconstruction_loss", "triplet_loss", "hardest_positive", "hardest_negative")
    drawn = {net: dict.fromkeys(tags, (at, at * 0.01)) for net, at in steps.items()}
    return record.Record(
        name=name,
        workdir=Workdir("w"),
        flags={},
        changed=[],
        supervised=False,
        summary={"stages": rows, "num_images": 10},
        finished=True,
        baselines={},
        updated="",
        curves=points or drawn,
        members=None,
        probes={},
        detection={},
    )


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.04, 0.5, [0.05, 0.1, 0.2, 0.5]),
        (0.05, 0.09, [0.05, 0.06, 0.07, 0.08, 0.09]),
        (0.011, 9.0, [0.01, 0.1, 1]),
        (1e-6, 1e6, [1e-6, 1e-4, 1e-2, 1, 100, 1e4, 1e6]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round_numbers_within_it(low, high, ticks):
    assert curves.log_ticks(np.array([low, high, 0.0, np.nan])) == ticks
    assert len(ticks) <= curves.TICKS


def test_ticks_are_written_out_in_the_figure():
    figure = curves.losses([run("a", ("iae", 0, 1, 50))])
    assert figure.layout.yaxis.type == "log"
    assert {"0.05", "0.1", "0.2", "0.5"} <= set(figure.layout.yaxis.ticktext)


def test_every_axis_has_a_title_and_no_mark_overlaps_one():
    figure = curves.losses([run("a", ("iae", 0, 1, 50), ("final", 1, 2, 30))])
    axes = [figure.layout[name].title.text for name in ("yaxis", "yaxis2", "yaxis3")]
    assert axes == ["loss", "loss", "distance"]
    titles = [note for note in figure.layout.annotations if "loss" in note.text]
    marks = [note for note in figure.layout.annotations if note.text in ("IAE", "final")]
    assert len(titles) == len(marks) == 2
    assert all(note.yanchor == "bottom" for note in titles)  # above its panel
    assert all((note.y, note.yanchor) == (1, "top") for note in marks)  # within it


def test_stages_of_a_single_run_begin_at_their_own_steps():
    one = run(
        "a", ("iae", 0, 1, 100), ("mutual", 1, 2, 30), ("mutual", 1, 1, 30), ("final", 2, 2, 60)
    )
    places = curves.Places.of([one])
    assert places.begins == {"IAE": 0, "round 1": 100, "final": 130}
    assert places.marks() == [(0, "IAE"), (100, ""), (130, "final")]  # too close to be named


def test_stages_of_several_runs_begin_at_the_same_place():
    """Two runs of different lengths, one of which has no stage 1."""
    first = run("a", ("iae", 0, 1, 100), ("mutual", 1, 2, 30), ("final", 2, 2, 60))
    second = run("b", ("mutual", 1, 2, 50), ("mutual", 2, 2, 20), ("final", 3, 2, 10))
    places = curves.Places.of([first, second])
    assert places.begins == {"IAE": 0, "round 1": 100, "round 2": 150, "final": 170}
    steps = np.array([1, 100, 101, 130, 131, 190])  # N2's steps include those of the IAE
    x, y = places.of_curve(0, "net2", steps, steps * 1.0)
    np.testing.assert_array_equal(x, [1, 100, np.nan, 101, 130, np.nan, 171, 230])
    np.testing.assert_array_equal(y, [1, 100, np.nan, 101, 130, np.nan, 131, 190])
    x, _ = places.of_curve(1, "net2", np.array([1, 50, 51, 71, 80]), np.zeros(5))
    np.testing.assert_array_equal(x, [101, 150, np.nan, 151, np.nan, 171, 180])


def test_several_runs_have_separate_panels_for_positives_and_negatives():
    stages = ("iae", 0, 1, 50), ("final", 1, 2, 30)
    figure = curves.losses([run("a", *stages), run("b", *stages)])
    titles = [note.text for note in figure.layout.annotations]
    assert {"Distance to the positive", "Distance to the negative"} <= set(titles)
    looks = {}
    for trace in figure.data:
        looks.setdefault(trace.yaxis, []).append((trace.line.color, trace.line.dash))
    assert all(len(set(of_panel)) == len(of_panel) for of_panel in looks.values())


def test_marks_too_close_together_have_no_names():
    rounds = [("mutual", number, 2, 1) for number in range(1, 11)]
    one = run("a", ("iae", 0, 1, 500), *rounds, ("final", 11, 2, 100))
    marks = curves.Places.of([one]).marks()
    assert len(marks) == 12
    assert [label for _, label in marks if label] == ["IAE", "final"]  # 10 steps apart


def test_steps_of_an_unfinished_stage_follow_the_last_finished_one():
    first, second = run("a", ("iae", 0, 1, 40)), run("b", ("iae", 0, 1, 60))
    x, _ = curves.Places.of([first, second]).of_curve(0, "net1", np.array([40, 45]), np.zeros(2))
    np.testing.assert_array_equal(x, [40, 45])
