"""The study's page: hand-worked statistics, and the committed page against the committed rows."""

import json
import os
import re
import statistics
import subprocess

import pytest
import study
import study_report
from PIL import Image

from mgta_tf.errors import UserError

PLAN = study.load_plan("docs/study.json")
METHODS = study_report.methods_of(PLAN)


def row(seed, value, **more):
    return {
        "method": "m", "seed": seed, "map": value, "top1": value / 2, "knn": {"20": value + 1},
        "voc_map": None, "ari": [], "seconds": 10.0, "cpu_seconds": 9.0, "flags": {},
        "date": "2026-01-01", "versions": {"tensorflow": "2"}, **more,
    }  # fmt: skip


def rows_of(**known):
    return {name: known.get(name, []) for name in METHODS}


def test_answers_pair_runs_of_the_same_seed():
    rows = rows_of(
        mgta_100=[row(1, 6.0), row(2, 7.0), row(3, 6.5), row(9, 99.0)],
        iae=[row(1, 5.0), row(2, 5.5), row(3, 5.5)],
    )
    assert study_report.paired(rows, "mgta_100", "iae") == [1.0, 1.5, 1.0]
    said = study_report.answer(rows, "Better?", "mgta_100", "iae")
    # mean 7/6, s = 0.28868, s/√3 = 1/6, t(0.975, 2) = 4.3027: ± 0.7171; base 16/3
    assert said == "**Better?** Yes: +1.17 mAP (+22 %), 95 % interval +0.45 to +1.88, 3 seeds."
    assert "reverse: -1.17" in study_report.answer(rows, "?", "iae", "mgta_100")


def test_one_seed_decides_nothing_and_none_says_so():
    rows = rows_of(mgta_100=[row(1, 6.0)], iae=[row(1, 5.0)], random=[row(2, 1.0)])
    assert "+1.00 mAP (+20 %) on one seed, which decides nothing" in study_report.answer(
        rows, "?", "mgta_100", "iae"
    )
    assert study_report.answer(rows, "?", "iae", "random") == "**?** Not run yet."


def test_label_agreement_is_the_mean_of_first_and_last_turns():
    rows = [row(1, 5.0, ari=[0.01, 0.5, 0.02]), row(2, 5.0, ari=[0.03, 0.04]), row(3, 5.0)]
    assert study_report.label_agreement(rows) == "0.020 → 0.030"
    assert study_report.label_agreement([row(1, 5.0, ari=[]), row(3, 5.0)]) == "-"


def test_a_method_that_is_like_another_has_its_flags_and_changes_some():
    plan = {
        "tables": {
            "a": {"one": {"flags": {"x": 1, "y": 2}}, "two": {"like": "one", "flags": {"y": 3}}},
            "b": {"three": {"like": "two"}, "four": {}},
        }
    }
    flags = {name: method["flags"] for name, method in study_report.methods_of(plan).items()}
    assert flags == {
        "one": {"x": 1, "y": 2}, "two": {"x": 1, "y": 3}, "three": {"x": 1, "y": 3}, "four": {},
    }  # fmt: skip


def test_an_interval_across_0_is_undecided():
    rows = rows_of(iae=[row(1, 5.0), row(2, 6.0)], random=[row(1, 5.5), row(2, 5.0)])
    assert "Undecided: +0.25" in study_report.answer(rows, "?", "iae", "random")


def test_the_page_and_picture_of_few_runs(tmp_path):
    rows = rows_of(iae=[row(1, 5.0), row(2, 6.0)])
    text = study_report.page(PLAN, rows, [])
    assert "| `iae` | stage 1: reconstruction only | 2 | 5.50 ± 0.71 | - | 2.75 ± 0.35 |" in text
    assert "| `mgta_300` | the paper's method, k = 300 | 0 | - | - | - | - | - | - |" in text
    study_report.draw(PLAN, rows, str(tmp_path / "t.png"))
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.size[0] > 300


def test_better_worse_and_undecided_are_told_apart():
    rows = rows_of(
        iae_longer=[row(1, 5.0), row(2, 6.0), row(3, 7.0)],
        mgta_plus=[row(1, 6.0), row(2, 7.5), row(3, 8.0)],
        random=[row(1, 4.0), row(2, 4.9), row(3, 6.0)],
        mgta_100=[row(1, 5.5), row(2, 5.5), row(3, 7.0)],
        mgta_300=[row(1, 9.0)],
    )
    # 1, 1.5, 1 as above; -1, -1.1, -1: s = 0.05774, ± 0.1434; 0.5, -0.5, 0: s = 0.5, ± 1.2421
    text = "\n".join(study_report.verdicts(PLAN, rows))
    better, rest = text.split("Worse:")
    worse, undecided = rest.split("No difference that was seen:")
    assert "* `mgta_plus` against `iae_longer`: +1.17 (+0.45 to +1.88)" in better
    assert "* `random` against `iae_longer`: -1.03 (-1.18 to -0.89)" in worse
    assert "* `mgta_100` against `iae_longer`: +0.00 (-1.24 to +1.24)" in undecided
    assert "mgta_300" not in text  # one seed decides nothing


def committed():
    return {name: study.load_rows(f"docs/results/{name}.json") for name in METHODS}


def test_the_committed_tables_say_what_the_committed_files_say():
    with open("docs/results.md", encoding="utf-8") as file:
        text = file.read()
    for name in METHODS:
        path = f"docs/results/{name}.json"
        values, collapsed = [], ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            values = [float(row["map"]) for row in found if "map" in row]
            lost = len(found) - len(values)
            collapsed = f", {lost} collapsed" if lost else ""
        cells = re.search(rf"^\| `{name}` \|(.*)\|$", text, re.MULTILINE).group(1).split("|")
        assert cells[1].strip() == f"{len(values)}{collapsed}"
        if values:
            assert float(cells[2].split("±")[0]) == pytest.approx(
                statistics.mean(values), abs=0.006
            )
    assert text == study_report.page(PLAN, committed(), study.load_rows("docs/results/search.json"))
    with open("README.md", encoding="utf-8") as file:
        assert study_report.summary(PLAN, committed()) in file.read()


def test_committed_rows_were_made_by_the_plan():
    for name, rows in committed().items():
        for found in rows:
            assert found["method"] == name
            assert found["flags"] == study.flags_of(PLAN, METHODS[name])


def test_a_row_of_other_flags_is_not_overwritten(tmp_path):
    (tmp_path / "iae.json").write_text(json.dumps([row(1, 5.0, flags={"width": 9})]))
    config = study.StudyConfig(results=str(tmp_path))
    with pytest.raises(UserError, match="was run with other flags"):
        study.run_one(config, PLAN, "iae", METHODS["iae"], 1)


def test_a_row_that_is_there_is_not_run_again(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(
        study, "train_and_judge", lambda *words: ran.append(words[2]) or row(words[5], 5.0)
    )
    config = study.StudyConfig(
        plan="docs/study.json", data_dir="x", workdir="w", results=str(tmp_path / "results"),
        only="random,iae", seeds="1",
    )  # fmt: skip
    study.main(config)
    study.main(config)
    assert ran == ["random", "iae"]
    assert "| `iae` |" in (tmp_path / "results.md").read_text()


def test_a_run_that_collapses_is_a_result(tmp_path, monkeypatch):
    """A net whose images all look alike to it stops the run, not the study; the page says so."""

    def train(command, stdout, **_):
        stdout.write(
            "mgta_tf: error: round 2: GLP N2 on D1: only 19 of the points are distinct, fewer than "
            "the 100 clusters: lower --num_clusters\n"
        )
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(study.experiment.subprocess, "run", train)
    monkeypatch.setattr(study, "iae_checkpoint", lambda *_: "iae")
    results = tmp_path / "results"
    config = study.StudyConfig(
        plan="docs/study.json", data_dir="x", workdir=str(tmp_path / "w"), results=str(results),
        only="mean_mse", seeds="2",
    )  # fmt: skip
    study.main(config)
    (found,) = study.load_rows(str(results / "mean_mse.json"))
    assert "map" not in found
    text = (tmp_path / "results.md").read_text()
    assert "* `mean_mse`, seed 2: round 2: GLP N2 on D1: only 19 of the points are" in text
    assert re.search(r"^\| `mean_mse` \|.*\| 0, 1 collapsed \| - \|", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"plan": "nowhere.json"}, "--plan=nowhere.json: not a plan"),
        ({"plan": "docs/study.json", "only": "mgta_9"}, "has no mgta_9"),
        ({"plan": "docs/study.json", "data_dir": "x"}, "--workdir is missing"),
    ],
)
def test_bad_input_is_named(flags, message):
    with pytest.raises(UserError, match=message):
        study.main(study.StudyConfig(**flags))
