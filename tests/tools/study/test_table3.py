"""Table 3, on hand-made results."""

import csv
import json

import pytest
from PIL import Image

from mgta_tf.errors import UserError
from tools.study import table3, tables


def run(folder, value, train_set="voc07"):
    """The workdir of a run with the AP `value`; None if it diverged."""
    folder.mkdir()
    found = {
        "ap50_voc07": value,
        "ap50_area": value and value + 1,
        "coco_ap": value and value / 2,
        "per_class": None if value is None else {"cat": value, "cow": None},
        "seconds_per_step": 0.5,
        "diverged": value is None,
        "train_set": train_set,
        "num_train": 600,
        "num_test": 200,
    }
    (folder / "detection.json").write_text(json.dumps(found))
    return str(folder)


@pytest.fixture
def rows(tmp_path):
    return {
        "mine": table3.read([run(tmp_path / "m", 4.0)]),
        "iae": table3.read([run(tmp_path / "i", 12.0), run(tmp_path / "j", 18.0, "voc0712")]),
        "random": table3.read([run(tmp_path / "r", None)]),
    }


def test_text_has_the_papers_rows_in_the_papers_order(rows):
    lines = [line.split() for line in table3.as_text(rows).splitlines()]
    assert lines[1] == ["Random", "-", "-", "-", "-", "-"]
    assert lines[2][:4] == ["IAE", "(baseline)", "11.27", "17.01"]
    assert lines[2][4:] == ["12.00", "13.00", "6.00", "18.00", "19.00", "9.00"]
    assert lines[3] == ["mine", "4.00", "5.00", "2.00"]
    assert lines[4] == ["VOC07", "here:", "600", "images", "to", "train,", "200", "to", "test"]


def test_files(rows, tmp_path):
    table3.write(str(tmp_path), rows)
    with open(tmp_path / "table3.csv") as file:
        read = list(csv.DictReader(file))
    assert read[0]["cat"] == "4.000"
    assert read[0]["cow"] == ""
    assert [row["train_set"] for row in read] == ["voc07", "voc07", "voc0712", "voc07"]
    assert read[3]["diverged"] == "true"
    assert read[3]["ap50_voc07"] == read[3]["cat"] == ""
    assert Image.open(tmp_path / "table3.png").size[0] > 300


def own(folder, per_class):
    """A workdir of own boxes."""
    run(folder, 8.0, "own")
    path = folder / "detection.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "per_class": per_class}))
    return table3.read([str(folder)])


def test_own_boxes_have_their_own_column_and_classes(rows, tmp_path):
    helmets = {"iae": own(tmp_path / "h", {"helmet": 6.0, "hi-vis, vest": 10.0})}
    lines = [line.split() for line in table3.as_text(helmets).splitlines()]
    assert lines[0] == ["encoder", "own", "boxes,", "11", "pt", "area", "COCO"]
    assert lines[1] == ["IAE", "(baseline)", "8.00", "9.00", "4.00"]
    table3.write(str(tmp_path), {**rows, "helmets": helmets["iae"]})
    with open(tmp_path / "table3.csv") as file:
        read = list(csv.DictReader(file))
    assert read[-1]["hi-vis, vest"] == "10.000"
    assert read[-1]["cat"] == read[0]["helmet"] == ""
    other = own(tmp_path / "o", {"boot": 8.0})
    with pytest.raises(
        UserError, match="other detects boot, iae detects helmet, hi-vis, vest; mak"
    ):
        table3.check_classes({**helmets, "other": other, "random": rows["random"]})
    table3.check_classes(rows)


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UserError, match=r"detection\.json: .*has mgta_tf\.detect ended"):
        table3.read([str(tmp_path)])
    twice = [run(tmp_path / "a", 1.0), run(tmp_path / "b", 2.0)]
    with pytest.raises(UserError, match="a second run on voc07 in one row"):
        table3.read(twice)
    with pytest.raises(UserError, match="--runs=a: must be name=DIR"):
        tables.parse_rows("a", "runs")
