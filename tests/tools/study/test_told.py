"""tools/study/told.py: labels that are told in place of clusters."""

import json
import types

import numpy as np
import pytest
from PIL import Image
from small import config_of

from mgta_tf import train
from mgta_tf.errors import UserError
from mgta_tf.run import Run
from tools.study import told


@pytest.mark.parametrize("right", [0.0, 0.25, 0.5, 1.0])
def test_the_share_is_right_and_the_others_are_drawn_among_all_classes(right):
    classes = np.repeat(np.arange(20), 500)
    labels = told.told(classes, right, seed=3)
    agreeing = right + (1 - right) / 20  # a random class is right by chance
    assert labels.dtype == np.int32
    assert np.mean(labels == classes) == pytest.approx(agreeing, abs=0.015)
    np.testing.assert_array_equal(labels, told.told(classes, right, seed=3))
    if right < 1:
        wrong = labels[labels != classes]
        share = np.bincount(wrong, minlength=20) / len(wrong)
        np.testing.assert_allclose(share, 1 / 20, atol=0.02)
        assert (labels != told.told(classes, right, seed=4)).any()


def test_a_run_trains_with_what_it_is_told(tmp_path, monkeypatch):
    taught = []

    def fit(self, number, net, images, labels, start):
        if labels is not None:
            taught.append((self.store.labels[images], labels))
        return Run.fit(self, number, net, images, labels, start)

    monkeypatch.setattr(train, "Run", Run)  # and back again, which `main` does not do
    monkeypatch.setattr(told.ToldRun, "fit", fit, raising=False)
    monkeypatch.setattr(told, "RIGHT", types.SimpleNamespace(value=1.0))  # no flags are parsed here
    told.main(config_of(tmp_path / "run"))
    assert [len(labels) for _, labels in taught] == [48, 48, 96]  # two halves, then all
    for classes, labels in taught:
        np.testing.assert_array_equal(labels, classes)
    with open(tmp_path / "run" / "summary.json", encoding="utf-8") as file:
        rows = [row for row in json.load(file)["stages"] if row["stage"] != "iae"]
    assert [(row["ari_truth"], row["purity"]) for row in rows] == [(1.0, 1.0)] * 3


def test_images_without_classes_are_refused(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(20):
        Image.new("RGB", (32, 32), (9 * number, 0, 0)).save(photos / f"{number}.png")
    monkeypatch.setattr(train, "Run", Run)
    config = config_of(tmp_path / "run", data_source="", data_dir=str(photos), probe_every_rounds=0)
    with pytest.raises(UserError, match="no classes in it to tell"):
        told.main(config)
