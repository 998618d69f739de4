"""The training command end to end: its files, resuming, and stopping."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small import FLAGS, config_of, killed_at
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mgta_tf import config as config_lib
from mgta_tf import export, train
from mgta_tf.errors import UserError
from mgta_tf.runtime import checkpoints
from mgta_tf.runtime.tensorboard import tag_of
from mgta_tf.runtime.workdir import Workdir, load_config
from mgta_tf.training.config import TrainConfig


def weights(workdir, index):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(workdir / "checkpoints"))
    names = [n for n in reader.get_variable_to_shape_map() if n.startswith(f"nets/{index}/")]
    return {name: reader.get_tensor(name) for name in sorted(names) if "OPTIMIZER" not in name}


def assert_same_weights(one, other):
    for index in (0, 1):
        a, b = weights(one, index), weights(other, index)
        assert a.keys() == b.keys()
        assert len(a) > 50
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_run_writes_all_files_of_the_contract(finished):
    assert (finished / "skipped.txt").read_text() == ""
    summary = json.loads((finished / "summary.json").read_text())
    assert [(s["stage"], s["round"], s["net"]) for s in summary["stages"]] == [
        ("iae", 0, 1),
        ("mutual", 1, 2),
        ("mutual", 1, 1),
        ("final", 2, 2),
    ]
    keys = {"images", "seconds", "reconstruction_loss", "triplet_loss", "lambda", "num_clusters"}
    keys |= {"empty_clusters", "nmi_previous", "nmi_truth"}
    assert all(keys <= set(stage) for stage in summary["stages"])
    assert [s["images"] for s in summary["stages"]] == [96, 48, 48, 96]
    assert summary["stages"][0]["num_clusters"] is None
    assert all(s["num_clusters"] in (5, 6) for s in summary["stages"][1:])
    assert all(0 <= s["nmi_truth"] <= 1 for s in summary["stages"][1:])
    assert all(0 <= s["probe_map"] <= 100 for s in summary["stages"])
    assert summary["num_parameters"] > 1000
    assert summary["versions"]["tensorflow"] == tf.__version__


def test_labels_are_those_of_the_halves(finished):
    found = sorted(n for n in os.listdir(finished / "labels") if n.endswith(".npz"))
    assert found == ["round_01_net1.npz", "round_01_net2.npz", "round_02_net1.npz"]
    index = []
    for name in found:
        with np.load(finished / "labels" / name, allow_pickle=False) as arrays:
            assert len(arrays["index"]) == len(arrays["label"])
            assert set(arrays["label"]) <= set(range(6))
            index.append(arrays["index"])
    assert sorted([*index[0], *index[1]]) == list(range(96))  # N1 labelled D2, N2 labelled D1
    assert sorted(index[2]) == list(range(96))


def test_the_written_flagfile_is_that_of_the_run(finished):
    assert load_config(str(finished / "flags.flagfile"), TrainConfig) == config_of(finished)


def test_tensorboard_shows_both_nets(finished):
    for net in ("net1", "net2"):
        events = EventAccumulator(str(finished / "tensorboard" / net)).Reload()
        scalars = set(events.Tags()["tensors"])
        metrics = (
            *("loss", "reconstruction_loss", "triplet_loss", "images_per_second"),
            *("triplet_active", "hardest_positive", "embedding_norm"),
            *("probe_map", "probe_top1", "probe_knn"),
        )
        assert {tag_of(metric) for metric in metrics} <= scalars
        assert "6_pictures/reconstruction" in scalars
        assert "2_clusters/size" in scalars  # figures that stay constant are not written
        assert len(events.Tensors("1_loss/loss")) >= 2


def test_same_flags_same_weights_and_a_kill_changes_nothing(finished, tmp_path, monkeypatch):
    """Killed after a checkpoint in the middle of two turns, it ends as the uninterrupted run."""
    saves = checkpoints.Checkpoints.save

    def save_and_die(self, position):
        saves(self, position)
        if (position.turn, position.step) in deaths:
            deaths.remove((position.turn, position.step))
            raise KeyboardInterrupt

    deaths = [(2, 1), (6, 5)]
    monkeypatch.setattr(checkpoints.Checkpoints, "save", save_and_die)
    config = config_of(tmp_path / "w", checkpoint_every_steps=1, keep=1)
    for _ in range(len(deaths)):
        with pytest.raises(KeyboardInterrupt):
            train.train(config)
    train.train(config)
    assert not deaths
    assert_same_weights(finished, tmp_path / "w")
    stages = [
        json.loads((w / "summary.json").read_text())["stages"] for w in (finished, tmp_path / "w")
    ]
    for a, b in zip(*stages):
        for key in (
            "seconds",
            "label_seconds",
            "show_seconds",
            "wall_seconds",
            "peak_memory_mb",
            "k_table",
        ):
            a.pop(key, None), b.pop(key, None)  # times, also in the table of K
        assert a == b


def test_the_number_of_clusters_is_chosen_once_and_survives_a_kill(tmp_path):
    config = config_of(
        tmp_path, num_clusters="auto", k_candidates="5:9:3", probe_every_rounds=0, core_fraction=0.9
    )
    with killed_at(lambda at: at.turn == 3):
        train.train(config)
    train.train(config)
    stages = json.loads((tmp_path / "summary.json").read_text())["stages"][1:]
    table = stages[0]["k_table"]
    assert [row["k"] for row in table] == [5, 7, 9]
    best = max(table, key=lambda row: row["ch"])["k"]
    assert [stage["num_clusters"] for stage in stages] == [best] * 3
    assert ["k_table" in stage for stage in stages] == [True, False, False]
    with Image.open(tmp_path / "labels" / "k_round_01_net1.png") as picture:
        assert picture.size[0] > 500
    for stage in stages:
        assert 0 <= stage["nmi_nets"] <= 1
        assert 0 < stage["purity"] <= 1
    with np.load(tmp_path / "labels" / "round_02_net1.npz") as arrays:
        assert (arrays["label"] == -1).any()  # outside of the core
        assert np.isfinite(arrays["distance"]).all()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "net1")).Reload()
    assert [point.step for point in events.Tensors("2_clusters/k_of_round_01/ch")] == [5, 7, 9]


def test_a_finished_run_is_not_repeated(finished, capsys):
    before = weights(finished, 1)
    train.train(config_of(finished))
    printed = capsys.readouterr().out
    assert f"resuming in {finished} at its end\n" in printed
    assert f"  metrics:           {finished}/summary.json\n" in printed
    for name, value in weights(finished, 1).items():
        np.testing.assert_array_equal(value, before[name])


def test_other_flags_are_named_and_refused(finished):
    with pytest.raises(UserError, match=r"--width was 0.0625 and is 0.125") as e:
        train.train(config_of(finished, width=0.125, margin=0.5))
    assert "--margin was 0.3 and is 0.5" in str(e.value)


def test_flags_without_influence_on_the_weights_may_change(finished, tmp_path):
    workdir = tmp_path / "w"
    shutil.copytree(finished, workdir)
    train.train(config_of(workdir, keep=5, log_every_steps=7, cache_budget_mb=1))
    assert load_config(str(workdir / "flags.flagfile"), TrainConfig).robustness.keep == 5
    assert_same_weights(finished, workdir)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="is not a run"):
        train.train(config_of(tmp_path))
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_the_iae_of_another_run_can_be_loaded(finished, tmp_path):
    config = config_of(tmp_path / "w", iae_checkpoint=str(finished), rounds=0, final_epochs=0)
    train.train(config)
    models = [
        tf.train.load_checkpoint(str(w / "checkpoints" / "iae")) for w in (finished, tmp_path / "w")
    ]
    names = [n for n in models[0].get_variable_to_shape_map() if n.startswith("net/")]
    assert len(names) > 50
    for name in names:
        np.testing.assert_array_equal(models[0].get_tensor(name), models[1].get_tensor(name))


@pytest.mark.parametrize("flags", [{"width": 0.125}, {"blocks": (2, 1, 1, 1)}])
def test_an_iae_of_another_shape_is_refused(finished, tmp_path, flags):
    config = config_of(tmp_path / "w", iae_checkpoint=str(finished), **flags)
    with pytest.raises(UserError, match="different --width, --blocks or --decoder"):
        train.train(config)


def test_a_run_without_a_checkpoint_may_restart_with_other_flags(tmp_path):
    for flags, message in (({"data_dir": "/nowhere"}, "no such folder"), ({}, "larger than")):
        flags = {"data_source": "", **flags} if flags else {"clusters_per_batch": 40}
        with pytest.raises(UserError, match=message):
            train.train(config_of(tmp_path / "w", **flags))


def test_a_diverged_loss_names_the_step_and_keeps_the_last_checkpoint(tmp_path):
    config = config_of(
        tmp_path / "w",
        learning_rate=1e30,
        warmup_steps=0,
        optimizer="sgd",
        checkpoint_every_secs=1e9,
        max_skipped_steps=2,
    )
    with pytest.raises(
        UserError,
        match=r"stage 1 of 3: net 1 learns to reconstruct .*step \d+: the loss is (nan|inf).*"
        r"2 skipped steps.*--workdir",
    ):
        train.train(config)
    assert not tf.train.latest_checkpoint(tmp_path / "w" / "checkpoints")


# -------------------------------------------------------------- Without labels, without a decoder

VIEWS = dict(
    labels="none",
    decoder="none",
    iae_epochs=0,
    rounds=0,
    final_epochs=2,
    clusters_per_batch=8,
    images_per_cluster=2,
    views_per_image=2,
    checkpoint_every_steps=1,
)


@pytest.fixture(scope="module")
def views_alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("views") / "w"
    train.train(config_of(workdir, **VIEWS))
    return workdir


def test_two_views_alone_train_one_net_without_a_decoder(views_alone):
    summary = json.loads((views_alone / "summary.json").read_text())
    [stage] = summary["stages"]
    assert summary["labellings"] == []
    assert (stage["stage"], stage["net"], stage["images"]) == ("final", 2, 96)
    assert stage["steps"] == 96 * 2 // 16  # epochs count every view
    assert stage["reconstruction_loss"] is None
    assert stage["triplet_loss"] > 0
    path = tf.train.latest_checkpoint(views_alone / "checkpoints")
    names = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    assert not [name for name in names if "decoder" in name]
    once = [name for name in names if "conv1_conv" in name or name.startswith("nets/1")]
    assert not [name for name in once if name.startswith("nets/1")]  # N2 is N1, saved once


def test_two_views_alone_resume_with_the_same_weights(views_alone, tmp_path, capsys):
    config = config_of(tmp_path / "w", **VIEWS)
    with killed_at(lambda at: at.step == 5):
        train.train(config)
    capsys.readouterr()
    train.train(config)
    title = "the net learns to match 2 views of each of 96 images"
    assert f"resuming in {tmp_path}/w at step 5 of 12: {title}\n" in capsys.readouterr().out
    one, other = weights(views_alone, 0), weights(tmp_path / "w", 0)
    assert len(one) > 30
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_two_views_alone_can_be_exported_and_reported(views_alone, tmp_path, capsys):
    from mgta_tf import report

    images = tf.constant(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8))
    seen = {}
    for net in ("n1", "n2"):
        output = str(tmp_path / net)
        export.main(export.ExportConfig(workdir=str(views_alone), output=output, net=net))
        signatures = tf.saved_model.load(output).signatures
        assert sorted(signatures) == ["encode", "serving_default"]
        seen[net] = signatures["encode"](images)["res4"].numpy()
    np.testing.assert_array_equal(seen["n1"], seen["n2"])
    assert f"{tmp_path}/n2: trained encoder, for images of 32 px\n" in capsys.readouterr().out
    report.main(report.ReportConfig(workdir=str(views_alone)))
    page = (views_alone / "report.html").read_text()
    assert "Triplet loss" in page
    assert "Groups of similar images" in page  # the run itself has no clusters
    with np.load(views_alone / "pictures" / "members.npz") as members:
        assert sorted(members["index"]) == list(range(96))
        assert members["size"].sum() == 96
    baselines = json.loads((views_alone / "baselines.json").read_text())
    assert baselines["chance"]["probe_map"] == pytest.approx(100 / 12)  # 12 shapes
    assert 100 / 12 <= baselines["chance"]["probe_knn"] < 20
    probed = {"probe_map", "probe_top1", "probe_knn"}
    assert set(baselines["untrained"]) == {*probed, "neighbors"}
    assert "reconstruction loss" not in page


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"rounds": 2}, "--rounds=2 with --labels=none.*set --labels=clusters"),
        ({"views_per_image": 1}, "--views_per_image=1.*set it to --images_per_cluster=2"),
        ({"iae_epochs": 3}, "--iae_epochs=3 with --decoder=none.*set --decoder=mirror"),
        ({"clusters_per_batch": 97}, "--clusters_per_batch=97: larger than the data"),
        ({"iae_checkpoint": "a,b"}, "2 folders, but 1 net"),
    ],
)
def test_flags_that_do_not_fit_two_views_alone(flags, message, tmp_path):
    with pytest.raises(UserError, match=message):
        train.train(config_of(tmp_path / "w", **{**VIEWS, **flags}))


# ----------------------------------------------------------------------------------------- Export


@pytest.fixture(scope="module")
def saved_model(finished):
    output = finished / "saved_model"
    export.main(export.ExportConfig(workdir=str(finished), output=str(output)))
    return output


USE_SAVED_MODEL = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
images = np.random.default_rng(0).integers(0, 256, (2, 45, 70, 3)).astype(np.uint8)
encoded = loaded.signatures["encode"](tf.constant(images))
print({name: value.shape.as_list() for name, value in sorted(encoded.items())})
print(loaded.signatures["reconstruct"](tf.constant(images))["reconstruction"].shape.as_list())
assert "mgta_tf" not in sys.modules
"""


def test_a_saved_model_needs_nothing_but_tensorflow(saved_model, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", USE_SAVED_MODEL, str(saved_model)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    shapes, reconstruction = done.stdout.splitlines()
    assert eval(shapes) == {
        "embedding": [2, 128],
        "res2": [2, 12, 18, 16],
        "res3": [2, 6, 9, 32],
        "res4": [2, 3, 5, 64],
        "res5": [2, 2, 3, 128],
    }
    assert eval(reconstruction) == [2, 45, 70, 3]


def test_the_export_encodes_like_the_trained_net(finished, saved_model):
    from mgta_tf.models.artifact import load_encoder
    from mgta_tf.models.autoencoder import build_autoencoder

    config = config_of(finished)
    net = build_autoencoder(config.model)
    checkpoints.load_net_of_run(net, str(finished / "checkpoints"), index=1)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3)).astype(np.uint8)
    expected = net(images.astype(np.float32) / 255, training=False)
    signatures = tf.saved_model.load(str(saved_model)).signatures
    encoded = signatures["encode"](tf.constant(images))
    encoder, facts = load_encoder(str(saved_model))
    again = encoder(images.astype(np.float32) / 255, training=False)
    for name in ("res2", "res5", "embedding"):
        np.testing.assert_allclose(encoded[name], expected[name], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(again[name], expected[name], rtol=1e-4, atol=1e-4)
    assert (facts.model.width, facts.model.blocks) == (config.model.width, config.model.blocks)
    assert (facts.net, facts.normalization) == ("n2", "unit")
    reconstructed = signatures["reconstruct"](tf.constant(images))["reconstruction"]
    pixels = np.clip(np.round(expected["reconstruction"].numpy() * 255), 0, 255)
    assert np.abs(reconstructed.numpy().astype(int) - pixels).max() <= 1


def test_every_net_can_be_exported(finished, saved_model, tmp_path):
    encoders = [str(saved_model)]
    for flags in ({"net": "iae"}, {"net": "n1"}, {"untrained": True}):
        encoders.append(str(tmp_path / str(len(encoders))))
        export.main(export.ExportConfig(workdir=str(finished), output=encoders[-1], **flags))
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8))
    seen = [
        tf.saved_model.load(path).signatures["encode"](images)["embedding"].numpy()
        for path in encoders
    ]
    for i in range(len(seen)):
        for j in range(i):
            assert not np.allclose(seen[i], seen[j])


def test_export_reports_missing_input(finished, tmp_path):
    for flags, message in (
        ({"workdir": str(finished)}, "--output is required"),
        ({"workdir": str(tmp_path), "output": "x"}, "no such file"),
        ({"workdir": str(finished), "output": str(finished)}, "not empty"),
    ):
        with pytest.raises(UserError, match=message):
            export.main(export.ExportConfig(**flags))
    started = tmp_path / "w"
    Workdir(str(started))
    started.mkdir()
    (started / "flags.flagfile").write_text(config_lib.to_flagfile(config_of(started)))
    for net, message in (("n2", "no checkpoint"), ("iae", "no such checkpoint")):
        config = export.ExportConfig(workdir=str(started), output=str(tmp_path / "o"), net=net)
        with pytest.raises(UserError, match=message):
            export.main(config)


# ------------------------------------------------------------------------------ As a user types it


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "mgta_tf.train", *words], capture_output=True, text=True, check=False
    )


IMPORTED = """
import sys
sys.argv = ["train", "--help=all"]
import runpy
try:
    runpy.run_module("mgta_tf.train", run_name="__main__")
except SystemExit as e:
    print("exit", e.code)
print([m for m in ("official", "tensorflow_addons", "tensorflow_datasets") if m in sys.modules])
"""


def test_help_imports_neither_model_garden_nor_addons():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("exit 0\n[]\n")
    assert done.stderr == ""
    for words in ("Losses (§3.3).", "--margin=FLOAT  (default", "--data_dir"):
        assert words in done.stdout


def test_memory_stays_flat_over_20_rounds(tmp_path):
    flags = dict(FLAGS, blocks="1,1,1,1", iae_epochs=2, rounds=20, probe_every_rounds=0)
    flags.update(clusters_per_batch=2, images_per_cluster=8, num_clusters=12)
    done = command(f"--workdir={tmp_path / 'w'}", *(f"--{k}={v}" for k, v in flags.items()))
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "w" / "summary.json").read_text())["stages"]
    assert [stage["round"] for stage in stages if stage["net"] == 1] == list(range(21))
    peak = {stage["round"]: stage["peak_memory_mb"] for stage in stages if stage["net"] == 1}
    assert peak[20] < 1.02 * peak[2]  # by then every graph has been traced and run


def test_one_line_for_bad_input(tmp_path):
    small = [f"--{k}={v}" for k, v in FLAGS.items() if k != "blocks"]
    for words, status, message in (
        (["--data_dir=/nowhere"], 1, "/nowhere: no such folder"),
        ([f"--data_dir={tmp_path}"], 1, "no images in it"),
        (["--image_size=50"], 1, "--image_size=50: must be a multiple of 32"),
        (["--margin=-1"], 2, "margin"),
        (["--marign=1"], 2, "Unknown command line flag 'marign'. Did you mean: margin"),
        ([*small, "--clusters_per_batch=40"], 1, "larger than the data"),
    ):
        done = command(f"--workdir={tmp_path / 'w'}", *words)
        assert done.returncode == status, done.stderr
        assert message in done.stderr
        assert [line for line in done.stderr.splitlines() if "error" in line] == (
            done.stderr.splitlines()[-1:]
        )
        assert "Traceback" not in done.stderr
