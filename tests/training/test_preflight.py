"""Flags that do not fit the images are refused at the start, with a value that works."""

import re

import cases
import numpy as np
import pytest
from small import FLAGS, config_of

from mgta_tf import config as config_lib
from mgta_tf import supervised, train
from mgta_tf.errors import UserError
from mgta_tf.training import preflight
from mgta_tf.training.config import SupervisedConfig

BASE = dict(num_clusters=20, clusters_per_batch=8, images_per_cluster=2, probe_every_rounds=0)
LABELS = np.arange(400) % 4


def check(images, truth=LABELS, **flags):
    preflight.check(config_of(**{"workdir": "w", **BASE, **flags}), images, truth)


REFUSED = {
    "K < P": (400, {"clusters_per_batch": 32}, "num_clusters: 20 clusters are fewer than"),
    "P×K above a half": (
        30,
        {"num_clusters": 8},
        "larger than the data: a batch has P×K = 8×2 .* 15 to train on, a half of 30",
    ),
    "global batch": (
        30,
        {"global_batch": 16, "num_clusters": 8},
        "--global_batch=16: larger than the data",
    ),
    "K above the images": (38, {}, "20 clusters must be fewer than the 19 images"),
    "candidates below P": (
        400,
        {"num_clusters": "auto", "k_candidates": "5,50"},
        "k_candidates: 5 clusters are fewer than --clusters_per_batch=8",
    ),
    "candidates above": (
        400,
        {"num_clusters": "adaptive", "k_candidates": "50:500:10"},
        "k_candidates: 500 clusters must be fewer than the 200 images",
    ),
    "too few pairs": (
        400,
        {"num_clusters": 195, "views_per_image": 1},
        "195 clusters of 200 images, fewer than --clusters_per_batch=8 clusters can have two",
    ),
    "hdbscan": (
        100,
        {"clusterer": "hdbscan"},
        "hdbscan: the 50 images.*cannot form P = 8 clusters of 10",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_value_comes_with_one_that_is_accepted(name):
    images, flags, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as error:
        check(images, **flags)
    suggested = re.search(r"give --(\w+)=(\d+(?:,\d+)*)", str(error.value))
    value = suggested[2] if "," in suggested[2] else int(suggested[2])
    check(images, **{**flags, suggested[1]: value})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "no class labels found"),
        (np.zeros(400, int), "needs two classes of two"),
        (np.r_[np.zeros(399, int), 1], "needs two classes of two"),
        (np.r_[np.full(391, -1), np.arange(9) % 2], "9 labelled images"),
    ],
)
def test_the_online_probe_needs_classes_and_images(labels, message):
    check(400, labels)
    with pytest.raises(UserError, match=message):
        check(400, labels, probe_every_rounds=1)


def test_views_alone_need_p_images_and_a_loaded_iae_none_for_stage_1(tmp_path):
    views = dict(labels="none", rounds=0, iae_epochs=0, num_clusters=300)
    check(8, **views)
    with pytest.raises(UserError, match="--clusters_per_batch=8: larger than the data"):
        check(7, **views)
    with pytest.raises(UserError, match="larger than the data"):
        check(8, **{**views, "iae_epochs": 1})
    loaded = {**views, "iae_epochs": 1, "iae_checkpoint": str(tmp_path / "run")}
    with pytest.raises(UserError, match=r"no checkpoint .*run/checkpoints/iae; stage 1"):
        check(8, **loaded)
    cases.text(f"{tmp_path}/run/checkpoints/iae.index", "")
    check(8, **loaded)
    cases.text(f"{tmp_path}/w/checkpoints/checkpoint", "")  # a started run has loaded it already
    check(8, **{**loaded, "iae_checkpoint": "gone", "workdir": str(tmp_path / "w")})


@pytest.mark.parametrize(
    ("labels", "batch", "message"),
    [
        (None, 8, "no class labels found"),
        (np.zeros(20, int), 8, "a single class"),
        (np.arange(20) % 2, 21, "give --batch_size=5"),
    ],
)
def test_supervised(labels, batch, message):
    config = config_lib.from_dict(SupervisedConfig, {"batch_size": batch})
    with pytest.raises(UserError, match=message):
        preflight.check_supervised(config, 20, labels)


def test_refused_runs_may_change_their_flags(tmp_path, monkeypatch):
    """Refused before decoding; then accepted in the same --workdir with the suggested value."""
    for number in range(64):
        cases.put(f"{tmp_path}/photos/{'ab'[number % 2]}/{number}.png")
    flags = dict(data_source="", data_dir=str(tmp_path / "photos"), num_clusters=3)
    with monkeypatch.context() as patch:
        patch.setattr("mgta_tf.data.images.decode", None)
        with pytest.raises(UserError, match="give --num_clusters=4"):
            train.train(config_of(tmp_path / "w", **flags))
        words = {key: value for key, value in FLAGS.items() if key in ("width", "blocks")}
        words.update(data_dir=flags["data_dir"], workdir=str(tmp_path / "s"), batch_size=99)
        with pytest.raises(UserError, match="--batch_size=99 is above the 64 images"):
            supervised.train(config_lib.from_dict(SupervisedConfig, words))
    train.train(config_of(tmp_path / "w", **{**flags, "num_clusters": 4}))
