"""Training with labels: it learns, resumes to the bit, and can be exported."""

import json

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf import config as config_lib
from mgta_tf import export, supervised
from mgta_tf.errors import UserError
from mgta_tf.runtime import checkpoints
from mgta_tf.training.config import SupervisedConfig

FLAGS = {
    "data_source": "shapes",
    "shapes_count": 96,
    "image_size": 32,
    "width": 0.0625,
    "blocks": (1, 1, 1, 1),
    "epochs": 3,
    "batch_size": 16,
    "warmup_steps": 2,
}


def config_of(workdir, **flags):
    return config_lib.from_dict(SupervisedConfig, {**FLAGS, "workdir": str(workdir), **flags})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "w"
    supervised.main(config_of(workdir))
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
            supervised.main(config)
    supervised.main(config)
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
    with pytest.raises(UserError, match="no classes in it"):
        supervised.main(config)
