"""Values chosen for the images and the machine, against hand-worked cases."""

import dataclasses

import numpy as np
import pytest
from absl import flags as absl_flags

from mgta_tf import config as config_lib
from mgta_tf.data import sampler
from mgta_tf.data.sampler import BatchConfig
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.training import defaults, preflight
from mgta_tf.training.config import SupervisedConfig, TrainConfig
from mgta_tf.training.defaults import Facts
from mgta_tf.training.guidance import GuidanceConfig

SMALL, FULL = (0.25, (2, 2, 2, 2)), (1.0, (3, 4, 6, 3))
CLUSTERS = ("--labels=clusters", "--decoder=mirror")


def given(*words, config_class=TrainConfig):
    values = absl_flags.FlagValues()
    config_lib.define(config_class, values)
    values(["program", *words])
    return config_lib.given(config_class, config_lib.leaves(config_class, values))


def chosen(facts, *words, seconds=0.0):
    """The values that are chosen, by flag."""
    leaves = given(*words)
    values = defaults.leaves_with({}, defaults.of_run(leaves, facts, seconds))
    return {name: value for name, value in values.items() if name not in leaves}


# images, shorter side, cores, GPUs; image size, encoder, P, K, epochs
TWO_VIEWS = [
    # ResNet-50 at 64 px takes 1.77e9 operations an image, the small encoder 6.8e7; a core does 2e10
    # a second. 400 · 150 images of ResNet-50: 88 min on a core, 11 min on 8; ten are allowed.
    ((150, 375, 1, 0), (64, SMALL, 32, 2, 400)),
    ((150, 375, 8, 0), (64, SMALL, 32, 2, 400)),
    ((150, 375, 16, 0), (64, FULL, 32, 2, 400)),  # 5.5 min
    ((150, 32, 2, 0), (32, SMALL, 32, 2, 400)),  # a quarter of 44 min: 11 min
    ((150, 32, 8, 0), (32, FULL, 32, 2, 400)),
    ((20, 375, 2, 0), (64, FULL, 10, 2, 400)),  # half of the images
    ((1_000, 64, 2, 0), (64, SMALL, 32, 2, 400)),
    ((1_000, 3000, 8, 0), (64, SMALL, 32, 2, 400)),
    ((10_000, 224, 1, 0), (64, SMALL, 32, 2, 100)),
    ((10_000, 90, 2, 1), (64, FULL, 32, 2, 100)),
    ((10_000, 28, 2, 0), (32, SMALL, 32, 2, 100)),
    ((25_000, 64, 2, 0), (64, SMALL, 32, 2, 40)),
    ((500_000, 500, 8, 0), (64, SMALL, 32, 2, 20)),
    ((500_000, 500, 8, 1), (128, FULL, 32, 2, 100)),
    ((500_000, 500, 8, 4), (128, FULL, 128, 2, 100)),
]


@pytest.mark.parametrize(("facts", "expected"), TWO_VIEWS, ids=str)
def test_two_views_alone(facts, expected):
    *facts, gpus = facts
    size, (width, blocks), P, K, epochs = expected
    found = chosen(Facts(*facts, gpus, max(1, gpus)))
    assert found == {
        "image_size": size,
        "width": width,
        "blocks": blocks,
        "clusters_per_batch": P,
        "images_per_cluster": K,
        "iae_epochs": 0,
        "rounds": 0,
        "epochs_per_round": 1,
        "final_epochs": epochs,
        "mixed_precision": "off",
        "threads_per_operation": int((width, facts[2], gpus) == (0.25, 2, 0)),
    }


def reasons(facts, *words):
    """The reasons that are printed, by flag."""
    choices = defaults.of_run(given(*words), facts)
    return {name: choice.reason for choice in choices for name in choice.values}


def test_the_reasons_are_the_counts_of_the_plan():
    found = reasons(Facts(1_000, 375, 2))
    assert found["final_epochs"] == "each image 200 times, in 2 views: at most 400 epochs"
    assert found["clusters_per_batch"] == "P: 32 different images per step"
    plan = sampler.views_plan(np.arange(1_000), BatchConfig(32, 2), 400, [0])
    assert set(np.bincount(plan.ravel())) == {200 * 2}
    assert {len(set(row)) for row in plan} == {32}


def test_the_reasons_name_limits_and_devices():
    found = reasons(Facts(20, 375, 2))
    limit = "P: 32 different images per step, but no more than half of the images"
    assert found["clusters_per_batch"] == limit
    four = reasons(Facts(500_000, 500, 8, 4, 4))["clusters_per_batch"]
    assert four == "P: 32 different images per step on each of 4 devices"
    views = "--views_per_image=4"
    assert reasons(Facts(10_000, 64, 2), views)["final_epochs"] == (
        "each image 25 times, in 4 views: 1,000,000 views in all"
    )
    assert reasons(Facts(500_000, 64, 2))["final_epochs"] == (
        "each image 10 times, in 2 views: at least 20 epochs"
    )
    found = reasons(Facts(150, 375, 2), *CLUSTERS)
    assert found["rounds"] == "400 epochs of all stages together: at most 400 epochs"
    assert found["clusters_per_batch"] == (
        "P: 32 different clusters per step, but no more than 7 clusters"
    )


@pytest.mark.parametrize(
    ("words", "cores", "gpus", "threads"),
    [
        ((), 2, 0, 1),
        (("--width=0.25",), 2, 0, 1),
        (("--width=0.5",), 2, 0, 0),  # not measured
        ((), 1, 0, 0),
        ((), 4, 0, 0),
        ((), 2, 1, 0),
    ],
)
def test_operations_of_a_small_encoder_are_not_shared_by_two_cores(words, cores, gpus, threads):
    found = chosen(Facts(1_000, 64, cores, gpus, max(1, gpus)), *words)
    assert found["threads_per_operation"] == threads


@pytest.mark.parametrize(
    ("facts", "expected"),
    # images, side, cores; clusters, P, epochs of stage 1, rounds, epochs of each, epochs of stage 3
    [
        # A half of 75 images: 7 clusters of 10. 400 epochs in 21 parts of 19.05.
        ((150, 375, 2), (7, 7, 190, 10, 19, 19)),
        ((1_000, 64, 2), (50, 32, 190, 10, 19, 19)),
        # 100 epochs in 21 parts of 4.76; 47.6 in 10 rounds.
        ((10_000, 224, 1), (300, 32, 48, 10, 5, 5)),
        # 20 epochs in 21 parts of 0.95; 9.5 in 3 rounds of 3.
        ((500_000, 500, 8), (300, 32, 10, 3, 3, 1)),
    ],
    ids=str,
)
def test_clusters_share_the_epochs_as_the_paper_does(facts, expected):
    found = chosen(Facts(*facts), *CLUSTERS)
    names = ("num_clusters", "clusters_per_batch")
    stages = ("iae_epochs", "rounds", "epochs_per_round", "final_epochs")
    assert tuple(found[name] for name in (*names, *stages)) == expected
    assert found["images_per_cluster"] == 2


def test_explicit_flags_take_precedence_and_the_others_depend_on_them():
    facts = Facts(1_000, 375, 2)
    assert "image_size" not in chosen(facts, "--image_size=96")
    # A batch of P clusters needs so many clusters, and the other way round.
    assert chosen(facts, *CLUSTERS, "--clusters_per_batch=60")["num_clusters"] == 60
    assert chosen(facts, *CLUSTERS, "--num_clusters=20")["clusters_per_batch"] == 20
    auto = ("--num_clusters=auto", "--k_candidates=12,30")
    assert chosen(facts, *CLUSTERS, *auto)["clusters_per_batch"] == 12
    # With a single view a cluster of one image has no positive: P is half of the clusters.
    one = chosen(facts, *CLUSTERS, "--views_per_image=1")
    assert (one["num_clusters"], one["clusters_per_batch"]) == (50, 25)
    assert chosen(facts, "--views_per_image=4")["images_per_cluster"] == 4
    assert chosen(facts, *CLUSTERS, "--clusterer=hdbscan", "--image_size=32")[
        "clusters_per_batch"
    ] == min(32, 500 // 10)
    assert "clusters_per_batch" not in chosen(facts, "--global_batch=32")
    # One of the two that make an encoder: the other is ResNet-50's.
    found = chosen(facts, "--width=0.5")
    assert found["blocks"] == (3, 4, 6, 3)
    assert "width" not in found
    # 5 epochs of 150 images in place of 400: ResNet-50 takes 1.06e14 / 80 / 4e10 s.
    assert chosen(Facts(150, 375, 2), "--final_epochs=5")["width"] == 1.0


def test_disabled_stages_get_no_epochs():
    facts = Facts(1_000, 64, 2)
    no_decoder = chosen(facts, "--labels=clusters")  # 11 parts of 36.4
    assert (no_decoder["iae_epochs"], no_decoder["final_epochs"]) == (0, 36)
    no_rounds = chosen(facts, *CLUSTERS, "--rounds=0")
    assert (no_rounds["iae_epochs"], no_rounds["final_epochs"]) == (364, 36)
    started = chosen(facts, *CLUSTERS, "--iae_checkpoint=runs/iae")
    assert (started["iae_epochs"], started["rounds"]) == (0, 10)


def test_chosen_values_pass_the_checks_of_a_run():
    """For 2 images and for a million, with either labels, one view and two."""
    from mgta_tf.training import preflight

    for images in (8, 21, 50, 99, 164, 641, 5_000, 1_000_000):
        for words in ((), CLUSTERS, (*CLUSTERS, "--views_per_image=1")):
            leaves = given(*words)
            choices = defaults.of_run(leaves, Facts(images, 375, 2))
            config = config_lib.from_dict(TrainConfig, defaults.leaves_with(leaves, choices))
            preflight.check(config, images, None)


# -------------------------------------------------------------------------------------- --minutes


def test_a_budget_takes_the_encoder_that_it_can_train_for_a_quarter_of_the_epochs():
    """ResNet-50: 1.77e9 operations a view at 64 px; 4e10 a second on two cores."""
    facts = Facts(1_000, 375, 2)  # 100 epochs of 1,000 images: 4,423 s
    assert chosen(facts, seconds=4_500)["width"] == 1.0
    assert chosen(facts, seconds=4_300)["width"] == 0.25
    assert "final_epochs" not in chosen(facts, seconds=4_300)
    # The small encoder: 6.8e7, 170 s; where even that is too long, 32 px.
    assert chosen(facts, seconds=180)["image_size"] == 64
    assert chosen(facts, seconds=160)["image_size"] == 32
    assert chosen(facts, "--image_size=64", seconds=160).keys() >= {"width"}
    # Without a budget nothing is too long.
    assert chosen(Facts(500_000, 500, 1))["image_size"] == 64


def test_operations_of_resnet_50_are_those_of_its_layers():
    """Against the products of every convolution of the Keras model, without projections."""
    from mgta_tf.models.encoder import build_encoder

    for model in (ModelConfig(), ModelConfig(width=0.25, blocks=(2, 2, 2, 2))):
        encoder = build_encoder(model)
        products, side = 0, {"conv1": 32, "res2": 16, "res3": 8, "res4": 4, "res5": 2}
        for layer in encoder.layers:
            if layer.__class__.__name__ == "Conv2D":
                height, width, inputs, outputs = layer.kernel.shape
                stage = layer.name.split("_")[0]
                products += height * width * inputs * outputs * side[stage] ** 2
        assert defaults.operations(model, 64) == pytest.approx(6 * products, rel=0.2)
        assert defaults.operations(model, 128) == 4 * defaults.operations(model, 64)


def test_the_most_epochs_within_a_budget():
    assert defaults.epochs_within(lambda epochs: 3.0 * epochs, 100) == 33
    assert defaults.epochs_within(lambda epochs: 3.0 * epochs, 99) == 33
    assert defaults.epochs_within(lambda epochs: 3.0 * epochs, 1) == 1  # a run has one
    assert defaults.epochs_within(lambda epochs: 1e-9, 1) >= 2**20


def test_passes_count_every_image_and_a_third_for_labels():
    config = GuidanceConfig(
        labels="clusters", iae_epochs=4, rounds=1, epochs_per_round=2, final_epochs=3
    )
    # Stage 1: 400 images; two halves of 50 for 2 epochs; 300. All are labelled twice.
    assert defaults.passes(config, images=100) == pytest.approx(400 + 200 + 300 + 200 / 3)


# ------------------------------------------------------------------------------------- Supervised


def test_supervised_takes_the_encoder_of_init_and_a_batch_that_the_labels_fill():
    facts = Facts(1_000, 375, 2)
    leaves = given(config_class=SupervisedConfig)

    def of(labelled, encoder=None, **more):
        choices = defaults.of_supervised({**leaves, **more}, facts, labelled, encoder)
        return defaults.leaves_with({}, choices)

    alone = of(1_000)
    assert alone == {"image_size": 64, "width": 0.25, "blocks": (2, 2, 2, 2), "batch_size": 64}
    init = (ModelConfig(width=0.5, blocks=(1, 1, 1, 1)), 96)
    tuned = of(40, init)
    assert tuned == {"image_size": 96, "width": 0.5, "blocks": (1, 1, 1, 1), "batch_size": 10}
    assert "image_size" not in of(40, init, image_size=32)
    assert of(3)["batch_size"] == 1


def test_every_automatic_flag_has_a_rule():
    """No flag keeps the value `auto`."""
    for config_class in (TrainConfig, SupervisedConfig):
        leaves = {f.name: f for _, fields in config_lib.groups(config_class) for f in fields}
        words = {name for name, field in leaves.items() if field.metadata["auto"]}
        facts = Facts(1_000, 375, 2)
        if config_class is TrainConfig:
            found = chosen(facts, *CLUSTERS)
        else:
            flags = given(config_class=SupervisedConfig)
            found = defaults.leaves_with({}, defaults.of_supervised(flags, facts, 1_000, None))
        assert set(found) == words


def test_facts_describe_the_machine():
    assert Facts(1, 1, 1).machine == "1 core"
    assert dataclasses.replace(Facts(1, 1, 1), gpus=2).machine == "2 GPUs"


@pytest.mark.parametrize(
    ("images", "clusters", "K", "epochs"),
    [(10_000, 156, 32, 17), (500_000, 300, 32, 3), (150, 4, 32, 67), (30, 4, 14, 67)],
)
def test_hard_negatives_have_few_clusters_in_a_batch(images, clusters, K, epochs):
    """64 images a cluster, 16 of them with two views in a batch; six equal parts of the epochs."""
    found = chosen(Facts(images, 64, 2), "--labels=hard_negatives")
    assert {name: found[name] for name in ("num_clusters", "images_per_cluster")} == {
        "num_clusters": clusters, "images_per_cluster": K,
    }  # fmt: skip
    assert found["clusters_per_batch"] == 2
    assert (found["iae_epochs"], found["rounds"]) == (0, 5)
    assert found["epochs_per_round"] == found["final_epochs"] == epochs


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize(
    "words", [(), ("--views_per_image=4",), ("--clusters_per_batch=8",), ("--global_batch=256",)]
)
@pytest.mark.parametrize("images", [300, 10_000])
def test_the_chosen_batch_of_hard_negatives_passes_the_checks(images, words, devices):
    asked = ("--labels=hard_negatives", "--data_dir=D", "--workdir=W", *words)
    facts = Facts(images, 64, 2, gpus=devices - 1, devices=devices)
    leaves = given(*asked)
    values = defaults.leaves_with(leaves, defaults.of_run(leaves, facts))
    config = config_lib.from_dict(TrainConfig, values)
    preflight.check(config, images, None)
    assert config.batch.size <= 64 * max(2, devices) * config.batch.views_per_image
