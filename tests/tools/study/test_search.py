"""The search: trials, their order, and resuming after a kill."""

import json

import pytest

from mgta_tf.errors import UserError
from tools.study import experiment, search

ARGUMENTS = {"data_dir": "photos", "trials": len(search.FIRST) + 4, "finalists": 2}


class KilledError(Exception):
    pass


@pytest.fixture
def trained(monkeypatch):
    """Records experiments instead of running them; a larger crop area has a larger mAP."""
    done, fail = [], []

    def train_and_evaluate(workdir, train, export, **_):
        name = workdir.rsplit("/", 1)[-1]
        if fail and len(done) == fail[0]:
            fail.clear()
            raise KilledError
        done.append((name, train, export))
        if train.get("normalize_embedding") is False and name.startswith("trial"):
            raise experiment.CollapseError("3 distinct points for 100 clusters")
        return {"map": train.get("crop_min_area", 0.1), "top1": 1.0, "knn": {}, "seconds": 1.0}

    monkeypatch.setattr(experiment, "hold_out", lambda *args, **more: None)
    monkeypatch.setattr(experiment, "command", lambda *args: None)
    monkeypatch.setattr(experiment, "train_and_evaluate", train_and_evaluate)
    return done, fail


def run(folder):
    search.main(search.SearchConfig(workdir=str(folder), **ARGUMENTS))
    return json.loads((folder / "search.json").read_text())


def test_a_killed_search_resumes_with_the_interrupted_trial(tmp_path, trained):
    done, fail = trained
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = run(tmp_path / "whole")
    once = list(done)
    for after in (2, len(search.PEERS) + len(search.FIRST) + 2, len(once) - 1):
        done.clear()
        for old in (tmp_path / "killed").glob("*.json"):
            old.unlink()
        fail.append(after)
        with pytest.raises(KilledError):
            run(tmp_path / "killed")
        assert run(tmp_path / "killed") == whole
        assert [name for name, _, _ in done] == [name for name, _, _ in once]  # none is repeated


def test_the_first_trials_and_the_finalists(tmp_path, trained):
    rows = run(tmp_path)
    trials = search.trials_of(rows)
    assert [row["searched"] for row in trials[: len(search.FIRST)]] == search.FIRST
    assert len(trials) == ARGUMENTS["trials"]
    assert all(row["searched"]["clusters_per_batch"] > 1 for row in trials)
    finals = [row for row in rows if row["method"].startswith("final_")]
    assert finals[0]["method"] == "final_equal"
    best = max(row.get("map", 0.0) for row in trials)
    assert [row["searched"]["crop_min_area"] for row in finals[1:]] == [best] * 2
    assert {row["seed"] for row in finals} == {2}
    by_name = {name: (train, export) for name, train, export in trained[0]}
    assert by_name["random"][1] == {"untrained": True}
    assert by_name["iae_mean"][1] == {"net": "iae"}
    assert "iae_checkpoint" not in by_name["iae_mean"][0]
    assert by_name["equal"][1] == {}
    assert by_name["equal"][0]["iae_checkpoint"] == f"{tmp_path}/iae/run"
    assert by_name["final_equal"][0]["rounds"] == 2 * by_name["equal"][0]["rounds"]


@pytest.mark.usefixtures("trained")
def test_rows_of_other_settings_and_damaged_rows_are_refused(tmp_path):
    rows = run(tmp_path)
    rows[1]["searched"]["margin"] = 7.0
    (tmp_path / "search.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match="iae was run with other flags; move the file away"):
        run(tmp_path)
    (tmp_path / "search.json").write_text("[{")
    with pytest.raises(UserError, match=r"search\.json: damaged"):
        run(tmp_path)
