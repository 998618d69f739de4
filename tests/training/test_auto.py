"""Configs with automatic values: choices, measured speed, resumed runs, and refusals."""

import subprocess
import sys

import numpy as np
import pytest
from absl import flags as absl_flags
from PIL import Image
from small import DATA_AND_NET, FLAGS

import mgta_tf
from mgta_tf import config as config_lib
from mgta_tf import train
from mgta_tf.data.layouts import Source
from mgta_tf.errors import UserError
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.runtime.workdir import load_config
from mgta_tf.training import auto, speed
from mgta_tf.training.config import SupervisedConfig, TrainConfig
from mgta_tf.training.speed import Speed


def leaves(*words, config_class=TrainConfig):
    values = absl_flags.FlagValues()
    config_lib.define(config_class, values)
    values(["program", *words])
    return config_lib.leaves(config_class, values)


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setattr(auto, "_cores", lambda: 1)


@pytest.fixture
def photographs(tmp_path):
    """49 images, 120 pixels wide and 50 to 98 high, and a damaged file."""
    folder = tmp_path / "photos"
    for number in range(49):
        path = folder / f"day {number % 3}" / f"{number}{('.JPEG', '.webp', '.png')[number % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (120, 50 + number), (4 * number, 0, 0)).save(path)
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def test_values_of_a_new_run_are_chosen_for_its_images_and_printed(photographs, tmp_path, capsys):
    flags = leaves(f"--data_dir={photographs}", f"--workdir={tmp_path / 'w'}")
    config, source = auto.config_of_run(flags)
    # The median of 50 … 98 is 74. 50 images · 400 epochs of ResNet-50 take 29 min.
    assert config.augment.image_size == 64
    assert config.model == ModelConfig(width=0.25, blocks=(2, 2, 2, 2))
    assert (config.batch.clusters_per_batch, config.batch.images_per_cluster) == (25, 2)
    assert config.guidance.final_epochs == 400
    assert len(source.names) == 50
    out = capsys.readouterr().out
    assert out.startswith("chosen for 50 images, 74 px on the shorter side (median), and 1 core")
    assert "--width=0.25 --blocks=2,2,2,2" in out
    assert "--final_epochs=400" in out
    assert "--rounds" not in out  # values without influence are not printed


def test_a_run_keeps_what_it_began_with(finished, capsys):
    """Regardless of the present images and machine, which are not inspected."""
    given = {**FLAGS, "workdir": str(finished)}
    chosen = ("image_size", "num_clusters", "clusters_per_batch", "rounds", "final_epochs", "width")
    words = config_lib.to_arguments({n: v for n, v in given.items() if n not in chosen})
    config, source = auto.config_of_run(leaves(*words, "--minutes=5"))
    before = load_config(str(finished / "flags.flagfile"), TrainConfig)
    assert source is None
    found = {**config_lib.to_dict(config), "minutes": 0.0}
    assert found == config_lib.to_dict(before)
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match="--image_size was 32 and is 64"):
        train.main(leaves(*words, "--image_size=64"))


def test_the_waiting_time_counts_from_the_start_of_the_command(tmp_path, monkeypatch):
    """Not from the end of its imports, of which TensorFlow's takes seconds."""
    seen = []
    monkeypatch.setattr(train, "train", lambda config, source, began: seen.append(began))
    train.main({**config_lib.to_dict(TrainConfig()), **FLAGS, "workdir": str(tmp_path / "w")})
    assert seen == [mgta_tf.STARTED]
    code = "import sys, mgta_tf; print(mgta_tf.STARTED, 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(" False\n")


def test_flags_that_are_wrong_for_any_images_are_refused_first(tmp_path, monkeypatch):
    workdir, nowhere = f"--workdir={tmp_path}", "--data_dir=/nowhere"
    for words, message in (
        ([nowhere], "--workdir is required"),
        ([nowhere, workdir, "--image_size=50"], "--image_size=50: must be a multiple of 32"),
        ([nowhere, workdir, "--rounds=2"], "--rounds=2 with --labels=none"),
        (
            [nowhere, workdir, "--views_per_image=4"],
            "/nowhere: no such folder",
        ),  # the flags are right
    ):
        with pytest.raises(UserError, match=message):
            auto.config_of_run(leaves(*words))
    monkeypatch.setattr(auto.hosts, "count", lambda: 2)
    with pytest.raises(UserError, match="--minutes supports a single host only"):
        auto.config_of_run(leaves(nowhere, workdir, "--minutes=5"))


# -------------------------------------------------------------------------------------- --minutes


@pytest.fixture
def measured(monkeypatch):
    """0.1 s per step, 0.01 s per image, 6 s per graph; k-means: 1e-4 s per image and cluster."""
    found = []

    def measure(config, _):
        found.append(config)
        return Speed(0.01, 0.1, 6.0, 1e-4)

    monkeypatch.setattr(auto.speed, "measure", measure)
    monkeypatch.setattr(auto.time, "monotonic", lambda: 0.0)
    return found


SHAPES = ("--data_source=shapes", "--shapes_count=1000", "--image_size=32")


def test_minutes_are_spent_on_epochs(measured, tmp_path, capsys):
    words = (*SHAPES, f"--workdir={tmp_path}", "--minutes=5")
    config, _ = auto.config_of_run(leaves(*words))
    # 300 s − a tenth, 1,000 · 0.01 s to read, 2.11 · 6 s for graphs of training, pictures and
    # checkpoints and for the end, and 1,000 images encoded at a 192nd of a step: 246.8 s are 2,468
    # steps, of 64 images each; 159 epochs would be 2,484 steps.
    assert config.guidance.final_epochs == 158
    assert "--final_epochs=158" in capsys.readouterr().out
    assert measured[0].batch.size == 64
    # Images that do not fit the memory are read in every step: 0.1 + 64 · 0.01 s, 333 steps.
    config, _ = auto.config_of_run(leaves(*words, "--cache_budget_mb=1"))
    assert config.guidance.final_epochs == 21


def test_minutes_plan_stages_and_rounds(measured, tmp_path):
    words = (*SHAPES, f"--workdir={tmp_path}", "--labels=clusters", "--decoder=mirror")
    schedule = auto.config_of_run(leaves(*words, "--minutes=5"))[0].guidance
    stages = (schedule.iae_epochs, schedule.rounds, schedule.epochs_per_round)
    # Graphs of two nets and the end take 2.8 · 6 s, so 243 s are left. Labels of 21 turns: 11,000
    # images are encoded and as many compared, 5.7 s at a 384th of a step; 11,000 · 50 clusters take
    # 55 s. So 1,825 steps. Of 115 epochs stage 1 and the rounds have 54.8 each: 859 and 20 · 39
    # steps; 78 follow. With 116 epochs a round would have 6, and the sum be 1,872.
    assert stages == (55, 10, 5)
    assert schedule.final_epochs == 5
    # Explicit flags take precedence; if nothing is left to plan, nothing is measured.
    del measured[:]
    given = ("--iae_epochs=1", "--rounds=1", "--epochs_per_round=1", "--final_epochs=1")
    schedule = auto.config_of_run(leaves(*words, *given, "--minutes=5"))[0].guidance
    assert (schedule.iae_epochs, schedule.rounds, schedule.final_epochs) == (1, 1, 1)
    assert measured == []


@pytest.mark.usefixtures("measured")
def test_a_budget_that_is_too_small_trains_one_epoch_with_a_warning(tmp_path, capsys):
    config, _ = auto.config_of_run(leaves(*SHAPES, f"--workdir={tmp_path}", "--minutes=0.1"))
    assert config.guidance.final_epochs == 1
    assert "more than --minutes allows" in capsys.readouterr().out


def test_the_speed_is_measured_by_training_on_the_images():
    flags = {**DATA_AND_NET, "clusters_per_batch": 4, "labels": "clusters"}
    config = config_lib.from_dict(TrainConfig, flags)
    read = []

    def image(number):
        read.append(number)
        if number == 2:
            raise OSError("gone")
        return np.full((40, 50, 3), number, np.uint8)

    names = [str(number) for number in range(5)]
    found = speed.measure(config, Source("five images", names, None, (), image))
    assert sorted(read) == [0, 1, 2, 3, 4]
    assert 0 < found.step < found.first_step
    assert found.image > 0
    assert 0 < found.cluster < 1e-3
    with pytest.raises(UserError, match="five images: none of 1 images can be read"):
        speed.measure(config, Source("five images", ["2"], None, (), lambda number: image(2)))


# ------------------------------------------------------------------------------------- Supervised


def test_supervised_counts_the_labels_that_it_uses(photographs, saved_model, tmp_path):
    words = [f"--data_dir={photographs}", f"--workdir={tmp_path / 'w'}", "--label_fraction=0.5"]
    config, source = auto.config_of_supervised(leaves(*words, config_class=SupervisedConfig))
    assert config.run.batch_size == 25 // 4  # half of 17, 16 and 16 images: 9 + 8 + 8
    assert len(source.names) == 50
    words.append(f"--init={saved_model}")
    config, _ = auto.config_of_supervised(leaves(*words, config_class=SupervisedConfig))
    assert config.augment.image_size == 32
    assert config.model == ModelConfig(width=0.0625, blocks=(1, 1, 1, 1))
