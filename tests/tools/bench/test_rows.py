"""Rows of benchmarks: when they pass, and what is printed."""

import json

from tools.bench import rows


def test_a_row_passes_from_its_target_upwards_or_downwards():
    assert rows.row("a", 2.0, 1.0, "s", 1.5, 1.5)["pass"]
    assert not rows.row("a", 2.0, 1.0, "s", 1.49, 1.5)["pass"]
    assert rows.row("a", 2.0, 1.0, "s", 1.5, 1.5, below=True)["pass"]
    assert not rows.row("a", 2.0, 1.0, "s", 1.51, 1.5, below=True)["pass"]


def test_a_peer_that_cannot_run_is_named_with_its_reason(tmp_path, capsys):
    found = [
        rows.row("step", 30.0, 20.0, "images/s", 1.5, 1.3),
        rows.not_measured("compiled", 30.0, "images/s", 1.0, "no C++ compiler"),
    ]
    rows.finish(found, str(tmp_path / "rows.json"))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "step: 30 against 20 images/s, ratio 1.5, target 1.3: met"
    assert second == "compiled (not measured: no C++ compiler): 30 images/s"
    written = json.loads((tmp_path / "rows.json").read_text())
    assert [(row["peer"], row["ratio"], row["pass"]) for row in written] == [
        (20.0, 1.5, True),
        (None, None, False),
    ]
