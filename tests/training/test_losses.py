"""Losses against brute force: eq. 6 as a triple loop, eq. 7 as a double one."""

import math
import sys

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.training import losses
from mgta_tf.training.losses import LossConfig

# Eq. 6 and 7, exactly as in the paper.
PAPER = dict(
    reconstruction_reduction="sum",
    triplet_positive="hardest",
    triplet_negative="hardest",
    soft_margin=False,
    normalize_embedding=False,
)


def triple_loop(x, labels, margin, soft=False):
    """Eq. 6, anchor by anchor; anchors without a positive or a negative do not count."""
    values = []
    for a in range(len(x)):
        if labels[a] < 0:
            continue
        positives, negatives = [], []
        for b in range(len(x)):
            if a == b or labels[b] < 0:
                continue
            distance = math.sqrt(sum((x[a][i] - x[b][i]) ** 2 for i in range(len(x[a]))))
            (positives if labels[a] == labels[b] else negatives).append(distance)
        if positives and negatives:
            difference = max(positives) - min(negatives)
            value = math.log1p(math.exp(difference)) if soft else max(0.0, margin + difference)
            values.append((value, max(positives), min(negatives)))
    return values


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 2, 2], [0, 0, 1, 1, -1, -1]])
def test_batch_hard_matches_the_triple_loop(labels, soft):
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    expected = triple_loop(x.astype(float), labels, 0.7, soft)
    mean, metrics = losses.batch_hard_triplet_loss(
        x, tf.constant(labels), margin=0.7, soft_margin=soft
    )
    total, _ = losses.batch_hard_triplet_loss(
        x, tf.constant(labels), margin=0.7, soft_margin=soft, reduction="sum"
    )
    assert float(mean) == pytest.approx(np.mean([e[0] for e in expected]), rel=1e-5)
    assert float(total) == pytest.approx(np.sum([e[0] for e in expected]), rel=1e-5)
    assert float(metrics["hardest_positive"]) == pytest.approx(np.mean([e[1] for e in expected]))
    assert float(metrics["hardest_negative"]) == pytest.approx(np.mean([e[2] for e in expected]))
    active = np.mean([e[0] > 0 for e in expected])
    assert float(metrics["triplet_active"]) == pytest.approx(active)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, -1, 2], [0, 1, 2, 3, 4, 5, 6]])
def test_hardest_distances_match_the_triple_loop(labels):
    x = np.random.default_rng(2).normal(size=(7, 5)).astype(np.float32)
    expected = triple_loop(x, labels, 0.3)
    positive, negative = losses.hardest_distances(x, np.array(labels))
    np.testing.assert_allclose(positive, [p for _, p, _ in expected], rtol=1e-6)
    np.testing.assert_allclose(negative, [n for _, _, n in expected], rtol=1e-6)


def test_metrics_of_a_hand_worked_batch():
    x = tf.constant([[0.0, 0.0], [3.0, 4.0], [0.0, 10.0], [0.0, 10.0]])
    _, metrics = losses.batch_hard_triplet_loss(x, tf.constant([0, 0, 1, 1]))
    distances = [5, 10, 10, math.sqrt(45), math.sqrt(45), 0]
    assert float(metrics["pair_distance"]) == pytest.approx(np.mean(distances))
    assert float(metrics["embedding_norm"]) == pytest.approx((0 + 5 + 10 + 10) / 4)


def test_embeddings_are_normalized_on_request():
    x = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32) * 9
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    labels = [0, 0, 1, 1, 2, 2]
    loss, metrics = losses.batch_hard_triplet_loss(x, tf.constant(labels), normalize=True)
    assert float(loss) == pytest.approx(np.mean([v[0] for v in triple_loop(unit, labels, 0.3)]))
    assert float(metrics["embedding_norm"]) == pytest.approx(
        np.linalg.norm(x, axis=1).mean(), rel=1e-5
    )


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [-1, -1, -1, -1]])
def test_a_batch_without_an_anchor_has_no_loss(labels):
    x = tf.Variable(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss, _ = losses.batch_hard_triplet_loss(x, tf.constant(labels))
    assert float(loss) == 0
    assert np.all(np.asarray(tape.gradient(loss, x)) == 0)


def test_equal_embeddings_have_the_margin_as_loss_and_a_finite_gradient():
    x = tf.Variable(np.full((4, 3), 1e4, np.float32))
    with tf.GradientTape() as tape:
        loss, metrics = losses.batch_hard_triplet_loss(x, tf.constant([0, 0, 1, 1]), margin=0.3)
    assert float(loss) == pytest.approx(0.3)
    assert np.all(np.isfinite(tape.gradient(loss, x)))
    assert losses.looks_collapsed({k: float(v) for k, v in metrics.items()}, LossConfig(**PAPER))


def test_close_embeddings_far_from_the_origin_keep_their_distance():
    """|a|² + |b|² - 2ab in float32 would give 0 or 32 here; the distances are 1 and 3."""
    x = tf.constant([[10000.0], [10001.0], [10004.0], [10005.0]])
    _, metrics = losses.batch_hard_triplet_loss(x, tf.constant([0, 0, 1, 1]))
    assert float(metrics["hardest_positive"]) == 1
    assert float(metrics["hardest_negative"]) == 3.5  # 4, 3, 3, 4


def test_gradient_against_finite_differences():
    x = np.random.default_rng(3).normal(size=(6, 2)).astype(np.float64)
    labels = [0, 0, 1, 1, 2, 2]
    variable = tf.Variable(x.astype(np.float32))
    with tf.GradientTape() as tape:
        loss, _ = losses.batch_hard_triplet_loss(variable, tf.constant(labels), margin=1.0)
    gradient = tape.gradient(loss, variable).numpy()
    for i in range(6):
        for j in range(2):
            up, down = x.copy(), x.copy()
            up[i, j] += 1e-6
            down[i, j] -= 1e-6
            slope = sum(v[0] for v in triple_loop(up, labels, 1.0)) / 6
            slope -= sum(v[0] for v in triple_loop(down, labels, 1.0)) / 6
            assert gradient[i, j] == pytest.approx(slope / 2e-6, abs=1e-4)


def test_distances_of_half_precision_are_computed_in_float32():
    x = np.random.default_rng(0).normal(size=(8, 4)) * 300  # squares overflow float16
    half = tf.constant(x, tf.float16)
    labels = tf.constant([0, 0, 1, 1, 2, 2, 3, 3])
    loss, _ = losses.batch_hard_triplet_loss(half, labels)
    expected = triple_loop(half.numpy().astype(float), labels.numpy(), 0.3)
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(np.mean([v[0] for v in expected]), rel=1e-5)


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="tensorflow-addons has no release for Python 3.12 or later"
)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
def test_native_equals_tensorflow_addons(soft, normalize):
    rng = np.random.default_rng(5)
    for _ in range(5):
        x = tf.constant(rng.normal(size=(16, 8)).astype(np.float32))
        labels = tf.constant(np.repeat(rng.permutation(20)[:4], 4))
        values = [
            float(
                losses.triplet_loss(
                    x,
                    labels,
                    LossConfig(
                        **{**PAPER, "soft_margin": soft, "normalize_embedding": normalize},
                        triplet_impl=i,
                    ),
                )[0]
            )
            for i in ("native", "tfa")
        ]
        assert values[0] == pytest.approx(values[1], abs=1e-6, rel=1e-6)


def test_reconstruction_matches_a_loop_over_pixels():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 2, 3, 4, 3)).astype(np.float32)
    per_image = [
        sum(
            (a[n, i, j, c] - b[n, i, j, c]) ** 2
            for i in range(3)
            for j in range(4)
            for c in range(3)
        )
        for n in range(2)
    ]
    loss, metrics = losses.reconstruction_loss(a, b)
    mean, _ = losses.reconstruction_loss(a, b, "mean")
    assert float(loss) == pytest.approx(np.mean(per_image), rel=1e-5)
    assert float(mean) == pytest.approx(np.mean(per_image) / 36, rel=1e-5)
    assert float(metrics["reconstruction_mse"]) == pytest.approx(float(mean))


def test_total_is_eq_8():
    rng = np.random.default_rng(0)
    images = rng.random((4, 2, 2, 3)).astype(np.float32)
    outputs = {
        "reconstruction": rng.random((4, 2, 2, 3)).astype(np.float32),
        "embedding": tf.constant(rng.normal(size=(4, 3)).astype(np.float32)),
    }
    loss, metrics = losses.total_loss(
        images, outputs, tf.constant([0, 0, 1, 1]), 0.25, LossConfig(**PAPER, margin=5.0)
    )
    squares = np.sum((images - outputs["reconstruction"]) ** 2) / 4
    triplets = triple_loop(outputs["embedding"].numpy().astype(float), [0, 0, 1, 1], 5.0)
    expected = squares + 0.25 * np.mean([v[0] for v in triplets])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(metrics["loss"]) == float(loss)


def test_a_spread_embedding_does_not_look_collapsed():
    x = tf.constant(np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32))
    _, metrics = losses.batch_hard_triplet_loss(x, tf.constant([0, 0, 1, 1, 2, 2, 3, 3]))
    assert not losses.looks_collapsed(
        {k: float(v) for k, v in metrics.items()}, LossConfig(**PAPER)
    )


def metrics_of(embeddings, labels, **flags):
    config = LossConfig(**flags)
    _, metrics = losses.triplet_loss(tf.constant(embeddings), tf.constant(labels), config)
    return {name: float(value) for name, value in metrics.items()}, config


@pytest.mark.parametrize("flags", [{}, {"soft_margin": True}, PAPER])
def test_embeddings_without_information_about_clusters_are_stuck_at_the_margin(flags):
    """In random points a positive is as far away as a negative, and the nearest negative nearer."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(32), 2)
    random = rng.normal(size=(64, 16)).astype(np.float32)
    found = metrics_of(random, labels, **flags)
    assert losses.looks_stuck(*found)
    assert not losses.looks_collapsed(*found)
    learned = rng.normal(size=(32, 16)).repeat(2, axis=0) + rng.normal(scale=0.01, size=(64, 16))
    assert not losses.looks_stuck(*metrics_of(learned.astype(np.float32), labels, **flags))


def test_a_soft_minimum_has_no_margin_to_be_stuck_at():
    labels = np.repeat(np.arange(32), 2)
    random = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
    flags = {"soft_margin": True, "triplet_negative": "soft"}
    assert not losses.looks_stuck(*metrics_of(random, labels, **flags))


CHOICES = {"hardest": max, "nearest": min}


@pytest.mark.parametrize("which", ["hardest", "nearest"])
def test_the_positive_is_the_hardest_or_the_nearest(which):
    x = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    labels = np.repeat([0, 1, 2], 3)
    loss, metrics = losses.batch_hard_triplet_loss(
        x, tf.constant(labels), margin=9.0, positive=which
    )
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    positives, negatives = [], []
    for a in range(9):
        same = [distance[a, b] for b in range(9) if b != a and labels[b] == labels[a]]
        positives.append(CHOICES[which](same))
        negatives.append(min(distance[a, b] for b in range(9) if labels[b] != labels[a]))
    assert float(metrics["hardest_positive"]) == pytest.approx(np.mean(positives), rel=1e-5)
    assert float(loss) == pytest.approx(9 + np.mean(positives) - np.mean(negatives), rel=1e-4)


@pytest.mark.parametrize("soft_margin", [False, True])
def test_a_soft_negative_is_the_soft_minimum_over_all(soft_margin):
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    labels = [0, 0, 1, 1, 2, 2, -1]
    loss, _ = losses.batch_hard_triplet_loss(
        x, tf.constant(labels), margin=0.7, soft_margin=soft_margin, negative="soft"
    )
    values = []
    for a in range(6):
        positive = max(math.dist(x[a], x[b]) for b in range(6) if b != a and labels[b] == labels[a])
        others = [math.dist(x[a], x[b]) for b in range(6) if labels[b] != labels[a]]
        difference = positive + 0.1 * math.log(sum(math.exp(-d / 0.1) for d in others))
        values.append(
            math.log1p(math.exp(difference)) if soft_margin else max(0.0, 0.7 + difference)
        )
    assert float(loss) == pytest.approx(np.mean(values), rel=1e-5)


def test_a_soft_negative_without_candidates_or_at_distance_0_has_a_finite_gradient():
    x = tf.Variable(np.ones((4, 3), np.float32))
    for labels in ([0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 2, 3]):
        with tf.GradientTape() as tape:
            loss, _ = losses.batch_hard_triplet_loss(
                x, tf.constant(labels), negative="soft", normalize=True
            )
        assert np.isfinite(tape.gradient(loss, x).numpy()).all()
        assert np.isfinite(float(loss))


def test_random_triplets_are_valid_and_all_of_them_are_drawn():
    """Embeddings on a line at powers of 2, so that a distance identifies a pair."""
    x = tf.constant([[2.0**i] for i in range(6)])
    labels = tf.constant([0, 0, 0, 1, 1, 1])
    rng, seen = np.random.default_rng(0), {"positive": set(), "negative": set()}
    for _ in range(300):
        draws = tf.constant(rng.random(6, np.float32))
        squared = losses._squared_distances(x)
        for name, same in (("positive", True), ("negative", False)):
            mask = (labels[:, None] == labels[None]) == same
            mask &= ~tf.eye(6, dtype=tf.bool)
            chosen = losses._choose(mask, squared, "random", draws).numpy()
            assert all(mask.numpy()[a, b] for a, b in enumerate(chosen))
            seen[name] |= set(enumerate(chosen))
            again = losses._choose(mask, squared, "random", draws).numpy()
            np.testing.assert_array_equal(chosen, again)
    assert len(seen["positive"]) == 6 * 2
    assert len(seen["negative"]) == 6 * 3


@pytest.mark.parametrize(("lambda1", "weight"), [(0.0, 1.0), (0.5, 0.25)])
def test_the_reconstruction_weight_counts_only_together_with_triplets(lambda1, weight):
    rng = np.random.default_rng(0)
    images = rng.random((4, 8, 8, 3)).astype(np.float32)
    outputs = {
        "reconstruction": rng.random((4, 8, 8, 3)).astype(np.float32),
        "embedding": rng.random((4, 5)).astype(np.float32),
    }
    config = LossConfig(reconstruction_weight=0.25)
    labels = tf.constant([0, 0, 1, 1])
    loss, metrics = losses.total_loss(images, outputs, labels, tf.constant(lambda1), config)
    expected = weight * metrics["reconstruction_loss"] + lambda1 * metrics["triplet_loss"]
    assert float(loss) == pytest.approx(float(expected))


def test_addons_support_hardest_triplets_only():
    with pytest.raises(UserError, match="--triplet_impl=tfa"):
        LossConfig(triplet_impl="tfa", triplet_positive="random")
