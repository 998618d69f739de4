"""An experiment in its folder is not repeated, and other flags are refused."""

import json
import os

import pytest

from mgta_tf.errors import UserError
from tools.study import experiment

ASKED = {"train": {"blocks": (2, 2), "seed": 1}, "export": {}, "probe": {"image_size": 32}}


@pytest.fixture
def commands(monkeypatch):
    """(modules that were run, modules that fail); a module writes the files of its command."""
    ran, stop = [], set()

    def command(module, flags, _log):
        ran.append(module)
        if module == "mgta_tf.train":
            os.makedirs(flags["workdir"])
        if module in stop:
            raise UserError("interrupted")
        if module == "mgta_tf.export":
            os.makedirs(flags["output"])
            open(os.path.join(flags["output"], "mgta_tf.json"), "w").close()
        if module == "mgta_tf.probe":
            os.makedirs(flags["output"].replace(".json", "_features"))
            with open(flags["output"], "w", encoding="utf-8") as file:
                json.dump({"map": 5.0}, file)

    monkeypatch.setattr(experiment, "command", command)
    return ran, stop


def test_an_experiment_runs_once_and_reports_its_cost(tmp_path, commands):
    found = experiment.train_and_evaluate(str(tmp_path / "a"), **ASKED)
    assert found["map"] == 5.0
    assert found["seconds"] > 0
    again = experiment.train_and_evaluate(str(tmp_path / "a"), **ASKED)
    assert {key: again[key] for key in found} == found
    assert commands[0] == ["mgta_tf.train", "mgta_tf.export", "mgta_tf.probe"]


def test_an_interrupted_run_resumes_and_reports_no_cost(tmp_path, commands):
    ran, stop = commands
    stop.add("mgta_tf.probe")
    with pytest.raises(UserError, match="interrupted"):
        experiment.train_and_evaluate(str(tmp_path / "a"), **ASKED)
    stop.clear()
    ran.clear()
    found = experiment.train_and_evaluate(str(tmp_path / "a"), **ASKED)
    assert ran == ["mgta_tf.probe"]
    assert (found["map"], found["seconds"], found["cpu_seconds"]) == (5.0, None, None)


@pytest.mark.usefixtures("commands")
def test_a_folder_of_other_flags_is_refused(tmp_path):
    experiment.train_and_evaluate(str(tmp_path / "a"), **ASKED)
    other = {**ASKED, "train": {"blocks": (2, 2), "seed": 2}}
    with pytest.raises(UserError, match=r"a: holds an experiment with other flags; move it away"):
        experiment.train_and_evaluate(str(tmp_path / "a"), **other)


def test_damaged_rows_are_named(tmp_path):
    (tmp_path / "iae.json").write_text("[{")
    with pytest.raises(UserError, match=r"iae\.json: damaged"):
        experiment.load_rows(str(tmp_path / "iae.json"))
    assert experiment.load_rows(str(tmp_path / "none.json")) == []
