"""Training with labels: learning, bitwise equal resumes, and the export."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from small import DATA_AND_NET

from mgta_tf import config as config_lib
from mgta_tf import export, supervised
from mgta_tf.data.store import open_images
from mgta_tf.errors import UserError
from mgta_tf.models.artifact import load_encoder
from mgta_tf.runtime import checkpoints
from mgta_tf.runtime.checkpoints import Checkpoints
from mgta_tf.training.config import SupervisedConfig

FLAGS = {
    **DATA_AND_NET,
    "epochs": 3,
    "batch_size": 16,
    "warmup_steps": 2,
}


def config_of(workdir, **flags):
    return config_lib.from_dict(SupervisedConfig, {**FLAGS, "workdir": str(workdir), **flags})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    supervised.train(config_of(workdir))
    return workdir


def test_the_loss_falls(finished):
    stage = json.loads((finished / "summary.json").read_text())["stages"][0]
    assert stage["stage"] == "supervised"
    assert stage["first"]["loss"] == pytest.approx(np.log(12), rel=0.5)  # 12 classes
    assert stage["loss"] < stage["first"]["loss"]


def test_a_kill_changes_nothing(finished, tmp_path, monkeypatch):
    saves = checkpoints.Checkpoints.save

    def save_and_die(self, position):
        saves(self, position)
        if position.step in deaths:
            deaths.remove(position.step)
            raise KeyboardInterrupt

    deaths = [2, 12, 14]  # epochs have 6 steps
    config = config_of(tmp_path / "w", checkpoint_every_steps=2)
    monkeypatch.setattr(checkpoints.Checkpoints, "save", save_and_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            supervised.train(config)
    supervised.train(config)
    summaries = [json.loads((w / "summary.json").read_text()) for w in (finished, tmp_path / "w")]
    for summary in summaries:
        del summary["stages"][0]["seconds"], summary["stages"][0]["first"]["seconds"]
    assert summaries[0] == summaries[1]
    readers = [
        tf.train.load_checkpoint(str(w / "checkpoints" / "supervised"))
        for w in (finished, tmp_path / "w")
    ]
    names = [n for n in readers[0].get_variable_to_shape_map() if n.startswith("net/")]
    assert len(names) > 20
    for name in names:
        np.testing.assert_array_equal(readers[0].get_tensor(name), readers[1].get_tensor(name))


def test_its_encoder_is_exported(finished, tmp_path):
    export.main(export.ExportConfig(workdir=str(finished), output=str(tmp_path / "s")))
    facts = json.loads((tmp_path / "s" / "mgta_tf.json").read_text())
    assert facts["net"] == "supervised"
    encode = tf.saved_model.load(str(tmp_path / "s")).signatures["encode"]
    image = tf.zeros((1, 32, 32, 3), tf.uint8)
    trained = encode(images=image)["embedding"].numpy()
    untrained = tmp_path / "u"
    export.main(export.ExportConfig(workdir=str(finished), output=str(untrained), untrained=True))
    other = tf.saved_model.load(str(untrained)).signatures["encode"](images=image)["embedding"]
    assert not np.allclose(trained, other)


def test_images_without_classes_are_refused(tmp_path):
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(tmp_path / f"{number}.png")
    config = config_of(tmp_path / "w", data_source="", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="no class labels found"):
        supervised.train(config)


def validation_accuracy(workdir):
    return json.loads((workdir / "summary.json").read_text())["stages"][0]["validation_accuracy"]


def test_validation_accuracy_is_that_of_the_exported_weights(finished):
    """Compared, image by image, with a new classifier restored from the checkpoint."""
    config = config_of(finished)
    store = open_images(dataclasses.replace(config.data, data_split="val"), 32)
    net = supervised.Classifier(tf.distribute.get_strategy(), config, len(store.class_names))
    Checkpoints(str(finished / "checkpoints"), [net], 2).restore(
        open_images(config.data, 32).fingerprint(labels=True)
    )
    right = [
        net.model(store.batch(np.array([i])) / np.float32(255), training=False).numpy().argmax()
        == store.labels[i]
        for i in range(len(store))
    ]
    assert validation_accuracy(finished) == pytest.approx(np.mean(right))


def test_a_frozen_encoder_does_not_change(finished, tmp_path):
    exported = str(tmp_path / "s")
    export.main(export.ExportConfig(workdir=str(finished), output=exported))
    flags = dict(init=exported, epochs=2, seed=7)
    for name, frozen in (("frozen", 2), ("free", 0)):
        supervised.train(config_of(tmp_path / name, frozen_epochs=frozen, **flags))
        output = str(tmp_path / f"{name}_s")
        export.main(export.ExportConfig(workdir=str(tmp_path / name), output=output))
        pairs = zip(*(load_encoder(path)[0].get_weights() for path in (exported, output)))
        same = [np.array_equal(a, b) for a, b in pairs]
        assert all(same) if frozen else not any(same)
    os.rename(exported, f"{exported}_moved")  # a started run no longer needs it
    supervised.train(config_of(tmp_path / "frozen", frozen_epochs=2, **flags))
    stage = json.loads((tmp_path / "frozen" / "summary.json").read_text())["stages"][0]
    assert stage["loss"] < stage["first"]["loss"]  # the classifier was trained


def test_an_encoder_of_another_shape_is_refused_with_the_flag_to_set(
    finished, tmp_path, monkeypatch
):
    exported = str(tmp_path / "s")
    export.main(export.ExportConfig(workdir=str(finished), output=exported))
    monkeypatch.setattr(supervised, "open_images", None)  # before any image is read
    with pytest.raises(UserError, match=r"has --width=0\.0625, but --width=0\.125"):
        supervised.train(config_of(tmp_path / "w", init=exported, width=0.125))


def test_a_share_of_the_labels_is_drawn_from_every_class_and_smaller_shares_are_nested():
    labels = np.repeat(np.arange(4), [50, 10, 3, 1])
    tenth, fifth = (supervised.choose_labelled(labels, share, seed=3) for share in (0.1, 0.2))
    assert np.bincount(labels[tenth]).tolist() == [5, 1, 1, 1]
    assert np.bincount(labels[fifth]).tolist() == [10, 2, 1, 1]
    assert set(tenth) <= set(fifth)
    assert supervised.choose_labelled(labels, 1.0, 3).tolist() == list(range(64))
    assert set(supervised.choose_labelled(labels, 0.2, 4)) != set(fifth)
