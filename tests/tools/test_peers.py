"""The peers: plan, rows and weights without PyTorch; both encoders side by side where it is."""

import glob
import json
import os
import sys

import numpy as np
import peers
import pytest

from mgta_tf.errors import UserError

TORCH_PYTHON = os.environ.get("MGTA_TORCH_PYTHON", "")


@pytest.fixture(scope="module")
def encoder():
    return peers.untrained_encoder(1)


def trial(method, tried, value):
    flags = peers.flags_of(method, tried, peers.SCREEN)
    return {"method": f"peer_{method}", "seed": 1, "map": value, "flags": flags}


def run_search(method, value_of, known):
    """What is tried in turn when a trial's flags are worth `value_of` them."""
    tried = []
    while (flags := peers.next_trial(known, method)) is not None:
        tried.append(flags)
        known.append(trial(method, flags, value_of(flags)))
    return tried


def test_pytorch_names_are_those_of_its_modules():
    names = {
        "conv1_conv/kernel:0": "conv1.conv.weight",
        "conv1_bn/gamma:0": "conv1.bn.weight",
        "res2_block1_proj_bn/beta:0": "res2_block1_proj.bn.bias",
        "res4_block2_3_bn/moving_mean:0": "res4_block2_3.bn.running_mean",
        "res5_block1_2_bn/moving_variance:0": "res5_block1_2.bn.running_var",
    }
    assert {name: peers.torch_name(name) for name in names} == names


def test_weights_go_to_pytorch_and_back(encoder):
    arrays = peers.to_torch(encoder)
    assert len(arrays) == len(encoder.weights)  # no two have one name
    assert arrays["conv1.conv.weight"].shape == (16, 3, 7, 7)
    kernel = encoder.get_layer("res3_block1_2_conv").kernel.numpy()
    assert arrays["res3_block1_2.conv.weight"][5, 7, 0, 2] == kernel[0, 2, 7, 5]
    other = peers.untrained_encoder(2)
    peers.from_torch(other, arrays)
    for ours, theirs in zip(encoder.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_simclr_is_tuned_axis_by_axis_and_keeps_the_best():
    def value(flags):  # best: batch 32, rate 1e-3, mild, temperature 0.1
        worse = ("batch", "learning_rate", "grayscale", "temperature")
        return 200 - sum(flags[name] for name in worse)

    known = []
    tried = run_search("simclr", value, known)
    changed = [
        {name: value for name, value in flags.items() if value != before[name]}
        for before, flags in zip(tried, tried[1:])
    ]
    assert tried[0] == {**peers.START, "temperature": 0.2}
    assert changed == [
        {"batch": 128},  # worse than 32
        {"batch": 32, "learning_rate": 1e-3},  # better
        peers.STRONG,  # worse
        {**peers.MILD, "temperature": 0.1},  # better
        {"temperature": 0.5},
    ]
    best = peers.best_flags(known, "simclr")
    assert (best["batch"], best["learning_rate"], best["temperature"]) == (32, 1e-3, 0.1)
    # Another method starts there, without SimCLR's temperature.
    start = {"batch": 32, "learning_rate": 1e-3, **peers.MILD}
    strong, large = {**start, **peers.STRONG}, {**start, "batch": 128}
    assert run_search("byol", lambda flags: 1.0, known) == [start, strong, large]


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


def test_rows_have_the_best_flags_of_the_search_and_are_not_made_twice(tmp_path, monkeypatch):
    runs = []

    def run(_config, data_dir, _folder, flags, seed, evaluation):
        runs.append((data_dir, flags, seed, evaluation))
        return found(10.0 + seed)

    monkeypatch.setattr(peers, "run", run)
    slow = {**peers.START, "learning_rate": 1e-3, "temperature": 0.2}
    trials = [trial("simclr", slow, 3.0), trial("simclr", {**slow, "batch": 64}, 2.0)]
    search = tmp_path / "peer_search.json"
    search.write_text(json.dumps(trials))
    config = peers.PeersConfig(
        data_dir="D", workdir=str(tmp_path), results=str(tmp_path), search=str(search),
        methods="simclr", passes="36", seeds="2,1",
    )  # fmt: skip
    peers.rows(config)
    peers.rows(config)
    flags = peers.flags_of("simclr", slow, 36)
    assert runs == [("D", flags, 2, peers.PROBE), ("D", flags, 1, peers.PROBE)]
    rows = json.loads((tmp_path / "peer_simclr_half.json").read_text())
    assert [(row["method"], row["seed"], row["map"]) for row in rows] == [
        ("peer_simclr_half", 1, 11.0), ("peer_simclr_half", 2, 12.0),
    ]  # fmt: skip
    search.write_text(json.dumps([trial("simclr", {**slow, "batch": 64}, 9.0)]))
    with pytest.raises(UserError, match="seed 2 was run with other flags; move it away"):
        peers.rows(config)


def test_the_page_has_a_line_for_each_row_and_trial():
    row = {**found(12.345), "method": "peer_byol_half", "seed": 3, "passes": 35.99}
    row["flags"] = peers.flags_of("byol", {**peers.START, **peers.STRONG}, 36)
    line = peers.table([], [row]).splitlines()[-1]
    assert line == (
        "| `peer_byol_half` | 32 | 0.003 | strong |  | 36 | 1 (1) | 3 | 12.35 | 1.00 | 2.00 |"
    )


def test_a_python_without_pytorch_is_named(tmp_path):
    missing = str(tmp_path / "python")
    with pytest.raises(UserError, match=f"--torch_python={missing}: No such file"):
        peers.in_torch(missing, "train", {}, str(tmp_path))
    with pytest.raises(UserError, match=r"train.log: tools/peers_torch.py failed: ModuleNotFound"):
        peers.in_torch(sys.executable, "train", {}, str(tmp_path))


def test_only_a_finished_training_of_the_same_job_is_taken_up(tmp_path):
    report, folder = tmp_path / "train.out", str(tmp_path)
    job = {"flags": {"batch": 32}, "seed": 1}
    assert peers.trained(folder, job) is None
    (tmp_path / "train.json").write_text(json.dumps({**job, "report": str(report)}))
    assert peers.trained(folder, job) is None
    report.write_text('{"steps": 7}')
    assert peers.trained(folder, job) == {"steps": 7}
    assert peers.trained(folder, {**job, "seed": 2}) is None


def test_committed_rows_were_trained_as_long_as_their_flags_say():
    for path in glob.glob("docs/results/**/peer_*.json", recursive=True):
        with open(path, encoding="utf-8") as file:
            for row in json.load(file):
                assert row["passes"] == pytest.approx(row["flags"]["passes"], rel=0.01), path


@pytest.mark.skipif(
    not TORCH_PYTHON,
    reason="PyTorch has an environment of its own: set MGTA_TORCH_PYTHON to its interpreter",
)
def test_both_frameworks_have_one_encoder(tmp_path):
    compared = dict(peers.differences(TORCH_PYTHON, str(tmp_path)))
    assert len(compared) == 17  # five endpoints of three sizes, augmented images, after training
    assert max(compared.values()) < peers.SAME, compared
