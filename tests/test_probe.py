"""The probe command on a SavedModel and a hand-made VOC tree, or class folders."""

import json
import os
import shutil
import subprocess
import sys

import cases
import numpy as np
import pytest
import tensorflow as tf
from absl import flags as absl_flags
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mgta_tf import config as config_lib
from mgta_tf import probe
from mgta_tf.data import voc
from mgta_tf.errors import UserError
from mgta_tf.evaluation import features
from mgta_tf.models import artifact
from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.probe import ProbeConfig

MODEL = ModelConfig(width=0.0625, blocks=(1, 1, 1, 1))


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    tf.keras.utils.set_random_seed(0)
    path = str(tmp_path_factory.mktemp("model") / "m")
    artifact.save(build_autoencoder(MODEL), artifact.Facts(MODEL, "unit", 32, "untrained"), path)
    return path


COLORS = {"aeroplane": (250, 30, 30), "bird": (30, 250, 30), "cow": (30, 30, 250)}


def write_split(main, split, rows):
    """rows: {image: {class: 1, 0 or -1}}, -1 where a class is not named."""
    (main / f"{split}.txt").write_text("".join(f"{name}\n" for name in rows))
    for name in voc.CLASSES:
        lines = [f"{image} {shown.get(name, -1):2d}\n" for image, shown in rows.items()]
        (main / f"{name}_{split}.txt").write_text("".join(lines))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Colors are classes. In each split, one image shows a cow that is marked as difficult."""
    devkit = tmp_path_factory.mktemp("voc") / "VOCdevkit"
    folder = devkit / "VOC2007"
    main = folder / "ImageSets" / "Main"
    main.mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    rng = np.random.default_rng(0)
    for split, first in (("trainval", 0), ("test", 99)):
        rows = {}
        for number in range(first, first + 24):
            name = list(COLORS)[number % 3]
            noise = rng.integers(-20, 20, (40, 50, 3))
            pixels = np.clip(np.array(COLORS[name]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "JPEGImages" / f"{number:06d}.jpg", quality=95)
            rows[f"{number:06d}"] = {name: 1}
        rows[f"{first + 2:06d}"]["cow"] = 0
        write_split(main, split, rows)
    return devkit


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A shared folder, so that features are computed once."""
    return tmp_path_factory.mktemp("results")


def run(saved_model, root, results, **flags):
    output = results / "probe.json"
    config = ProbeConfig(
        saved_model=saved_model,
        voc_root=str(root),
        output=str(output),
        svm_costs="0.1,10",
        **flags,
    )
    probe.main(config)
    return json.loads(output.read_text())


def test_contents_of_the_output(saved_model, root, results, capsys):
    found = run(saved_model, root, results)
    assert (found["num_train"], found["num_test"]) == (24, 24)
    assert found["endpoint"] == "res4"
    assert found["pool"] == "average 8×8, stride 3"
    assert found["seconds"] > 0
    for name in COLORS:
        assert found["per_class"][name] > 60
        assert found["cost"][name] in (0.1, 10)
    assert found["per_class"]["horse"] is None
    assert found["map"] == pytest.approx(np.mean([found["per_class"][n] for n in COLORS]))
    out = capsys.readouterr().out
    assert "classes without positives, which have no AP and do not enter the mean: bicycle" in out
    assert "horse               -" in out


def labels_of(root, split, **flags):
    """The SVM's targets in training and in testing."""
    seen = {}

    def linear_svm(_, targets, __, test_targets, **___):
        seen.update(train=targets, test=test_targets)
        raise KeyboardInterrupt

    config = ProbeConfig(voc_root=str(root), train_split=split, test_split=split, **flags)
    sets = probe.voc_sets(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe.svm, "linear_svm", linear_svm)
        with pytest.raises(KeyboardInterrupt):
            probe.evaluate(config, (1.0,), sets, [np.zeros((24, 2))] * 2)
    return seen


COW = voc.CLASSES.index("cow")


def test_images_with_difficult_objects_only_are_negatives_in_training(root):
    assert labels_of(root, "trainval")["train"][2, COW] == -1
    assert labels_of(root, "trainval", drop_difficult=True)["train"][2, COW] == 0


def test_images_with_difficult_objects_only_are_ignored_in_testing(root):
    for drop in (False, True):
        targets = labels_of(root, "test", drop_difficult=drop)["test"]
        assert targets[2, COW] == 0
        assert targets[5, COW] == 1
        assert targets[0, COW] == -1


def test_the_image_size_is_that_of_training_unless_it_is_given(tmp_path, monkeypatch):
    sizes = []

    def folder_sets(config):
        sizes.append(config.image_size)
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "folder_sets", folder_sets)
    recorded = dict(width=0.25, blocks=[1, 1, 1, 1], normalization="unit", image_size=96, net="n2")
    (tmp_path / artifact.FACTS).write_text(json.dumps(recorded))
    for model, words in ((tmp_path, []), (tmp_path, ["--image_size=128"]), ("foreign", [])):
        values = absl_flags.FlagValues()
        config_lib.define(ProbeConfig, values)
        own = [f"--saved_model={model}", f"--output={tmp_path}/o.json", "--dataset=folder"]
        values(["probe", *own, *words])
        with pytest.raises(KeyboardInterrupt):
            probe.main(config_lib.from_flags(ProbeConfig, values))
    assert sizes == [96, 128, 64]


def test_features_are_cached_for_the_same_model_and_protocol(
    saved_model, root, results, monkeypatch
):
    first = run(saved_model, root, results)

    def refuse(*_):
        raise AssertionError("encoded again")

    with monkeypatch.context() as patch:
        patch.setattr(features, "extract", refuse)
        again = run(saved_model, root, results)
        assert again["per_class"] == first["per_class"]
        with pytest.raises(AssertionError, match="encoded again"):
            run(saved_model, root, results, endpoint="res5")


def test_both_solvers_agree(saved_model, root, results):
    ours, theirs = (run(saved_model, root, results, svm_impl=i) for i in ("batched", "liblinear"))
    for name in COLORS:
        assert ours["per_class"][name] == pytest.approx(theirs["per_class"][name], abs=0.1)
    assert ours["cost"] == theirs["cost"]


def test_class_folders(saved_model, results, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name, color in COLORS.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            noise = rng.integers(-20, 20, (40, 40, 3))
            pixels = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    photos = str(tmp_path / "photos")
    found = run(saved_model, "", results, dataset="folder", data_dir=photos)
    assert (found["num_train"], found["num_test"]) == (15, 15)  # halves by class
    assert "30 images of 32 px, half 1" in capsys.readouterr().out
    assert found["pool"] == "adaptive average 2×2"
    assert found["top1"] > 60
    assert set(found["knn"]) == {"1", "5"}
    assert found["knn"]["1"] > 60


def test_bad_input_is_named(saved_model, root, tmp_path):
    def fails(message, **flags):
        flags = {"saved_model": saved_model, "voc_root": str(root), "output": "o.json", **flags}
        with pytest.raises(UserError, match=message):
            probe.main(ProbeConfig(**flags))

    fails("--output is required", output="")
    fails("a folder; name the JSON file to write", output=str(tmp_path))
    fails("--voc_root is required", voc_root="")
    fails("no VOC2012/ImageSets/Main in it", voc_year="2012")
    fails(r"val\.txt: No such file", train_split="val")
    fails("not a SavedModel", saved_model=str(tmp_path))
    fails("--svm_costs=0.1,-1", svm_costs="0.1,-1")
    fails("--svm_costs=voc", svm_costs="voc")
    copy = tmp_path / "VOCdevkit"
    shutil.copytree(root, copy)
    (copy / "VOC2007" / "JPEGImages" / "000003.jpg").unlink()
    fails(
        r"trainval\.txt: 1 of its 24 images missing from .*JPEGImages: 000003", voc_root=str(copy)
    )


def test_a_missing_endpoint_or_signature_is_named(tmp_path):
    module = tf.Module()
    encode = tf.function(
        lambda images: {"embedding": tf.zeros((tf.shape(images)[0], 2))},
        input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")],
    )
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"encode": encode})
    with pytest.raises(UserError, match="no endpoint 'res4', only embedding"):
        features.load_encode(str(tmp_path / "m"), "res4")
    tf.saved_model.save(module, str(tmp_path / "n"), signatures={"serving_default": encode})
    with pytest.raises(UserError, match="no signature 'encode'"):
        features.load_encode(str(tmp_path / "n"), "res4")


def test_a_damaged_image_is_one_line(saved_model, root, tmp_path):
    copy = tmp_path / "VOCdevkit"
    shutil.copytree(root, copy)
    path = copy / "VOC2007" / "JPEGImages" / "000105.jpg"
    path.write_bytes(path.read_bytes()[:50])
    words = [f"--saved_model={saved_model}", f"--voc_root={copy}", f"--output={tmp_path / 'o'}"]
    command = [sys.executable, "-m", "mgta_tf.probe", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{path}:" in done.stderr
    assert not os.path.exists(tmp_path / "o")


def test_the_result_is_written_for_tensorboards_comparison_of_runs(tmp_path):
    probe.show_result(str(tmp_path), {"map": 12.5, "top1": 3.0, "knn": {"20": 4.0}})
    probe.show_result(str(tmp_path), {"map": 13.5, "top1": None, "knn": None})  # on VOC
    events = EventAccumulator(str(tmp_path / "tensorboard" / "run")).Reload()
    assert set(events.Tags()["tensors"]) == {"result/map", "result/top1", "result/knn20"}


@pytest.mark.parametrize("turn", [1, 5, 6, 7, 8])
@pytest.mark.parametrize("drawn_on", ["stored", "displayed"])
def test_photographs_are_oriented_as_in_detection(root, tmp_path, drawn_on, turn):
    copy = tmp_path / "VOCdevkit"
    shutil.copytree(root, copy)
    folder = copy / "VOC2007"
    upright = Image.open(folder / "JPEGImages" / "000000.jpg")  # 50×40
    undone = {5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    turned = drawn_on == "displayed" and turn != 1
    kept = upright.transpose(Image.Transpose[undone[turn]]) if turned else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    kept.save(folder / "JPEGImages" / "000000.png", exif=exif)
    (folder / "JPEGImages" / "000000.jpg").unlink()
    (folder / "Annotations").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    text = (
        "<annotation><size><width>50</width><height>40</height></size>"
        f"<object><name>cow</name>{box}</object></annotation>"
    )
    annotation = folder / "Annotations" / "000000.xml"
    annotation.write_text(text)
    train, _ = probe.voc_sets(ProbeConfig(voc_root=str(copy)))
    expected = features.voc_image(np.asarray(upright))
    assert (train.load(np.array([0]))[0] == expected).all()


@pytest.mark.parametrize("turn", [2, 3, 4, 6])
def test_a_photograph_of_unclear_orientation_is_refused_before_anything_is_encoded(
    root, tmp_path, turn
):
    """2, 3 and 4 keep the size, so it decides nothing; for 6, the stated size fits neither way."""
    copy = tmp_path / "VOCdevkit"
    shutil.copytree(root, copy)
    folder = copy / "VOC2007"
    (folder / "Annotations").mkdir()
    exif = Image.Exif()
    exif[0x0112] = turn
    size = "50×40 fits both" if turn < 5 else "70×40 is neither"
    width = 50 if turn < 5 else 70
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for name in ("000004", "000103"):
        Image.open(folder / "JPEGImages" / f"{name}.jpg").save(
            folder / "JPEGImages" / f"{name}.jpg", exif=exif
        )
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><size><width>{width}</width><height>40</height></size>"
            f"<object><name>cow</name>{box}</object></annotation>"
        )
    reason = rf"000004\.jpg: EXIF orientation {turn}, and .* {size}"
    with pytest.raises(UserError, match=reason):  # before the SavedModel is opened
        probe.main(ProbeConfig(voc_root=str(copy), output=str(tmp_path / "o"), saved_model="none"))


def folder_run(saved_model, output, **flags):
    config = ProbeConfig(
        saved_model=saved_model,
        dataset="folder",
        output=str(output),
        svm_costs="0.1,10",
        image_size=32,
        **flags,
    )
    probe.main(config)
    return json.loads(output.read_text())


def test_files_corrected_in_place_are_encoded_again(saved_model, tmp_path):
    """Cached features are not reused for the same names, half of which were in wrong folders."""
    data, output = str(tmp_path / "photos"), tmp_path / "probe.json"
    cases.relabelled(data, right=False)
    mixed = folder_run(saved_model, output, data_dir=data)
    cases.relabelled(data, right=True)
    right = folder_run(saved_model, output, data_dir=data)
    fresh = folder_run(saved_model, tmp_path / "elsewhere" / "probe.json", data_dir=data)
    assert right["top1"] == fresh["top1"] > 90
    assert right["baselines"]["thumbnail"]["top1"] == 100
    assert mixed["top1"] < 80
    cases.replace_contents(data)
    assert folder_run(saved_model, output, data_dir=data)["top1"] < 80


def test_voc_photographs_that_change_in_place_are_encoded_again(saved_model, root, tmp_path):
    copy = tmp_path / "VOCdevkit"
    shutil.copytree(root, copy)
    first = run(saved_model, copy, tmp_path)
    cases.replace_contents(copy / "VOC2007" / "JPEGImages")
    assert run(saved_model, copy, tmp_path)["map"] < first["map"] - 10


def test_a_shortened_list_is_read_again(saved_model, root, tmp_path):
    copy = tmp_path / "VOCdevkit"
    shutil.copytree(root, copy)
    run(saved_model, copy, tmp_path)
    for path in (copy / "VOC2007" / "ImageSets" / "Main").glob("*trainval.txt"):
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-6]))
    assert run(saved_model, copy, tmp_path)["num_train"] == 18


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """train/ and val/ whose classes have different numbers: train/ has one more, which is first."""
    folder = tmp_path_factory.mktemp("halves")
    rng = np.random.default_rng(0)
    for split, names in (("train", ("a_unused", *COLORS)), ("val", COLORS)):
        for name in names:
            for number in range(8):
                color = np.array(COLORS.get(name, (128, 128, 128)))
                pixels = np.clip(color + rng.integers(-20, 20, (40, 40, 3)), 0, 255)
                picture = Image.fromarray(pixels.astype(np.uint8))
                cases.put(f"{folder}/{split}/{name}/{number}.png", picture)
    return folder


@pytest.mark.parametrize("how", ["splits", "folders"])
def test_train_and_test_images_share_classes_by_name(saved_model, halves, tmp_path, how):
    flags = {"data_dir": str(halves)}
    if how == "folders":
        flags = {"train_dir": str(halves / "train"), "val_dir": str(halves / "val")}
    found = folder_run(saved_model, tmp_path / "p.json", **flags)
    assert (found["num_train"], found["num_test"]) == (32, 24)
    assert found["top1"] > 90


def test_baselines_are_evaluated_as_well(saved_model, halves, tmp_path, capsys):
    found = folder_run(saved_model, tmp_path / "p.json", data_dir=str(halves))["baselines"]
    assert found["chance"]["map"] == pytest.approx(
        100 / 3
    )  # 8 of 24 images of each class that has images
    assert found["chance"]["top1"] == 0  # the most frequent class of the training images is unused
    assert found["thumbnail"]["top1"] == 100  # colors are the classes
    assert found["untrained"]["top1"] > 60
    out = capsys.readouterr().out
    for name in ("chance", "thumbnail", "untrained"):
        assert f"  {name}: mAP " in out
    assert (
        folder_run(saved_model, tmp_path / "p.json", data_dir=str(halves), baselines=False)[
            "baselines"
        ]
        is None
    )


def test_folders_that_cannot_be_evaluated(saved_model, halves, tmp_path):
    def fails(message, **flags):
        with pytest.raises(UserError, match=message):
            folder_run(saved_model, tmp_path / "p.json", **flags)

    fails("no split 'test'; it has train, val", data_dir=str(halves), test_split="test")
    fails("no split 'val'; it has no splits", data_dir=str(halves / "val"), test_split="val")
    fails("go together", train_dir=str(halves))
    fails("remove --data_dir", data_dir="x", train_dir=str(halves), val_dir=str(halves))
    fails(
        "no training images of its classes a_unused",
        train_dir=str(halves / "val"),
        val_dir=str(halves / "train"),
    )
    cases.put(f"{tmp_path}/single/all/1.png")
    fails("a single class", data_dir=str(tmp_path / "single"))
    with pytest.raises(UserError, match="for --dataset=folder; add it"):
        probe.main(ProbeConfig(saved_model=saved_model, data_dir="x", output="o.json"))
