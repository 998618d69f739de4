"""tools/study/oracle_labels.py: classes in place of clusters."""

import json
import types

import numpy as np
import pytest
from PIL import Image
from small import config_of

from mgta_tf.errors import UserError
from mgta_tf.training import trainer
from tools.study import oracle_labels


@pytest.mark.parametrize("right", [0.0, 0.25, 0.5, 1.0])
def test_a_share_is_right_and_the_others_are_random_classes(right):
    classes = np.repeat(np.arange(20), 500)
    labels = oracle_labels.oracle_labels(classes, right, seed=3)
    agreeing = right + (1 - right) / 20  # a random class is right by chance
    assert labels.dtype == np.int32
    assert np.mean(labels == classes) == pytest.approx(agreeing, abs=0.015)
    np.testing.assert_array_equal(labels, oracle_labels.oracle_labels(classes, right, seed=3))
    if right < 1:
        wrong = labels[labels != classes]
        share = np.bincount(wrong, minlength=20) / len(wrong)
        np.testing.assert_allclose(share, 1 / 20, atol=0.02)
        assert (labels != oracle_labels.oracle_labels(classes, right, seed=4)).any()


def test_a_run_trains_with_oracle_labels(tmp_path, monkeypatch):
    seen, train_net = [], trainer.train

    def spy(session, number, images, labels, show):
        if labels is not None:
            seen.append((session.store.labels[images], labels))
        return train_net(session, number, images, labels, show)

    monkeypatch.setattr(trainer, "train", spy)
    monkeypatch.setattr(
        oracle_labels, "RIGHT", types.SimpleNamespace(value=1.0)
    )  # no flags are parsed here
    oracle_labels.main(config_of(tmp_path / "run"))
    assert [len(labels) for _, labels in seen] == [48, 48, 96]  # two halves, then all
    for classes, labels in seen:
        np.testing.assert_array_equal(labels, classes)
    with open(tmp_path / "run" / "summary.json", encoding="utf-8") as file:
        rows = [row for row in json.load(file)["stages"] if row["stage"] != "iae"]
    assert [(row["ari_truth"], row["purity"]) for row in rows] == [(1.0, 1.0)] * 3


def test_images_without_classes_are_refused(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(20):
        Image.new("RGB", (32, 32), (9 * number, 0, 0)).save(photos / f"{number}.png")
    config = config_of(tmp_path / "run", data_source="", data_dir=str(photos), probe_every_rounds=0)
    with pytest.raises(UserError, match="no class labels found"):
        oracle_labels.main(config)
