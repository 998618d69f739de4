"""The peers' plan, rows and page, without PyTorch."""

import glob
import json

import pytest

from mgta_tf.errors import UserError
from tools.peers import run as peers
from tools.peers.bridge import MEDIUM, MILD, STRONG


def trial(method, tried, value):
    flags = peers.flags_of(method, tried, peers.SCREEN)
    return {"method": f"peer_{method}", "seed": 1, "map": value, "flags": flags}


def run_search(method, value_of, known):
    """The flags of all trials in order, if `value_of(flags)` is the mAP of a trial."""
    tried = []
    while (flags := peers.next_trial(known, method)) is not None:
        tried.append(flags)
        value = value_of(flags)
        known.append({"method": f"peer_{method}", "seed": 1, "map": value, "flags": flags})
    return tried


def test_simclr_is_tuned_axis_by_axis_and_keeps_the_best():
    def value(flags):  # best: batch 32, rate 1e-3, temperature 0.1; mild, with all passes medium
        worse = ("batch", "learning_rate", "temperature")
        gray = abs(flags["grayscale"] - (0.1 if flags["passes"] == 72 else 0))
        return 200 - sum(flags[name] for name in worse) - gray

    known = []
    tried = run_search("simclr", value, known)
    changed = [
        {name: value for name, value in flags.items() if value != before[name]}
        for before, flags in zip(tried, tried[1:])
    ]
    assert tried[0] == peers.flags_of("simclr", {**peers.START, "temperature": 0.2}, 12)
    assert changed == [
        {"batch": 128},  # worse than 32
        {"batch": 32, "learning_rate": 1e-3},  # better
        STRONG,  # worse
        {**MILD, "temperature": 0.1},  # better
        {"temperature": 0.5},
        {"passes": 72, "temperature": 0.1},
        MEDIUM,  # better
        {"color_jitter": 0.4, "grayscale": 0.2},
    ]
    best = peers.best_trial(known, "simclr", 72)["flags"]
    expected = {"batch": 32, "learning_rate": 1e-3, **MEDIUM, "temperature": 0.1}
    assert best == peers.flags_of("simclr", expected, 72)
    # A row of half the cost has the crops of the short trials.
    assert peers.best_trial(known, "simclr", 36)["flags"] == peers.flags_of(
        "simclr", {**expected, **MILD}, 12
    )
    # Another method starts from these, without SimCLR's temperature.
    start = {"batch": 32, "learning_rate": 1e-3, **MILD}
    changes = [(12, {}), (12, STRONG), (12, {"batch": 128}), (72, {}), (72, MEDIUM), (72, STRONG)]
    asked = [peers.flags_of("byol", {**start, **change}, passes) for passes, change in changes]
    simclr = peers.best_trial(known, "simclr", 12)["map"]
    assert run_search("byol", lambda flags: 0.91 * simclr, known) == asked
    # One that is far behind after the short trials gets no others.
    assert run_search("vicreg", lambda flags: 0.89 * simclr, known) == [
        peers.flags_of("vicreg", {**start, **change}, 12) for _, change in changes[:3]
    ]


def test_other_methods_need_simclr_first():
    with pytest.raises(UserError, match="no trial of simclr; run --do=search"):
        peers.next_trial([], "byol")


def test_a_row_is_named_after_its_cost():
    assert peers.row_name("byol", 72) == "peer_byol"
    assert peers.row_name("byol", 36) == "peer_byol_half"
    with pytest.raises(UserError, match="--passes=50: must be one of 36, 72"):
        peers.row_name("byol", 50)


def found(value):
    kept = dict.fromkeys(peers.KEPT, 1.0)
    return {**kept, "map": value, "knn": {"20": 2.0}, "versions": {"torch": "2"}}


def test_rows_have_the_best_flags_of_the_search_and_are_not_repeated(tmp_path, monkeypatch):
    runs = []

    def run(python, evaluation, _folder, flags, seed):
        runs.append((python, evaluation, flags, seed))
        return found(10.0 + seed)

    monkeypatch.setattr(peers, "run", run)
    monkeypatch.setattr(peers, "open_evaluation", lambda *asked: asked)
    slow = {**peers.START, "learning_rate": 1e-3, "temperature": 0.2}
    trials = [trial("simclr", slow, 3.0), trial("simclr", {**slow, "batch": 64}, 2.0)]
    search = tmp_path / "peer_search.json"
    search.write_text(json.dumps(trials))
    config = peers.PeersConfig(
        torch_python="PY", data_dir="D", workdir=str(tmp_path), results=str(tmp_path),
        search=str(search),
        methods="simclr", passes="36", seeds="2,1",
    )  # fmt: skip
    peers.rows(config)
    peers.rows(config)
    flags = peers.flags_of("simclr", slow, 36)
    assert runs == [("PY", ("D", peers.PROBE), flags, seed) for seed in (2, 1)]
    rows = json.loads((tmp_path / "peer_simclr_half.json").read_text())
    assert [(row["method"], row["seed"], row["map"]) for row in rows] == [
        ("peer_simclr_half", 1, 11.0), ("peer_simclr_half", 2, 12.0),
    ]  # fmt: skip
    search.write_text(json.dumps([trial("simclr", {**slow, "batch": 64}, 9.0)]))
    with pytest.raises(UserError, match="seed 2 was run with other flags; move it away"):
        peers.rows(config)


def test_the_page_has_a_line_for_each_row_and_trial():
    row = {**found(12.345), "method": "peer_byol_half", "seed": 3, "passes": 35.99}
    row["flags"] = peers.flags_of("byol", {**peers.START, **STRONG}, 36)
    line = peers.table([], [row]).splitlines()[-1]
    assert line == (
        "| `peer_byol_half` | 32 | 0.003 | strong |  | 36 | 1 (1) | 3 | 12.35 | 1.00 | 2.00 |"
    )


def test_committed_rows_were_trained_as_long_as_their_flags_say():
    for path in glob.glob("docs/results/**/peer_*.json", recursive=True):
        with open(path, encoding="utf-8") as file:
            for row in json.load(file):
                assert row["passes"] == pytest.approx(row["flags"]["passes"], rel=0.01), path
