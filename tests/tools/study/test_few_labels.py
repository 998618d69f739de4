"""The few-labels table: its runs, its rows, and its text."""

import json
import os

import pytest

from mgta_tf.errors import UserError
from tools.study import experiment, few_labels

ACCURACY = {
    ("scratch", 1e-3): 0.2,
    ("scratch", 3e-3): 0.3,
    ("net", 3e-4): 0.3,
    ("net", 1e-3): 0.5,
    ("net", 3e-3): 0.4,
}


@pytest.fixture
def runs(monkeypatch):
    """The flags of each training, whose accuracy is in ACCURACY."""
    ran = []

    def command(module, flags, _log):
        assert module == "mgta_tf.supervised"
        ran.append(flags)
        start = "net" if flags.get("init") else "scratch"
        os.makedirs(flags["workdir"])
        accuracy = ACCURACY[start, flags["learning_rate"]] - 0.001 * flags["frozen_epochs"]
        with open(os.path.join(flags["workdir"], "summary.json"), "w", encoding="utf-8") as file:
            json.dump({"stages": [{"validation_accuracy": accuracy}]}, file)

    monkeypatch.setattr(experiment, "command", command)
    monkeypatch.setattr(experiment, "hold_out", lambda *_, **__: None)
    return ran


def config_of(tmp_path, do):
    return few_labels.FewLabelsConfig(
        do=do,
        data_dir="photos",
        starts="scratch,net=saved",
        workdir=str(tmp_path / "w"),
        results=str(tmp_path / "rows.json"),
    )


def test_each_start_is_fine_tuned_with_its_best_settings(tmp_path, runs):
    few_labels.main(config_of(tmp_path, "search"))
    assert {run["data_dir"] for run in runs} == {str(tmp_path / "w" / "held_out")}
    assert len(runs) == 2 + 5  # scratch has nothing to freeze
    runs.clear()
    few_labels.main(config_of(tmp_path, "rows"))
    rates = {(run.get("init"), run["learning_rate"], run["frozen_epochs"]) for run in runs}
    assert rates == {(None, 3e-3, 0), ("saved", 1e-3, 0)}
    assert [run["label_fraction"] for run in runs] == [0.01, 0.1, 1.0] * 2
    assert {run["data_dir"] for run in runs} == {"photos"}
    runs.clear()
    few_labels.main(config_of(tmp_path, "rows"))
    assert not runs


def test_rows_without_a_search_are_refused(tmp_path):
    with pytest.raises(UserError, match="no trial of scratch"):
        few_labels.main(config_of(tmp_path, "rows"))


@pytest.mark.parametrize("text", ["", "net", "scratch=DIR", "a=1,a=2"])
def test_malformed_starts_are_refused(text):
    with pytest.raises(UserError, match="--starts"):
        few_labels.parse_starts(text)


def test_the_table_has_means_and_deviations():
    rows = [
        {"part": "rows", "start": "net", "share": share, "seed": seed, "accuracy": value}
        for share, seed, value in [(0.01, 1, 4.0), (0.01, 2, 6.0), (1.0, 1, 20.0)]
    ]
    rows.append({**rows[0], "part": "search", "accuracy": 99.0})
    assert few_labels.table(rows, {"net": "a net"})[2:] == [
        "| a net | 5.00 ± 1.41 | - | 20.00 | 2 |"
    ]
