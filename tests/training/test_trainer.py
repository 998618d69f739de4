"""The batches of a run with hard negatives, and its resume."""

import json

import numpy as np
import pytest
from small import config_of, killed_at

from mgta_tf import train
from mgta_tf.errors import UserError
from mgta_tf.training import trainer

SIMILAR = {
    "labels": "hard_negatives",
    "rounds": 2,
    "epochs_per_round": 1,
    "final_epochs": 1,
    "decoder": "none",
    "iae_epochs": 0,
    "num_clusters": 4,
    "clusters_per_batch": 2,
    "images_per_cluster": 8,
    "views_per_image": 2,
    "checkpoint_every_steps": 1,
}


def trainings_of(config, monkeypatch):
    """The run's session, and what each of its TMPs has returned."""
    found, original = [], trainer.train

    def keep(*arguments):
        found.append(original(*arguments))
        return found[-1]

    with monkeypatch.context() as patched:
        patched.setattr(trainer, "train", keep)
        return train.train(config), found


def test_hard_negatives_share_batches_and_have_labels_of_their_own(tmp_path, monkeypatch):
    workdir = tmp_path / "w"
    session, trainings = trainings_of(config_of(workdir, **SIMILAR), monkeypatch)
    assert len(trainings) == 3
    for trained in trainings:
        assert trained.plan.shape == (96 // 16, 16)
        np.testing.assert_array_equal(trained.label_of, np.arange(96))  # views are the positives
        np.testing.assert_array_equal(trained.plan[:, ::2], trained.plan[:, 1::2])  # two of each
    assert all(len(set(row)) == 8 for row in trainings[0].plan)  # at random: 8 different images
    clusters = session.labels[None]  # of the last GLP, by which the last TMP has drawn
    for row in clusters[trainings[-1].plan].reshape(6, 2, 8):
        assert len(set(row[0])) == len(set(row[1])) == 1
    summary = json.loads((workdir / "summary.json").read_text())
    assert [one["num_clusters"] for one in summary["labellings"]] == [4, 4]
    assert all(one["nmi_nets"] is None for one in summary["labellings"])  # there is no other net
    assert summary["labellings"][1]["nmi_previous"] is not None


def test_hard_negatives_resume_with_the_same_weights(tmp_path, capsys):
    whole = train.train(config_of(tmp_path / "whole", **SIMILAR))
    config = config_of(tmp_path / "w", **SIMILAR)
    with killed_at(lambda at: (at.turn, at.step) == (2, 3)):  # in round 2, after its GLP
        train.train(config)
    capsys.readouterr()
    resumed = train.train(config)
    assert "at step 3 of 6: stage 2 of 3, round 2 of 2: the net" in capsys.readouterr().out
    assert len(whole.nets[0].model.variables) > 30
    for one, other in zip(whole.nets[0].model.variables, resumed.nets[0].model.variables):
        np.testing.assert_array_equal(one, other, err_msg=one.name)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"rounds": 0}, "--rounds=0 --final_epochs=1 with --labels=hard_neg.*set --rounds=1 or"),
        ({"final_epochs": 0, "rounds": 1}, "--rounds=1 --final_epochs=0 with --labels=hard_neg"),
        ({"images_per_cluster": 2}, "--images_per_cluster=2 with .*only one image of each"),
        ({"clusterer": "hdbscan"}, "needs a cluster for every image; give neither --clusterer"),
        ({"core_fraction": 0.5}, "needs a cluster for every image; give neither --clusterer"),
        (
            {"views_per_image": 1},
            "--labels=hard_negatives with --views_per_image=1.*set --views_per_image=2",
        ),
    ],
)
def test_flags_that_do_not_fit_hard_negatives(flags, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train.train(config_of(tmp_path / "w", **{**SIMILAR, **flags}))
