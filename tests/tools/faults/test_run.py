"""The rows of the fault-injection tests."""

import json

import pytest

from mgta_tf.errors import UserError
from tools.faults import run as faults


def test_cases_with_a_row_are_not_repeated(tmp_path, monkeypatch):
    calls = []

    def case(suite):
        calls.append(suite.before)
        yield {"one": {"tries": 3, "survived": 3, "bytes_lost": 0}}

    monkeypatch.setattr(faults, "cases", lambda: {"one": case})
    config = faults.FaultsConfig(output=str(tmp_path / "f.json"))
    for _ in range(2):
        faults.main(faults.Command(config))
    assert calls == [{}]
    row = json.loads((tmp_path / "f.json").read_text())[0]
    assert (row["case"], row["form"], row["tries"]) == ("one", "long", 3)
    with pytest.raises(UserError, match="no such case"):
        faults.main(faults.Command(faults.FaultsConfig(only="two")))
