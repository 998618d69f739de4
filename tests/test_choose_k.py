"""The command on feature files and on images: its choice, its files, its refusals."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import make_blobs

from mgta_tf import choose_k
from mgta_tf.data.sources import DataConfig
from mgta_tf.errors import UserError


@pytest.fixture(scope="module")
def features():
    centers = np.random.default_rng(0).normal(size=(8, 10)) * 10
    return make_blobs(400, centers=centers, random_state=0)[0]


def config_of(tmp_path, **flags):
    return choose_k.ChooseConfig(output=str(tmp_path / "k.json"), **flags)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_k_is_chosen_for_a_feature_file(features, tmp_path, dtype, capsys):
    path = tmp_path / "f.npy"
    np.save(path, features.astype(dtype))
    plot = tmp_path / "k.png"
    choose_k.main(config_of(tmp_path, features=str(path), candidates="4:12:9", plot=str(plot)))
    found = json.loads((tmp_path / "k.json").read_text())
    assert (found["best_k"], found["on_edge"], found["num_points"]) == (8, False, 400)
    assert [row["k"] for row in found["table"]] == list(range(4, 13))
    assert {"k", "ch", "inertia", "seconds"} <= set(found["table"][0])
    assert "K = 8" in capsys.readouterr().out
    with Image.open(plot) as picture:
        assert picture.size[0] > 500


def test_a_choice_on_the_edge_is_reported(features, tmp_path, capsys):
    np.save(tmp_path / "f.npy", features)
    choose_k.main(config_of(tmp_path, features=str(tmp_path / "f.npy"), candidates="8,20,50"))
    assert json.loads((tmp_path / "k.json").read_text())["on_edge"] is True
    assert "K = 8 is the first of the candidates" in capsys.readouterr().out


def test_k_is_chosen_for_images_and_a_saved_model(tmp_path):
    from mgta_tf.models.artifact import Facts, save
    from mgta_tf.models.autoencoder import build_autoencoder
    from mgta_tf.models.encoder import ModelConfig

    model = ModelConfig(width=0.0625, blocks=(1, 1, 1, 1))
    save(build_autoencoder(model), Facts(model, "unit", 32, "n2"), str(tmp_path / "m"))
    data = DataConfig(data_source="shapes", shapes_count=40)
    choose_k.main(
        config_of(tmp_path, saved_model=str(tmp_path / "m"), data=data, candidates="2:6:3")
    )
    found = json.loads((tmp_path / "k.json").read_text())
    assert (found["num_points"], len(found["table"])) == (40, 3)
    assert 0 < found["clusters"]["nmi_truth"] < 1


def test_bad_input_is_named(features, tmp_path):
    words, whole, text = (str(tmp_path / name) for name in ("o.npy", "i.npy", "t.npy"))
    np.save(words, np.array(["a"], object), allow_pickle=True)
    np.save(whole, np.ones((3, 3), int))
    with open(text, "w") as file:
        file.write("hello")
    bad = features.copy()
    bad[3, 4] = np.inf
    np.save(tmp_path / "inf.npy", bad)
    for flags, message in (
        ({}, "give --features, or --saved_model"),
        ({"features": str(tmp_path / "none.npy")}, "none.npy"),
        ({"features": words}, "o.npy"),
        ({"features": whole}, "must be float"),
        ({"features": text}, "t.npy"),
        ({"features": str(tmp_path / "inf.npy")}, "NaN or infinity"),
        ({"features": whole, "candidates": "9,3"}, "--candidates=9,3"),
    ):
        with pytest.raises(UserError, match=message):
            choose_k.main(config_of(tmp_path, **flags))
    with pytest.raises(UserError, match="--output is required"):
        choose_k.main(choose_k.ChooseConfig())
