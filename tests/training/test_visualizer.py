"""The pictures and members of a run on disk, and TensorBoard's answers over HTTP."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from small import config_of

from mgta_tf import report, train
from mgta_tf.runtime import pictures
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.training.galleries import principal_coordinates


def test_pictures_of_every_turn_are_kept(finished):
    found = sorted(os.listdir(finished / "pictures"))
    expected = ["members.npz", "originals.jpg"]
    for number, net in ((0, 1), (1, 2), (1, 1), (2, 2)):
        expected.append(f"round_{number:02d}_net{net}_reconstruction.jpg")
    for number, net in ((1, 1), (1, 2), (2, 1)):
        expected.append(f"round_{number:02d}_net{net}_clusters.jpg")
    assert found == sorted(expected)
    with Image.open(finished / "pictures" / "originals.jpg") as picture:
        assert picture.size == (8 * 32, 32)
    with Image.open(finished / "pictures" / "round_02_net1_clusters.jpg") as picture:
        assert picture.size == (16 * 32 + 4, 4 * 32)


def test_members_are_images_of_the_newest_labels(finished):
    workdir = Workdir(str(finished))
    with np.load(workdir.members, allow_pickle=False) as arrays:
        kept = dict(arrays)
    with np.load(workdir.labels(2, 0), allow_pickle=False) as newest:
        label_of = dict(zip(newest["index"], newest["label"]))
        assert [label_of[i] for i in kept["index"]] == list(kept["label"])
        assert list(kept["size"]) == list(np.bincount(newest["label"]))
    assert len(np.unique(kept["index"])) == len(kept["index"])
    assert (int(kept["round"]), int(kept["net"])) == (2, 1)
    assert kept["coordinates"].shape == (len(kept["index"]), 50)
    assert set(kept["truth"]) <= set(range(len(kept["class_names"])))
    assert len(set(kept["name"])) == len(kept["index"])


def test_the_summary_lists_the_representative_clusters_and_the_seconds(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["turns"], summary["turns_done"]) == (7, 7)
    assert [(row["round"], row["net"]) for row in summary["labellings"]] == [
        (1, 1),
        (1, 2),
        (2, 1),
    ]
    for row in summary["labellings"]:
        kinds = [one["kind"] for one in row["representative"]]
        assert kinds == ["largest", "median", "smallest", "tightest"]
        assert row["representative"][0]["images"] == row["largest"]
        assert row["representative"][2]["images"] == row["smallest"]
        assert 0 < row["show_seconds"] < 60


def test_indistinguishable_images_cause_one_warning_and_are_in_the_report(tmp_path, capsys):
    """With copies of one image, views of one copy are as far apart as views of two copies."""
    os.mkdir(tmp_path / "copies")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    for number in range(48):
        Image.fromarray(pixels).save(tmp_path / "copies" / f"{number}.png")
    views = dict(labels="none", decoder="none", iae_epochs=0, rounds=0, views_per_image=2)
    batch = dict(clusters_per_batch=8, images_per_cluster=2, final_epochs=2, log_every_steps=1)
    alike = dict(data_source="", data_dir=str(tmp_path / "copies"), probe_every_rounds=0)
    train.train(config_of(tmp_path / "w", **views, **batch, **alike))
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert re.match(
        r"warning: the net learns to match 2 views of each of 48 images, step \d+: the .* margin "
        r"\(0.3\)",
        warnings[0],
    )
    report.main(report.ReportConfig(workdir=str(tmp_path / "w")))
    assert "No: the" in (tmp_path / "w" / "report.html").read_text()


# ------------------------------------------------------------------------------------- TensorBoard


@pytest.fixture(scope="module")
def ask(finished):
    """Queries a TensorBoard of the run: path and parameters → the bytes of the answer."""
    words = ["--host=127.0.0.1", "--port=0", "--load_fast=false", "--reload_interval=0"]
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", f"--logdir={finished}/tensorboard", *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in server.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
                break

        def get(path, **query):
            url = f"{found.group()}data/plugin/{path}?{urllib.parse.urlencode(query)}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                return answer.read()

        yield get
    finally:
        server.terminate()
        server.wait()


def test_tensorboard_has_the_scalars_of_both_nets(ask):
    tags = json.loads(ask("scalars/tags"))
    for net in ("net1", "net2"):
        assert {
            "1_loss/loss",
            "1_loss/triplet_loss",
            "3_embedding/hardest_positive",
            "4_evaluation/probe_knn",
            "5_training/rate",
        } <= set(tags[net])
        assert min(tags[net]) == "1_loss/loss"  # the first that TensorBoard shows
        points = json.loads(ask("scalars/scalars", run=net, tag="1_loss/reconstruction_loss"))
        assert len(points) >= 2
        assert all(value > 0 for _, _, value in points)
    assert "2_clusters/nmi_truth" in tags["net1"]  # net 2 has labelled only once: no curve
    curve = json.loads(ask("scalars/scalars", run="net1", tag="2_clusters/k_of_round_01/ch"))
    assert [step for _, step, _ in curve] == [5, 6]
    assert {"result/probe_map", "result/reconstruction_loss"} <= set(tags["run"])


def test_tensorboard_has_no_curve_that_is_constant(ask):
    tags = json.loads(ask("scalars/tags"))
    for net in ("net1", "net2"):
        assert not {"5_training/skipped", "5_training/loss_scale"} & set(tags[net])
        for tag in tags[net]:
            points = json.loads(ask("scalars/scalars", run=net, tag=tag))
            single = tag.startswith("4_")  # the evaluations of a net that trains in a single turn
            assert len({value for *_, value in points}) > 1 or single, tag


def test_tensorboard_has_enlarged_pictures(ask):
    tags = json.loads(ask("images/tags"))
    kinds = ("largest", "median", "smallest", "tightest")
    for net in ("net1", "net2"):
        assert {"6_pictures/reconstruction", *(f"6_pictures/cluster_{k}" for k in kinds)} <= set(
            tags[net]
        )
        tag = "6_pictures/reconstruction"
        shown = json.loads(ask("images/images", run=net, tag=tag, sample=0))
        picture = ask("images/individualImage", **dict(urllib.parse.parse_qsl(shown[0]["query"])))
        with Image.open(io.BytesIO(picture)) as picture:
            assert picture.size == (4 * 96, 4 * 96 + pictures.GAP)  # 32 px, three times as large


def test_tensorboard_has_the_histograms(ask):
    tags = json.loads(ask("histograms/tags"))
    # Four batches of P·K anchors at most: the half that net 1 trains on last makes three.
    for net, anchors in (("net1", 3 * 16), ("net2", 4 * 16)):
        for name in ("norm", "hardest_positive", "hardest_negative"):
            tag = f"3_embedding/{name}_of_images"
            assert tag in tags[net]
            buckets = json.loads(ask("histograms/histograms", run=net, tag=tag))
            assert sum(count for *_, count in buckets[-1][2]) == anchors
        assert "2_clusters/size" in tags[net]
    assert "3_embedding/norm_of_images" in json.loads(ask("distributions/tags"))["net1"]


def test_tensorboard_has_flags_and_networks_as_text(ask):
    assert set(json.loads(ask("text/tags"))["run"]) == {"flags", "networks"}
    *_, flags = json.loads(ask("text/text", run="run", tag="flags"))  # one per start of the run
    assert "--num_clusters=auto" in flags["text"]
    *_, networks = json.loads(ask("text/text", run="run", tag="networks"))
    assert "Trainable params" in networks["text"]


def test_tensorboard_compares_hyper_parameters_by_the_probe(ask):
    experiment = json.loads(ask("hparams/experiment", request=json.dumps({"experimentName": ""})))
    names = {one["name"] for one in experiment["hparamInfos"]}
    assert {"labels", "num_clusters", "width"} <= names
    assert not {"margin", "workdir", "log_every_steps"} & names  # at its default; without influence
    names = [one["name"]["tag"] for one in experiment["metricInfos"]]
    measured = ("reconstruction_loss", "triplet_loss", "probe_map", "probe_top1", "probe_knn")
    assert set(names) == {f"result/{name}" for name in measured}  # no column is empty
    request = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
        "colParams": [{"metric": {"tag": "result/probe_map", "group": ""}}],
        "startIndex": 0,
        "sliceSize": 10,
    }
    groups = json.loads(ask("hparams/session_groups", request=json.dumps(request)))
    (group,) = groups["sessionGroups"]
    assert group["hparams"]["width"] == 0.0625
    assert group["hparams"]["blocks"] == "1,1,1,1"
    (value,) = [m["value"] for m in group["metricValues"] if m["name"]["tag"] == "result/probe_map"]
    assert 0 < value <= 100


def test_tensorboard_projects_embeddings_with_sprites_clusters_and_classes(ask, finished):
    assert json.loads(ask("projector/runs")) == ["run"]
    (embedding,) = json.loads(ask("projector/info", run="run"))["embeddings"]
    points, dimensions = embedding["tensorShape"]
    name = embedding["tensorName"]
    assert name == "round_02_net1"
    tensor = np.frombuffer(ask("projector/tensor", run="run", name=name), np.float32)
    assert tensor.size == points * dimensions
    assert np.isfinite(tensor).all()
    rows = list(
        csv.DictReader(
            ask("projector/metadata", run="run", name=name).decode().splitlines(), delimiter="\t"
        )
    )
    assert len(rows) == points
    with np.load(finished / "pictures" / "members.npz", allow_pickle=False) as kept:
        assert [int(row["cluster"]) for row in rows] == list(kept["label"])
        assert [row["class"] for row in rows] == list(kept["class_names"][kept["truth"]])
    assert ask("projector/sprite_image", run="run", name=name).startswith(b"\xff\xd8")


def test_principal_coordinates_match_scikit_learn():
    points = np.random.default_rng(5).normal(size=(40, 7)).astype(np.float32) * np.arange(1, 8) + 9
    for count in (3, 50):
        ours = principal_coordinates(points, count)
        theirs = PCA().fit_transform(points)[:, :count]
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-3, atol=1e-3)
