"""The lines at the terminal, for readers who do not know the paper."""

import pytest
from small import config_of

from mgta_tf.training import wording
from mgta_tf.training.losses import LossConfig
from mgta_tf.training.timeline import Timeline

FOUR_ROUNDS = dict(rounds=4, num_clusters=300)
VIEWS = dict(labels="none", decoder="none", iae_epochs=0, rounds=0, views_per_image=4)


def titles(**flags):
    config = config_of("w", **flags)
    timeline = Timeline.of(config, 1000)
    history, lines = [], []
    for turn, images in zip(timeline.turns, timeline.images):
        clusters = wording.clusters_of(turn, config.cluster, history)
        lines.append(wording.title(turn, config, images, clusters))
        if turn.process == "GLP":
            history.append({**turn.about(), "num_clusters": 300})
    return lines


def test_a_run_of_three_stages():
    lines = titles(**FOUR_ROUNDS)
    assert lines[:5] == [
        "stage 1 of 3: net 1 learns to reconstruct 1,000 images (IAE)",
        "stage 2 of 3, round 1 of 4: net 1 groups 500 images into 300 clusters (GLP)",
        "stage 2 of 3, round 1 of 4: net 2 learns from net 1's 300 clusters (TMP)",
        "stage 2 of 3, round 1 of 4: net 2 groups 500 images into 300 clusters (GLP)",
        "stage 2 of 3, round 1 of 4: net 1 learns from net 2's 300 clusters (TMP)",
    ]
    assert lines[-1] == "stage 3 of 3: net 2 learns from net 1's 300 clusters of all images (TMP)"


def test_an_unknown_number_of_clusters_is_omitted():
    glp, tmp = titles(num_clusters="auto")[1:3]
    assert glp.endswith("net 1 groups 500 images into clusters (GLP)")
    assert tmp.endswith("net 2 learns from net 1's 300 clusters (TMP)")


def test_a_net_that_guides_itself_learns_from_its_own_clusters():
    assert "net 2 learns from its own 300 clusters (TMP)" in titles(guidance="self")[2]


def test_a_single_stage_and_a_single_net_have_no_numbers():
    """Nor do they name a process of the paper, which has no such run."""
    assert titles(**VIEWS) == ["the net learns to match 4 views of each of 1,000 images"]


def test_hard_negatives_are_named_once_there_are_clusters():
    flags = {**VIEWS, "labels": "hard_negatives", "rounds": 2, "num_clusters": 300}
    views = "the net learns to match 4 views of each of 1,000 images"
    assert titles(**flags) == [
        f"stage 2 of 3, round 1 of 2: {views}",
        "stage 2 of 3, round 2 of 2: the net groups 1,000 images into 300 clusters (GLP)",
        f"stage 2 of 3, round 2 of 2: {views}, in batches from 4 of its 300 clusters (TMP)",
        "stage 3 of 3: the net groups 1,000 images into 300 clusters (GLP)",
        f"stage 3 of 3: {views}, in batches from 4 of its 300 clusters (TMP)",
    ]


@pytest.mark.parametrize(
    ("point", "lambda1", "weight", "words"),
    [
        (
            {"loss": 5.9, "reconstruction_loss": 3.9, "triplet_loss": 0.02},
            100.0,
            1.0,
            "loss 5.9 = reconstruction 3.9 + 100 × triplet 0.02",
        ),
        (
            {"loss": 2.1, "reconstruction_loss": 4.0, "triplet_loss": 0.2},
            0.5,
            0.5,
            "loss 2.1 = 0.5 × reconstruction 4 + 0.5 × triplet 0.2",
        ),
        (
            {"loss": 3.9, "reconstruction_loss": 3.9, "triplet_loss": 0.0},
            0.0,
            0.5,  # ignored in stage 1
            "loss 3.9 = reconstruction 3.9",
        ),
        ({"loss": 2.0, "triplet_loss": 0.02}, 100.0, 1.0, "loss 2 = 100 × triplet 0.02"),
    ],
)
def test_the_parts_of_a_loss_have_their_factors(point, lambda1, weight, words):
    """The parts with their factors add up to the loss: eq. 8."""
    assert wording.loss(point, lambda1, weight) == words


def test_the_result_of_a_turn():
    first = {"reconstruction_loss": 12.0, "triplet_loss": 0.0}
    tmp = {"process": "TMP", "reconstruction_loss": 3.4, "triplet_loss": 0.0, "first": first}
    assert wording.result(tmp) == "reconstruction 12 → 3.4"
    glp = {"process": "GLP", "num_clusters": 30, "smallest": 1, "largest": 9, "nmi_truth": 0.25}
    line = wording.result({**glp, "empty_clusters": 2, "nmi_chance": 0.125})
    assert line == (
        "30 clusters of 1 to 9 images, 2 empty ones re-seeded, NMI with the classes 0.250 "
        "(by chance 0.125)"
    )


def test_the_untrained_net_and_chance_are_printed_before_the_first_turn():
    untrained = {"probe_knn": 12.34, "nmi_truth": 0.125, "neighbors": 30.0}
    assert wording.baselines(untrained, {"probe_knn": 10.0}) == (
        "untrained net: 20-NN accuracy 12.3 % (by chance 10.0 %), "
        "NMI of its clusters with the classes 0.125"
    )
    assert wording.baselines({"neighbors": 30.0}, {}) == ""


NEAR = dict(triplet_active=1.0, embedding_norm=9.0, hardest_positive=0.01, hardest_negative=0.01)


@pytest.mark.parametrize(
    ("changes", "late", "words"),
    [
        ({}, True, "has stayed at its margin (0.3) or above: the positive is 0.01 away"),
        ({}, False, ""),  # it may learn yet
        ({"pair_distance": 0.01}, False, "has collapsed: the triplet loss is stuck at its margin"),
        ({"hardest_negative": 0.5}, True, ""),
        ({"triplet_active": 0.5}, True, ""),
    ],
)
def test_a_triplet_loss_at_its_margin_is_reported_when_it_is_a_problem(changes, late, words):
    text = wording.trouble({**NEAR, "pair_distance": 1.0, **changes}, LossConfig(), late)
    assert words in text
    assert bool(words) == bool(text)
