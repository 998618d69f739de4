"""Table 2, on hand-made results."""

import csv
import json

import pytest
from PIL import Image

from mgta_tf.errors import UserError
from mgta_tf.evaluation import features
from tools.study import table2, tables


def result(value, **more):
    return {
        "map": value,
        "per_class": {"cat": value + 1, "cow": None, "dog": value - 1},
        "num_train": 12,
        "num_test": 34,
        "endpoint": "res4",
        "pool": "average 8×8, stride 3",
        "ap": "area",
        "top1": None,
        "knn": None,
        **more,
    }


def test_text_has_the_papers_rows_in_the_papers_order():
    text = table2.as_text({"mine": result(7.0), "iae": result(30.25), "random": result(10.0)})
    lines = [line.split() for line in text.splitlines()]
    assert lines[1] == ["Random", "8.0", "10.0"]
    assert lines[2] == ["IAE", "(baseline)", "23.8", "30.2"]
    assert lines[3] == ["mine", "-", "7.0"]
    assert "12 images to fit, 34 to test" in text
    assert "classes without positives, not in the mean: cow" in text


def test_accuracies_are_shown_if_there_are_any():
    text = table2.as_text({"iae": result(30.0, top1=12.0, knn={"20": 9.0})})
    assert text.splitlines()[1].split()[-2:] == ["12.0", "9.0"]


def test_csv_and_picture(tmp_path):
    table2.write(str(tmp_path), {"random": result(10.0), "iae": result(20.0)})
    with open(tmp_path / "table2.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "encoder": "iae",
        "map": "20.000",
        "cat": "21.000",
        "cow": "",
        "dog": "19.000",
    }
    assert Image.open(tmp_path / "table2.png").size[0] > 300


@pytest.mark.parametrize("text", ["", "a", "a=", "a=x,a=y", "=x"])
def test_models_must_be_named(text):
    with pytest.raises(UserError, match="--models="):
        tables.parse_rows(text, "models")
    assert tables.parse_rows("a=x,b=y", "models") == {"a": "x", "b": "y"}


def test_a_result_of_another_encoder_is_not_reused(tmp_path):
    model, path = tmp_path / "m", tmp_path / "row.json"
    model.mkdir()
    (model / "saved_model.pb").write_bytes(b"one")
    assert not table2._is_of(str(path), str(model))
    path.write_text(json.dumps({"encoder": features.model_digest(str(model))}))
    assert table2._is_of(str(path), str(model))
    (model / "saved_model.pb").write_bytes(b"two")
    assert not table2._is_of(str(path), str(model))
