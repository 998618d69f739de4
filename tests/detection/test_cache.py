"""The body's features on disk: equal to bfloat16's precision, with equal losses."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.detection import cache, parser, records
from mgta_tf.detection.config import CacheConfig, DetectConfig
from mgta_tf.detection.heads import FrozenBody
from mgta_tf.detection.parser import Parser
from mgta_tf.detection.task import FasterRcnnC4Task, experiment
from mgta_tf.errors import UserError
from mgta_tf.models import artifact

EPSILON = 2.0**-8  # relative precision of bfloat16: eight bits


@pytest.fixture(scope="module")
def files(records_dir):
    return records.files_of(records_dir, ("2007_trainval",))


@pytest.fixture(scope="module")
def body(saved_model):
    encoder, facts = artifact.load_encoder(saved_model)
    return FrozenBody(encoder, facts.normalization)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, files, body, small):
    path = str(tmp_path_factory.mktemp("features") / "made")
    detector = dataclasses.replace(small.detector, long_side=120)  # wider than the images
    assert cache.choose(CacheConfig(path), "", files, body, detector) == path
    return path


def choose(small, files, body, where, **flags):
    detector = dataclasses.replace(small.detector, long_side=120)
    return cache.choose(CacheConfig(**flags), str(where), files, body, detector)


def test_features_are_those_of_the_body(folder, files, body, small):
    detector = dataclasses.replace(small.detector, long_side=120)
    look_up = cache.open_features(folder).lookup(detector)
    for raw in tf.data.TFRecordDataset(files):
        data = parser.decode(raw)
        for flip in (False, True):
            inputs, _ = Parser(detector).train_example(data, tf.constant(flip))
            expected = body({k: v[None] for k, v in inputs.items()})["4"][0].numpy()
            found = look_up(data["source_id"], tf.constant(flip))
            assert found.dtype == tf.bfloat16
            assert found.shape == (8, 8, 64)
            assert not tf.cast(found, tf.float32).numpy()[6:].any()
            assert tf.cast(found, tf.float32).numpy() == pytest.approx(expected, rel=EPSILON)


def test_losses_with_and_without_the_cache_agree(folder, files, small):
    config = dataclasses.replace(small, detector=dataclasses.replace(small.detector, long_side=120))
    params = experiment(config).task
    task = FasterRcnnC4Task(params)
    model = task.build_model()
    features = cache.open_features(folder).lookup(config.detector)
    batches: list = [[], []]
    for number, raw in enumerate(tf.data.TFRecordDataset(files)):
        for batch, source in zip(batches, (None, features)):
            tf.keras.utils.set_random_seed(number)  # for sampling the anchors
            example = Parser(config.detector, source).train_example(
                parser.decode(raw), tf.constant(number % 2 == 1)
            )
            batch.append(example)
    found = []
    for batch in batches:
        inputs, labels = tf.nest.map_structure(lambda *parts: tf.stack(parts), *batch)
        tf.keras.utils.set_random_seed(0)  # for sampling the proposals
        outputs = model(
            inputs,
            image_shape=labels["image_info"][:, 1],
            anchor_boxes=labels["anchor_boxes"],
            gt_boxes=labels["gt_boxes"],
            gt_classes=labels["gt_classes"],
            training=True,
        )
        losses = task.build_losses(outputs, labels, model.losses)
        found.append({name: float(value) for name, value in losses.items()})
    assert found[1] == pytest.approx(found[0], rel=EPSILON)
    assert found[0]["roi_class_loss"] > 0
    assert found[0] != found[1]  # otherwise the cache was not used


def test_a_cache_is_reused_for_the_same_inputs_only(folder, files, body, small):
    before = os.stat(f"{folder}/body.bf16").st_mtime_ns
    assert choose(small, files, body, "", cache_body_features=folder) == folder
    assert os.stat(f"{folder}/body.bf16").st_mtime_ns == before
    with pytest.raises(UserError, match="features of another encoder, other images or another"):
        cache.choose(CacheConfig(folder), "", files, body, small.detector)
    with pytest.raises(UserError, match="features of another encoder"):
        choose(small, files[:1], body, "", cache_body_features=folder)


def test_the_key_covers_everything_that_the_features_depend_on(files, body, saved_model, small):
    encoder, _ = artifact.load_encoder(saved_model)
    detector = dataclasses.replace(small.detector, short_side=64)
    other = FrozenBody(encoder, "unit" if body.normalization != "unit" else "centered")
    keys = [
        cache.plan(*args).key
        for args in (
            (files, body, small.detector),
            (files, body, detector),
            (files, other, small.detector),
            (files[1:], body, small.detector),
            (files[::-1], body, small.detector),
        )
    ]
    assert len(set(keys)) == 5
    assert cache.plan(files, body, small.detector).key == keys[0]


def test_features_in_the_workdir_are_recomputed_for_other_images(files, body, small, tmp_path):
    for part in (files[:1], files[1:2]):
        assert choose(small, part, body, tmp_path, cache_body_features="auto") == str(tmp_path)
        (number,) = {records.source_id(example) for example in records.read(part)}
        assert list(cache.open_features(str(tmp_path)).place) == [number]


def test_the_budget_is_checked_before_anything_is_computed(files, body, small, tmp_path, capsys):
    where = tmp_path / "features"
    assert choose(small, files, body, where, cache_budget_gb=1e-9) == ""
    assert "over --cache_budget_gb=1e-09; the body runs in every step" in capsys.readouterr().out
    assert not where.exists()
    with pytest.raises(UserError, match="--cache_body_features: features of the body would take"):
        choose(small, files, body, "", cache_body_features=str(where), cache_budget_gb=1e-9)
    assert choose(small, files, body, where, cache_body_features="off") == ""
    assert not where.exists()


def test_a_damaged_cache_is_named(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "body.bf16").write_bytes((copy / "body.bf16").read_bytes()[:-2])
    with pytest.raises(UserError, match=r"body.bf16: missing or cut"):
        cache.open_features(str(copy))
    (copy / "body.json").write_text(json.dumps({})[:1])
    with pytest.raises(UserError, match=r"body.json: damaged"):
        cache.open_features(str(copy))


def test_the_size_of_a_cache_with_the_papers_settings(files, body):
    planned = cache.plan(files, body, DetectConfig().detector)
    # 96×96 becomes 600×600: 38×38 cells of 64 channels, five images and their mirror images
    assert planned.num_values == 5 * 2 * 38 * 38 * 64
    assert planned.gigabytes == pytest.approx(5 * 2 * 38 * 38 * 64 * 2 / 1e9)
    assert np.unique([first for first, _, _ in planned.place.values()]).size == 5
