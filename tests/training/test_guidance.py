"""The order of turns (GLP or TMP, net, half), written by hand from the paper."""

import numpy as np
import pytest

from mgta_tf.training import guidance
from mgta_tf.training.guidance import GuidanceConfig

# One round as (process, net, half), nets and halves as the paper counts them: from 1.
ROUNDS = {
    ("sequential", "mutual"): [("GLP", 1, 2), ("TMP", 2, 2), ("GLP", 2, 1), ("TMP", 1, 1)],
    ("parallel", "mutual"): [("GLP", 1, 2), ("GLP", 2, 1), ("TMP", 2, 2), ("TMP", 1, 1)],
    ("sequential", "self"): [("GLP", 2, 2), ("TMP", 2, 2), ("GLP", 1, 1), ("TMP", 1, 1)],
    ("parallel", "self"): [("GLP", 2, 2), ("GLP", 1, 1), ("TMP", 2, 2), ("TMP", 1, 1)],
}
FINAL = {
    "mutual": [("GLP", 1, "all"), ("TMP", 2, "all")],
    "self": [("GLP", 2, "all"), ("TMP", 2, "all")],
}


def as_in_the_paper(turn):
    """(process, net, half), nets and halves counted from 1."""
    return turn.process, turn.net + 1, "all" if turn.half is None else turn.half + 1


@pytest.mark.parametrize("split_policy", ["fixed", "every_round"])
@pytest.mark.parametrize(("schedule", "who"), ROUNDS)
def test_sequence(schedule, who, split_policy):
    config = GuidanceConfig(
        labels="clusters",
        rounds=3,
        schedule=schedule,
        guidance=who,
        split_policy=split_policy,
        iae_epochs=5,
        final_epochs=1,
    )
    expected = [("TMP", 1, "all"), *ROUNDS[schedule, who] * 3, *FINAL[who]]
    assert [as_in_the_paper(turn) for turn in guidance.turns(config)] == expected


def test_epochs_and_lambda_of_the_paper():
    turns = [
        t
        for t in guidance.turns(
            GuidanceConfig(
                labels="clusters",
                iae_epochs=100,
                rounds=10,
                final_epochs=10,
                lambda_start=0.1,
                lambda_end=1.0,
            )
        )
        if t.process == "TMP"
    ]
    assert [t.epochs for t in turns] == [100] + [10] * 21
    by_round = [t.lambda1 for t in turns if t.stage == "mutual" and t.net == 1]
    assert by_round == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert turns[0].lambda1 == 0
    assert turns[-1].lambda1 == 1.0


def test_stages_can_be_skipped():
    assert not list(guidance.turns(GuidanceConfig(iae_epochs=0, rounds=0, final_epochs=0)))
    iae = list(guidance.turns(GuidanceConfig(iae_epochs=1, final_epochs=0)))
    assert [as_in_the_paper(t) for t in iae] == [("TMP", 1, "all")]


def test_one_round_has_the_last_lambda():
    config = GuidanceConfig(labels="clusters", rounds=1, lambda_start=0.1, lambda_end=1.0)
    assert guidance.lambda_of_round(config, 1) == 1.0


@pytest.mark.parametrize("num_images", [10, 11])
def test_halves_are_disjoint_and_complete(num_images):
    first, second = guidance.halves(num_images, 1, GuidanceConfig(), seed=0)
    assert sorted([*first, *second]) == list(range(num_images))
    assert abs(len(first) - len(second)) <= 1


def test_split_policy():
    def split(policy, round_number, seed=0):
        return guidance.halves(100, round_number, GuidanceConfig(split_policy=policy), seed)[0]

    np.testing.assert_array_equal(split("fixed", 1), split("fixed", 2))
    assert not np.array_equal(split("every_round", 1), split("every_round", 2))
    np.testing.assert_array_equal(split("every_round", 2), split("every_round", 2))
    assert not np.array_equal(split("fixed", 1), split("fixed", 1, seed=1))


def test_images_of_a_turn():
    config = GuidanceConfig(labels="clusters", iae_epochs=1, rounds=1)
    turns = list(guidance.turns(config))
    first, second = guidance.halves(9, 0, config, seed=4)
    images = [guidance.images_of(t, 9, config, seed=4) for t in turns]
    np.testing.assert_array_equal(images[0], np.arange(9))
    np.testing.assert_array_equal(images[2], second)
    np.testing.assert_array_equal(images[4], first)
    np.testing.assert_array_equal(images[6], np.arange(9))


def test_without_labels_a_single_net_trains():
    config = GuidanceConfig(final_epochs=7)
    turns = list(guidance.turns(config))
    assert [as_in_the_paper(t) for t in turns] == [("TMP", 2, "all")]
    assert turns[0].epochs == 7
    assert guidance.count_nets(config) == 1
    guided = GuidanceConfig(labels="clusters", rounds=1)
    assert guidance.count_nets(guided) == 2
    images = np.arange(5, dtype=np.int32)
    own = guidance.labels_of(turns[0], images, {}, config)
    assert len(set(own)) == len(own) == 5


def test_with_hard_negatives_one_net_labels_all_images_from_the_second_round_on():
    config = GuidanceConfig(
        labels="hard_negatives", rounds=3, epochs_per_round=4, final_epochs=5, guidance="mutual"
    )
    turns = list(guidance.turns(config))
    once = [("GLP", 2, "all"), ("TMP", 2, "all")]
    assert [as_in_the_paper(turn) for turn in turns] == [("TMP", 2, "all"), *once * 3]
    assert [turn.epochs for turn in turns if turn.process == "TMP"] == [4, 4, 4, 5]
    assert guidance.count_nets(config) == 1
    images, clusters = np.arange(5, dtype=np.int32), np.array([0, 1, 1, 0, 0], np.int32)
    drawn = [guidance.labels_of(t, images, {None: clusters}, config) for t in turns]
    np.testing.assert_array_equal(drawn[0], images)  # views alone, although there are clusters
    for turn, labels in list(zip(turns, drawn))[1:]:
        if turn.process == "TMP":
            np.testing.assert_array_equal(labels, clusters)
