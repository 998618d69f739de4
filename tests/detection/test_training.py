"""The command as a user runs it, with Model Garden's trainer, on four drawn images."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mgta_tf import detect
from mgta_tf.detection import records, training
from mgta_tf.detection.config import (
    BoxDataConfig,
    CacheConfig,
    DetectConfig,
    DetectRunConfig,
    ScheduleConfig,
)
from mgta_tf.detection.heads import FrozenBody, Res5Head
from mgta_tf.detection.sets import load
from mgta_tf.errors import UserError
from mgta_tf.models import artifact
from mgta_tf.runtime import files
from mgta_tf.runtime.workdir import Workdir


def with_run(config, **flags):
    return dataclasses.replace(config, run=dataclasses.replace(config.run, **flags))


@pytest.fixture(scope="module")
def trained(small, two_replicas, tmp_path_factory):
    """A run that was killed at step 60 and resumed: (config, workdir, detection.json).

    It ran on two devices before the kill and on one after it, as if moved to another machine.
    """
    workdir = str(tmp_path_factory.mktemp("run") / "a run [lr=1], *?")
    config = with_run(small, workdir=workdir)
    after_loop = training.Detector._after_loop

    def killed(self, outputs):
        after_loop(self, outputs)
        if self.step == 60:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Detector, "_after_loop", killed)
        patch.setattr(training, "make_strategy", lambda parts, flag: two_replicas)
        with pytest.raises(KeyboardInterrupt):
            detect.main(config)
    detect.main(config)
    with open(os.path.join(workdir, "detection.json")) as file:
        return config, workdir, json.load(file)


def test_four_images_are_memorized_despite_a_kill(trained):
    config, _, found = trained
    assert found["ap50_voc07"] >= 90
    assert found["ap50_area"] >= 90
    assert found["coco_ap50"] >= 90
    assert found["per_class"]["bird"] > 50
    assert found["per_class"]["cat"] is None
    assert found["diverged"] is False
    assert found["seconds_per_step"] > 0
    assert found["steps"] == config.schedule.steps


def test_the_run_resumed_where_it_was_killed(trained):
    config, workdir, _ = trained
    curve = {}
    folder = os.path.join(workdir, "tensorboard", "train")
    for name in sorted(os.listdir(folder)):  # one file for each start
        for event in tf.compat.v1.train.summary_iterator(os.path.join(folder, name)):
            for value in event.summary.value:
                if value.tag == "learning_rate":
                    rate = float(tf.make_ndarray(value.tensor))
                    curve.setdefault(name, []).append((event.step, rate))
    first, second = curve.values()
    # Model Garden writes a loop's scalars after its actions, so those of the killed loop are lost.
    assert [step for step, _ in first] == [10, 20, 30, 40, 50]
    assert [step for step, _ in second] == list(range(60, config.schedule.steps + 1, 10))
    rates = dict(second)
    high = config.schedule.learning_rate
    assert rates[60] == pytest.approx(high)
    assert rates[config.schedule.steps] == pytest.approx(high / 10)


def test_the_body_is_untouched_and_res5_is_trained(trained):
    config, workdir, _ = trained
    encoder, facts = artifact.load_encoder(config.run.saved_model)
    before = {v.name: v.numpy() for v in encoder.variables}
    body, head = FrozenBody(encoder, facts.normalization), Res5Head(encoder, 21)
    for variable in encoder.variables:
        variable.assign(tf.zeros_like(variable))  # the values below come from the checkpoint
    with files.literal(os.path.join(workdir, "checkpoints")) as folder:
        newest = tf.train.latest_checkpoint(folder)
        status = tf.train.Checkpoint(backbone=body, detection_head=[head]).read(newest)
        status.assert_existing_objects_matched().expect_partial()
    assert len(body.variables) > 20
    assert all((v.numpy() == before[v.name]).all() for v in body.variables)
    kernels = [v for v in head.res5.variables if v.name.endswith("kernel:0")]
    norms = [v for v in head.res5.variables if "_bn/" in v.name]
    assert len(kernels) == 4
    assert all((v.numpy() != before[v.name]).mean() > 0.9 for v in kernels)
    assert all((v.numpy() == before[v.name]).all() for v in norms)


def test_a_photograph_is_drawn(trained, devkit, tmp_path, capsys):
    _, workdir, _ = trained
    photo = tmp_path / "photo [1], *?.jpg"
    photo.write_bytes((devkit / "VOC2007" / "JPEGImages" / "000001.jpg").read_bytes())
    detect.main(DetectConfig(run=DetectRunConfig(workdir=workdir, image=str(photo), min_score=0.2)))
    out = capsys.readouterr().out
    assert "aeroplane" in out
    assert "bird" in out
    drawn = np.asarray(Image.open(tmp_path / "photo [1], *?.detections.png")).astype(int)
    before = np.asarray(Image.open(photo)).astype(int)
    assert drawn.shape == before.shape
    assert 50 < np.sum(np.abs(drawn - before).max(axis=-1) > 30) < drawn.shape[0] * 60


def test_records_replaced_during_a_run_are_refused(trained, tmp_path):
    """Records are identified by their content, not by their folder."""
    config, workdir, _ = trained
    moved = str(tmp_path / "moved")
    shutil.copytree(config.run.records, moved)
    training.with_records(with_run(config, records=moved), Workdir(workdir), None)
    path = os.path.join(moved, records.MANIFEST)
    with open(path) as file:
        content = json.load(file)
    with open(path, "w") as file:
        json.dump({**content, "digest": "other boxes"}, file)
    with pytest.raises(UserError, match="not those that the run has trained on"):
        training.with_records(with_run(config, records=moved), Workdir(workdir), None)


def test_eval_only_evaluates_again_and_keeps_the_measured_seconds(trained):
    _, workdir, found = trained
    path = os.path.join(workdir, "detection.json")
    os.remove(os.path.join(workdir, "detections.png"))
    detect.main(DetectConfig(run=DetectRunConfig(workdir=workdir, eval_only=True)))
    with open(path) as file:
        again = json.load(file)
    assert again == found
    assert Image.open(os.path.join(workdir, "detections.png")).size[0] > 900


def test_a_diverged_run_ends_cleanly(small, tmp_path, capsys):
    workdir = str(tmp_path / "w")
    schedule = dataclasses.replace(
        small.schedule, base_learning_rate=1e30, warmup_steps=0, steps=20
    )
    config = dataclasses.replace(
        with_run(small, workdir=workdir), schedule=schedule, cache=CacheConfig("off")
    )
    detect.main(config)
    with open(os.path.join(workdir, "detection.json")) as file:
        found = json.load(file)
    assert found["diverged"] is True
    assert found["ap50_voc07"] is None
    assert "the run has diverged" in capsys.readouterr().out
    assert not tf.train.latest_checkpoint(os.path.join(workdir, "checkpoints"))


VEST = "hi-vis vest"


@pytest.fixture
def own(small, make_voc, tmp_path):
    """Boxes of one class, in VOC's folders without lists."""
    scene = [(VEST, 11, 21, 42, 52, 0), (VEST, 56, 50, 87, 81, 0)]
    devkit = make_voc(tmp_path / "data", [scene] * 4, [])
    shutil.rmtree(devkit / "VOC2007" / "ImageSets")
    schedule = ScheduleConfig(
        steps=10, decay_step=8, batch_size=2, base_learning_rate=0.04, warmup_steps=0
    )
    config = with_run(small, workdir=str(tmp_path / "w [1]"), records="", log_every_steps=5)
    data = BoxDataConfig(voc_root=str(devkit), test_share=0.5)
    return dataclasses.replace(config, data=data, schedule=schedule)


def test_class_names_of_own_boxes_appear_everywhere(own, tmp_path, capsys):
    detect.main(own)
    out = capsys.readouterr().out
    assert "VOC's XML, 2 photographs to train on and 2 to evaluate on (--test_share=0.5)" in out
    with open(tmp_path / "w [1]" / "detection.json") as file:
        found = json.load(file)
    assert list(found["per_class"]) == list(found["per_class_area"]) == [VEST]
    assert (found["train_set"], found["num_train"], found["num_test"]) == ("own", 2, 2)
    photo = tmp_path / "photo.png"
    shutil.copy(tmp_path / "data" / "VOC2007" / "JPEGImages" / "000001.jpg", photo)
    asked = DetectRunConfig(workdir=own.run.workdir, image=str(photo), min_score=0.0)
    detect.main(DetectConfig(run=asked))
    assert f"  {VEST} 0." in capsys.readouterr().out

    # A run resumes after its data moved, but not with other boxes under the same names.
    shutil.move(tmp_path / "data", tmp_path / "moved")
    detect.main(own)
    moved = BoxDataConfig(voc_root=str(tmp_path / "moved"), test_share=0.5)
    own = dataclasses.replace(own, data=moved)
    detect.main(own)
    path = tmp_path / "moved" / "VOC2007" / "Annotations" / "000002.xml"
    path.write_text(path.read_text().replace("<xmax>42<", "<xmax>45<"))
    with pytest.raises(UserError, match="not those that the run has trained on"):
        detect.main(own)


def test_records_are_rebuilt_when_boxes_change_before_training(own, capsys):
    workdir = Workdir(own.run.workdir)
    first = training.with_records(own, workdir, load(own.data)).run.records
    assert records.contents(first, "voc07").most_objects == 2
    path = os.path.join(own.data.voc_root, "VOC2007", "Annotations", "000001.xml")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        more = text[text.index("<object>") : text.index("</object>") + 9].replace("11", "12")
        file.write(text.replace("</annotation>", f"{more}</annotation>"))
    capsys.readouterr()
    for rebuilt in (True, False):
        training.with_records(own, workdir, load(own.data))
        assert ("2 images" in capsys.readouterr().out) is rebuilt
    assert records.contents(first, "voc07").most_objects == 3


def test_damaged_photographs_of_own_data_are_skipped_and_named(own, capsys):
    workdir = Workdir(own.run.workdir)
    folder = os.path.join(own.data.voc_root, "VOC2007", "JPEGImages")
    sets = load(own.data)
    damaged = sets.images["train"][0].path
    with open(damaged, "wb") as file:
        file.write(b"no image")
    made = training.with_records(own, workdir, sets).run.records
    assert records.contents(made, "voc07").num_images("train") == 1
    assert "1 photograph skipped" in capsys.readouterr().out
    with open(workdir.skipped) as file:
        assert file.read().startswith(damaged)
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"no image")
    with pytest.raises(UserError, match="train: 2 of 2 photographs cannot be used"):
        training.with_records(own, workdir, load(own.data))


def test_bad_input_is_refused_in_one_line(small, trained, tmp_path):
    workdir = trained[1]

    def fails(message, config, **flags):
        with pytest.raises(UserError, match=message):
            detect.main(with_run(config, **flags))

    fails("--saved_model is required", DetectConfig())
    fails("--workdir is required", DetectConfig(), saved_model="x")
    fails(
        "--voc_root or --records is required",
        DetectConfig(),
        saved_model="x",
        workdir=str(tmp_path),
    )
    fails("no such file; --workdir must be the folder", DetectConfig(), workdir="x", eval_only=True)
    fails(
        "belongs to a run with other flags: .*--steps was",
        DetectConfig(),
        workdir=workdir,
        saved_model=small.run.saved_model,
    )
    fails(
        "--image=nowhere.jpg: .*No such file", DetectConfig(), workdir=workdir, image="nowhere.jpg"
    )
