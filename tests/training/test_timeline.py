"""The work of a run, counted by hand."""

import pytest
from small import config_of

from mgta_tf.training.timeline import Timeline, work_of


def work(first=0, labelled=True, **flags):
    config = config_of("w", num_clusters=6, **flags)
    timeline = Timeline.of(config, 96)
    return timeline, work_of(timeline, config, first, labelled)


def kinds(pieces):
    return [piece.kind for piece in pieces]


def test_the_work_of_each_turn_is_in_the_order_of_the_run():
    timeline, turns = work()
    assert len(turns) == len(timeline.turns) == 7
    for turn, images, steps, pieces in zip(timeline.turns, timeline.images, timeline.steps, turns):
        if turn.process == "GLP":
            assert kinds(pieces) == ["encode", "compare", "cluster", "gallery", "save"]
            assert [piece.units for piece in pieces[:3]] == [images, images, 6 * images]
        else:
            last = ["close"] if turn is timeline.turns[-1] else []
            assert kinds(pieces) == ["train", "probe", "show", "save", *last]
            assert pieces[0].units == steps


def test_a_run_without_epochs_has_no_work():
    timeline, turns = work(iae_epochs=0, rounds=0, final_epochs=0)
    assert timeline.turns == turns == ()


def test_a_step_costs_three_passes_through_encoder_and_decoder():
    images = 4 * 4  # P·K
    assert work()[1][0][0].weight == 3 * 2 * images
    views = dict(labels="none", iae_epochs=0, rounds=0, views_per_image=4, decoder="none")
    assert work(**views)[1][0][0].weight == 3 * images


def test_each_net_builds_its_graphs_once_per_process():
    _, turns = work(labelled=False)  # else the untrained net has encoded images before
    assert [pieces[0].builds > 0 for pieces in turns] == [True] * 3 + [False] * 4
    assert (
        sum(piece.builds > 0 for pieces in turns for piece in pieces if piece.kind == "save") == 1
    )
    _, resumed = work(first=4)
    assert [pieces[0].builds > 0 for pieces in resumed] == [False] * 4 + [True, True, True]


def test_images_without_classes_are_not_probed():
    _, turns = work(labelled=False)
    assert not any("probe" in kinds(pieces) for pieces in turns)


def test_k_is_chosen_among_all_candidates_once():
    config = config_of("w", num_clusters="auto", k_candidates="5,7")
    timeline = Timeline.of(config, 96)
    units = [
        piece.units / images
        for pieces, images in zip(work_of(timeline, config, 0, False), timeline.images)
        for piece in pieces
        if piece.kind == "cluster"
    ]
    assert units == pytest.approx([5 + 7 + 6, 6, 6])


def test_k_means_costs_thirty_steps_of_two_operations_for_each_number():
    """At 32 px and a quarter of the channels, in passes of 3.9 million operations."""
    _, turns = work(image_size=32, width=0.25, blocks=(1, 1, 1, 1))
    (of_glp,) = {p.weight for pieces in turns for p in pieces if p.kind == "cluster"}
    forward = 2 * (
        49 * 3 * 16 * 16**2 + sum(17 * (16 * 2**s) ** 2 * (8 / 2**s) ** 2 for s in range(4))
    )
    assert of_glp == pytest.approx(30 * 2 * 512 / forward)


def test_the_groups_of_a_run_without_clusters_cost_passes_of_their_images():
    views = dict(labels="none", decoder="none", iae_epochs=0, rounds=0, views_per_image=4)
    (pieces,) = work(**views)[1]
    assert [p.weight for p in pieces if p.kind == "show"] == [96]


def test_a_single_net_is_not_compared_with_itself():
    flags = dict(labels="hard_negatives", iae_epochs=0, rounds=2, decoder="none", views_per_image=2)
    timeline, turns = work(**flags)
    glps = [pieces for turn, pieces in zip(timeline.turns, turns) if turn.process == "GLP"]
    assert [kinds(pieces) for pieces in glps] == [["encode", "cluster", "gallery", "save"]] * 2
    # 96 images, a batch of 16 views, one epoch a turn
    assert [turn[0].units for turn in turns if turn[0].kind == "train"] == [6, 6, 6]
