"""The study's page: hand-worked statistics, and the committed page against the committed rows."""

import json
import os
import re
import statistics
import subprocess

import pytest
from PIL import Image

from mgta_tf.errors import UserError
from tools.study import comparisons
from tools.study import report as study_report
from tools.study import run as study

PLAN = study.load_plan("docs/study.json")
METHODS = comparisons.methods_of(PLAN)


def row(seed, value, **more):
    return {
        "method": "m", "seed": seed, "map": value, "top1": value / 2, "knn": {"20": value + 1},
        "voc_map": None, "seconds": 10.0, "cpu_seconds": 9.0,
        "passes": None, "turns": [], "stuck_at_margin": False,
        "flags": {}, "date": "2026-01-01", "versions": {"tensorflow": "2"}, **more,
    }  # fmt: skip


def rows_of(**known):
    return {name: known.get(name, []) for name in (*METHODS, *PLAN["peers"])}


def test_answers_pair_runs_of_the_same_seed():
    rows = rows_of(
        mgta_100=[row(1, 6.0), row(2, 7.0), row(3, 6.5), row(9, 99.0)],
        iae=[row(1, 5.0), row(2, 5.5), row(3, 5.5)],
    )
    assert comparisons.paired(rows, "mgta_100", "iae") == [1.0, 1.5, 1.0]
    text = comparisons.answer(rows, "Better?", "mgta_100", "iae")
    # mean 7/6, s = 0.28868, s/√3 = 1/6, t(0.975, 2) = 4.3027: ± 0.7171; base 16/3
    assert text == (
        "**Better?** better, +1.17 mAP (+22 %), 95 % interval +0.45 to +1.88 (+8 to +35 %), "
        "3 seeds."
    )
    assert "worse, -1.17" in comparisons.answer(rows, "?", "iae", "mgta_100")


def test_one_seed_is_never_significant():
    rows = rows_of(mgta_100=[row(1, 6.0)], iae=[row(1, 5.0)], random=[row(2, 1.0)])
    assert "+1.00 mAP (+20 %); one seed, no interval" in comparisons.answer(
        rows, "?", "mgta_100", "iae"
    )
    assert comparisons.answer(rows, "?", "iae", "random") == "**?** Not run yet."


def turn(half, ari, stage="mutual"):
    return {"stage": stage, "half": half, "ari_truth": ari}


def test_label_agreement_is_of_the_first_half_in_the_first_round_and_the_last():
    rows = [
        row(1, 5.0, turns=[turn(1, 0.01), turn(2, 0.5), turn(1, 0.02), turn(2, 0.6)]),
        row(2, 5.0, turns=[turn(1, 0.03), turn(2, 0.5), turn(1, 0.04), turn(None, 0.9, "final")]),
        row(3, 5.0),
    ]
    assert comparisons.label_agreement(rows) == "0.020 → 0.030"
    assert comparisons.label_agreement(rows[2:]) == "-"
    # The first round of hard negatives has no labels.
    alone = [row(1, 5.0, turns=[turn(None, None), turn(None, 0.04), turn(None, 0.05)])]
    assert comparisons.label_agreement(alone) == "0.040 → 0.050"


def test_the_table_counts_stuck_runs_and_skips_unknown_costs():
    rows = rows_of(
        iae_longer=[
            row(1, 5.0, cpu_seconds=None), row(2, 6.0, stuck_at_margin=True, cpu_seconds=30.0),
            row(3, 7.0),
        ]
    )  # fmt: skip
    lines = comparisons.table({"iae_longer": METHODS["iae_longer"]}, rows, "iae_longer")
    cells = [cell.strip() for cell in lines[2].split("|")]
    assert cells[3:5] == ["3, 1 stuck at the margin", "6.00 ± 1.00"]
    assert cells[-2] == "20"  # (30 + 9) / 2


def test_questions_are_answered_by_every_evaluation():
    rows = rows_of(
        mgta_100=[row(1, 6.0, voc_map=3.0), row(2, 7.5), row(3, 8.0)],
        iae=[row(1, 5.0, voc_map=1.0), row(2, 6.0), row(3, 7.0, voc_map=2.0)],
    )
    line = comparisons.by_every_evaluation(PLAN, rows)[2]
    # 1, 1.5, 1 as above; top-1 is half of it; both have VOC's mAP with one seed only
    assert line.split(" | ")[1:] == [
        "**+1.17 (+0.45 to +1.88)**", "**+0.58 (+0.22 to +0.94)**", "**+1.17 (+0.45 to +1.88)**",
        "+2.00 |",
    ]  # fmt: skip


def test_a_turn_is_stuck_at_the_margin_if_all_embeddings_are_equal():
    flags = {"margin": 0.3, "lambda_end": 1.0, "normalize_embedding": True, "rounds": 4}
    metrics = {
        "triplet_active": 0.99, "embedding_norm": 20.0, "hardest_positive": 0.015,
        "hardest_negative": 0.010, "pair_distance": 0.024,
    }  # fmt: skip
    assert study.stuck_at_margin(metrics, flags)
    assert not study.stuck_at_margin({**metrics, "pair_distance": 0.9}, flags)
    assert not study.stuck_at_margin(metrics, {**flags, "lambda_end": 0.0})


def test_a_method_like_another_has_its_flags_with_changes():
    plan = {
        "tables": {
            "a": {"one": {"flags": {"x": 1, "y": 2}}, "two": {"like": "one", "flags": {"y": 3}}},
            "b": {"three": {"like": "two"}, "four": {}},
        }
    }
    flags = {name: method["flags"] for name, method in comparisons.methods_of(plan).items()}
    assert flags == {
        "one": {"x": 1, "y": 2}, "two": {"x": 1, "y": 3}, "three": {"x": 1, "y": 3}, "four": {},
    }  # fmt: skip


def test_methods_with_more_photographs_need_their_folder():
    methods = {"one": {}, "two": {"more": True}}
    without, with_more = (
        study.StudyConfig(data_dir="a"),
        study.StudyConfig(data_dir="a", more_dir="b"),
    )
    assert study.runnable(without, methods) == ["one"]
    assert study.runnable(with_more, methods) == ["one", "two"]
    assert [study.photographs(with_more, m) for m in methods.values()] == ["a", "b"]
    asked = study.StudyConfig(plan="docs/study.json", data_dir="a", workdir="w", only="more_iae")
    with pytest.raises(UserError, match=r"more_iae.*--more_dir"):
        study.main(asked)


def test_an_interval_across_0_is_not_significant():
    rows = rows_of(iae=[row(1, 5.0), row(2, 6.0)], random=[row(1, 5.5), row(2, 5.0)])
    assert "not significant, +0.25" in comparisons.answer(rows, "?", "iae", "random")


def test_the_page_and_picture_of_few_runs(tmp_path):
    rows = rows_of(
        iae=[row(1, 5.0), row(2, 6.0)],
        two_views_medium=[row(1, 7.0, passes=71.6), row(2, 9.0, passes=72.4)],
    )
    text = study_report.page(PLAN, rows, {"cifar10": rows_of()}, {"tiny": [], "cifar10": []})
    # −2 and −3: mean −2.5, s = 0.7071, t = 12.706, reach = 12.706 · 0.7071 / √2 = 6.353
    assert (
        "| IAE, stage 1 only | 40 | 5.50 ± 0.71 | -2.50 (-8.85 to +3.85) | 2.75 ± 0.35 |"
    ) in text
    assert "| two views alone | 72 | 8.00 ± 1.41 |  | 4.00 ± 0.71 |" in text
    assert "| the paper's losses, k = 100 | 74 | - | - | - | - | 0 |" in text
    text = study_report.all_methods(PLAN, rows)
    assert "| `iae` | stage 1: reconstruction only | 2 | 5.50 ± 0.71 | - | 2.75 ± 0.35 |" in text
    study_report.draw(PLAN, rows, str(tmp_path / "t.png"))
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.size[0] > 300


def test_the_page_is_short():
    assert len(PLAN["claims"]) == 5
    assert len(PLAN["main"]) <= study_report.MAX_ROWS
    assert len(PLAN["picture"]) <= study_report.MAX_BARS
    assert all(2 <= len(finding["rows"]) <= 4 for finding in PLAN["findings"])


def test_verdicts_are_better_worse_or_not_significant():
    rows = rows_of(
        iae_longer=[row(1, 5.0), row(2, 6.0), row(3, 7.0)],
        mgta_plus=[row(1, 6.0), row(2, 7.5), row(3, 8.0)],
        mgta_auto=[row(1, 4.0), row(2, 4.9), row(3, 6.0)],
        random=[row(1, 0.0), row(2, 0.0), row(3, 0.0)],
        mgta_100=[row(1, 5.5), row(2, 5.5), row(3, 7.0)],
        mgta_300=[row(1, 9.0)],
    )
    # 1, 1.5, 1 as above; -1, -1.1, -1: s = 0.05774, ± 0.1434; 0.5, -0.5, 0: s = 0.5, ± 1.2421
    text = "\n".join(comparisons.verdicts(PLAN, rows))
    better, rest = text.split("Worse:")
    worse, not_significant = rest.split("Not significant (the 95 % interval includes 0):")
    assert "* `mgta_plus` against `iae_longer`: +1.17 (+0.45 to +1.88)" in better
    assert "* `mgta_auto` against `iae_longer`: -1.03 (-1.18 to -0.89)" in worse
    assert "* `mgta_100` against `iae_longer`: +0.00 (-1.24 to +1.24)" in not_significant
    assert "mgta_300" not in text  # one seed has no interval
    assert "random" not in text  # not a way to train


def committed():
    return {
        name: study.experiment.load_rows(f"docs/results/{name}.json")
        for name in (*METHODS, *PLAN["peers"])
    }


def test_the_committed_table_matches_the_committed_files():
    with open("docs/results/all_methods.md", encoding="utf-8") as file:
        text = file.read()
    for name in METHODS:
        path = f"docs/results/{name}.json"
        values, ended = [], ""
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            values = [float(row["map"]) for row in found if "map" in row]
            lost = len(found) - len(values)
            stuck = sum(row.get("stuck_at_margin", row.get("at_rest", False)) for row in found)
            ended = f", {lost} collapsed" if lost else ""
            ended += f", {stuck} stuck at the margin" if stuck else ""
        cells = re.search(rf"^\| `{name}` \|(.*)\|$", text, re.MULTILINE).group(1).split("|")
        assert cells[1].strip() == f"{len(values)}{ended}"
        if values:
            assert float(cells[2].split("±")[0]) == pytest.approx(
                statistics.mean(values), abs=0.006
            )


def test_other_data_and_few_labels_have_a_section_once_they_have_rows():
    nothing = {"tiny": [], "cifar10": []}
    text = study_report.page(PLAN, rows_of(), {"cifar10": rows_of()}, nothing)
    assert "On CIFAR-10" not in text
    assert "With few labels" not in text
    others = {
        "cifar10": rows_of(
            iae=[row(1, 40.0), row(2, 42.0)], two_views_medium=[row(1, 45.0), row(2, 47.0)]
        )
    }
    few = {"part": "rows", "start": "iae", "seed": 1}
    shares = [{**few, "share": share, "accuracy": 900 * share} for share in (0.01, 0.1)]
    text = study_report.page(PLAN, rows_of(), others, {**nothing, "cifar10": shares})
    section = text[text.index("## On CIFAR-10") : text.index("## Findings")]
    assert "| IAE, stage 1 only | 40 | 41.00 ± 1.41 | -5.00 (-5.00 to -5.00) |" in section
    assert "untrained encoder" not in section
    assert "CIFAR-10, 1,000 photographs per class:" in section
    assert "| IAE, stage 1 only | 9.00 | 90.00 | - | 1 |" in section


def test_the_committed_pages_match_the_committed_rows():
    others = {"cifar10": study.load_rows("docs/results/cifar10", PLAN)}
    few = {
        name: study.experiment.load_rows(f"docs/results/few_labels/{name}.json")
        for name in PLAN["few_labels"]["titles"]
    }
    rows, search = committed(), study.experiment.load_rows("docs/results/search.json")
    for path, text in (
        ("docs/results.md", study_report.page(PLAN, rows, others, few)),
        ("docs/results/all_methods.md", study_report.all_methods(PLAN, rows)),
        ("docs/results/search.md", study_report.search_page(PLAN, search)),
    ):
        with open(path, encoding="utf-8") as file:
            assert file.read() == text, path
    with open("README.md", encoding="utf-8") as file:
        assert study_report.summary(PLAN, rows) in file.read()


def test_committed_rows_have_the_flags_of_the_plan():
    for name in METHODS:
        for found in committed()[name]:
            assert found["method"] == name
            assert found["flags"] == study.flags_of(PLAN, METHODS[name])


def test_a_row_of_other_flags_is_not_overwritten(tmp_path):
    (tmp_path / "iae.json").write_text(json.dumps([row(1, 5.0, flags={"width": 9})]))
    config = study.StudyConfig(results=str(tmp_path))
    with pytest.raises(UserError, match="was run with other flags"):
        study.run_one(config, PLAN, "iae", METHODS["iae"], 1)


def test_a_method_with_a_row_is_not_run_again(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(
        study, "train_and_evaluate", lambda *words: ran.append(words[2]) or row(words[5], 5.0)
    )
    config = study.StudyConfig(
        plan="docs/study.json", data_dir="x", workdir="w", results=str(tmp_path / "results"),
        only="random,iae", seeds="1",
    )  # fmt: skip
    study.main(config)
    study.main(config)
    assert ran == ["random", "iae"]
    assert "| `iae` |" in (tmp_path / "results" / "all_methods.md").read_text()


@pytest.mark.parametrize(
    "message",
    [
        "only 19 distinct points for 100 clusters; lower --num_clusters",
        "all features are equal; the net has collapsed",
    ],
)
def test_a_run_that_collapses_is_a_result(tmp_path, monkeypatch, message):
    """A collapse stops the run but not the study, and is shown on the page."""

    def train(command, stdout, **_):
        stdout.write(f"mgta_tf: error: round 2: GLP N2 on D1: {message}\n")
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(study.experiment.subprocess, "run", train)
    monkeypatch.setattr(study, "iae_checkpoint", lambda *_: "iae")
    results = tmp_path / "results"
    config = study.StudyConfig(
        plan="docs/study.json", data_dir="x", workdir=str(tmp_path / "w"), results=str(results),
        only="mean_mse", seeds="2",
    )  # fmt: skip
    study.main(config)
    (found,) = study.experiment.load_rows(str(results / "mean_mse.json"))
    assert "map" not in found
    text = (results / "all_methods.md").read_text()
    assert f"* `mean_mse`, seed 2: round 2: GLP N2 on D1: {message}" in text
    assert re.search(r"^\| `mean_mse` \|.*\| 0, 1 collapsed \| - \|", text, re.MULTILINE)


def test_every_run_starts_from_the_stage_1_that_its_plan_names(tmp_path, monkeypatch):
    trained = {}

    def train(module, flags, _log):
        assert module == "mgta_tf.train"
        trained[flags["workdir"]] = (flags["seed"], flags["iae_epochs"], flags["rounds"])

    monkeypatch.setattr(study.experiment, "command", train)
    config = study.StudyConfig(data_dir="x", workdir=str(tmp_path))

    def start(which, seed):
        return study.iae_checkpoint(config, PLAN, which, seed)

    def run(name, seed):
        return str(tmp_path / f"seed_{seed}" / name / "run")

    assert start("own", 1) == ""
    assert not trained
    assert start("iae", 2) == run("iae", 2)
    assert start("long_iae", 3) == run("long_iae", 3)
    assert trained == {run("iae", 2): (2, 20, 0), run("long_iae", 3): (3, 50, 0)}
    assert start("two", 3) == f"{run('iae', 3)},{run('iae', 1)}"


def test_a_plan_that_starts_from_an_unknown_stage_1_is_refused(tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN).replace('"iae": "long_iae"', '"iae": "lost_iae"'))
    with pytest.raises(UserError, match="lost_iae"):
        study.load_plan(str(plan))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"plan": "nowhere.json"}, "--plan=nowhere.json: not a plan"),
        ({"plan": "docs/study.json", "only": "mgta_9"}, "has no mgta_9"),
        ({"plan": "docs/study.json", "data_dir": "x"}, "--workdir is required"),
    ],
)
def test_bad_input_is_named(flags, message):
    with pytest.raises(UserError, match=message):
        study.main(study.StudyConfig(**flags))


def test_passes_count_views_decoders_and_labels(finished):
    """96 photographs, batches of 16, auto-encoders: 6 + 3 + 3 + 6 steps of 2·16 passes; two GLPs of
    48 photographs and one of 96, each a third of a pass."""
    assert study.passes_of(str(finished)) == pytest.approx((18 * 32 + 192 / 3) / 96, abs=0.01)


def test_a_method_of_plain_flags_has_no_shared_stage_1():
    flags = study.flags_of(PLAN, METHODS["two_views_alone"])
    assert (flags["labels"], flags["decoder"], flags["iae_epochs"]) == ("none", "none", 0)
    assert "num_clusters" not in flags
