"""A learner on one replica and on two, in all precisions, and its two graphs."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.data.pipeline import AugmentConfig, Feed
from mgta_tf.errors import UserError
from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.runtime.checkpoints import Checkpoints, Position, load_net, save_net
from mgta_tf.training.learner import Learner
from mgta_tf.training.losses import LossConfig
from mgta_tf.training.optimization import OptimizerConfig

AUGMENT = AugmentConfig(image_size=32, crop_min_area=0.4, color_jitter=0.2, grayscale=0.0)
# How far float16's loss scale must fall depends on the crops.
STRONGER = AugmentConfig(image_size=32, crop_min_area=0.2, color_jitter=0.4, grayscale=0.2)
TINY = ModelConfig(width=0.0625, blocks=(1, 1, 1, 1), decoder="mirror")


class Store:
    size = 32

    def __init__(self):
        self._pixels = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3)).astype(np.uint8)

    def batch(self, indices):
        return self._pixels[indices]


def learner(
    strategy, scope="replica", mixed="off", jit=False, reduction="mean", negative="hardest",
    augment=AUGMENT, **optimizer,
):  # fmt: skip
    loss = LossConfig(
        triplet_scope=scope, reconstruction_reduction=reduction, triplet_negative=negative,
        soft_margin=negative == "soft",
    )  # fmt: skip
    return Learner(strategy, TINY, augment, loss, OptimizerConfig(**optimizer), 3, mixed, jit)


def train(strategy, steps=3, lambda1=0.5, batch=8, rate=1e-2, **options):
    net = learner(strategy, **options)
    plan = np.arange(batch * steps, dtype=np.int32).reshape(steps, batch)
    labels = np.repeat(np.arange(40, dtype=np.int32), 2)
    batches = Feed(Store(), batch, strategy).batches(plan, labels, [1])
    rows = [
        {name: float(value) for name, value in metrics.items()}
        for _, metrics in net.fit(batches, lambda1, lambda step: rate)
    ]
    return net, rows


@pytest.fixture
def float64():
    """Nets in float64, because in float32, rounding across ReLUs changes gradients by 1e-4."""
    tf.keras.backend.set_floatx("float64")
    yield
    tf.keras.backend.set_floatx("float32")


def gradient_of_first_step(net):
    """The gradient times the rate, which is SGD's momentum after one step, as one vector."""
    return np.concatenate([m.numpy().ravel() for m in net.optimizer.momentums])


@pytest.mark.parametrize(("scope", "lambda1"), [("replica", 0.0), ("global", 300.0)])
def test_two_replicas_have_the_gradient_of_one(scope, lambda1, two_replicas, float64):  # noqa: ARG001
    """Batch norm covers all replicas, and with the scope 'global', so does mining.

    With the scope 'replica', each replica mines in its own clusters, so λ₁ is 0 here. With 300, the
    triplet loss has a gradient as long as that of the reconstruction.
    """
    options = dict(steps=1, batch=64, lambda1=lambda1, scope=scope, optimizer="sgd")
    one, rows_of_one = train(tf.distribute.get_strategy(), weight_decay=0.0, **options)
    two, rows_of_two = train(two_replicas, weight_decay=0.0, **options)
    for name in ("loss", "reconstruction_loss", "gradient_norm"):
        assert rows_of_two[0][name] == pytest.approx(rows_of_one[0][name], rel=1e-5)
    a, b = gradient_of_first_step(one), gradient_of_first_step(two)
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a)


def test_each_replica_mines_in_its_own_clusters(two_replicas):
    """Two clusters on each of two devices: negatives on the other device are not used."""
    _, own = train(two_replicas, steps=1, scope="replica", weight_decay=0.0)
    _, whole = train(two_replicas, steps=1, scope="global", weight_decay=0.0)
    assert own[0]["hardest_negative"] > whole[0]["hardest_negative"] * 1.001
    assert own[0]["hardest_positive"] == pytest.approx(whole[0]["hardest_positive"], rel=1e-5)


# With a learning rate of 0, all steps see the same weights. The gradients of eq. 7's sum, times the
# first loss scale, overflow float16.
TEN = dict(steps=10, batch=8, rate=0.0, reduction="sum", augment=STRONGER)


@pytest.fixture(scope="module")
def exact():
    """Ten steps in float32."""
    return train(tf.distribute.get_strategy(), **TEN)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_in_16_bits_the_losses_are_those_of_float32(kind, exact):
    """To the precision of products, 8 bits (bfloat16) or 11 (float16); variables are float32."""
    strategy = tf.distribute.get_strategy()
    net, rows = train(strategy, mixed=kind, **TEN)
    assert net.model.encoder.get_layer("res2_block1_2_conv").compute_dtype == kind
    assert {v.dtype for v in net.model.variables} == {tf.float32}  # and batch norm's statistics
    assert {v.dtype for v in net.optimizer.variables} == {tf.float32, tf.int64}
    assert rows[0]["skipped"] == (kind == "float16")  # its first scale is too high
    assert 0 in [row["skipped"] for row in rows]
    if kind == "float16":
        for row, following in zip(rows, rows[1:]):
            assert following["loss_scale"] == row["loss_scale"] / (2 if row["skipped"] else 1)
    assert [row["loss"] for row in rows] != [row["loss"] for row in exact[1]]
    for row, expected in zip(rows, exact[1]):
        for name in ("loss", "reconstruction_loss", "triplet_loss"):
            assert row[name] == pytest.approx(expected[name], rel=0.05)
        if not row["skipped"]:
            assert (
                0.5 < row["gradient_norm"] / expected["gradient_norm"] < 2
            )  # without the loss scale
    assert net.optimizer.iterations == sum(not row["skipped"] for row in rows)
    features = next(net.encode(Feed(Store(), 8, strategy), np.arange(8), "res4"))
    assert features.dtype == np.float32
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_a_net_trained_in_16_bits_is_loaded_in_float32(tmp_path):
    net = learner(tf.distribute.get_strategy(), mixed="float16")
    save_net(net.model, str(tmp_path / "net"))
    exported = build_autoencoder(TINY)  # as mgta_tf.export builds it
    load_net(exported, str(tmp_path / "net"))
    outputs = exported(np.zeros((1, 32, 32, 3), np.float32))
    assert {value.dtype for value in outputs.values()} == {tf.float32}
    for mine, other in zip(exported.variables, net.model.variables):
        np.testing.assert_array_equal(mine, other)


def test_a_checkpoint_keeps_the_loss_scale(tmp_path):
    net, _ = train(tf.distribute.get_strategy(), steps=1, mixed="float16", reduction="sum")
    assert net.optimizer.loss_scale.numpy() == 2.0**14  # that step was skipped
    Checkpoints(str(tmp_path), [net], keep=1).save(Position(step=1))
    again = learner(tf.distribute.get_strategy(), mixed="float16")
    assert again.optimizer.loss_scale.numpy() == 2.0**15
    assert Checkpoints(str(tmp_path), [again], keep=1).restore("").step == 1
    assert again.optimizer.loss_scale.numpy() == 2.0**14
    for mine, other in zip(again.optimizer.variables, net.optimizer.variables):
        np.testing.assert_array_equal(mine, other)


def test_a_step_compiled_by_xla_is_the_same():
    """With soft negatives, whose gradient is less sensitive to rounding than the hardest's."""
    options = dict(steps=1, batch=16, rate=1e-2, optimizer="sgd", negative="soft")
    plain, expected = train(tf.distribute.get_strategy(), **options)
    compiled, found = train(tf.distribute.get_strategy(), jit=True, **options)
    for row, other in zip(found, expected):
        assert row == pytest.approx(other, rel=1e-4)
    for mine, other in zip(compiled.model.variables, plain.model.variables):
        a, b = mine.numpy(), other.numpy()
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b), mine.name
    a, b = gradient_of_first_step(compiled), gradient_of_first_step(plain)
    assert np.linalg.norm(a - b) <= 1e-3 * np.linalg.norm(b)  # float32 sums in a different order


def test_a_missing_tensorflow_addons_is_named_before_the_first_step(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)  # as if it were not installed
    loss = LossConfig(triplet_impl="tfa", triplet_positive="hardest", triplet_negative="hardest")
    with pytest.raises(
        UserError,
        match="tfa: tensorflow-addons is not installed, and has no release for Python",
    ):
        Learner(tf.distribute.get_strategy(), TINY, AUGMENT, loss, OptimizerConfig(), 3)


def test_training_lowers_the_loss():
    _, rows = train(tf.distribute.get_strategy(), steps=5)
    assert rows[-1]["reconstruction_loss"] < rows[0]["reconstruction_loss"]
    assert all(np.isfinite(v) for row in rows for v in row.values())


def test_same_seed_same_weights():
    a, b = (learner(tf.distribute.get_strategy()).model.get_weights() for _ in range(2))
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x, y)


def test_gradients_are_clipped():
    options = dict(steps=1, optimizer="sgd", weight_decay=0.0)
    start = learner(tf.distribute.get_strategy()).model.trainable_variables
    net, rows = train(tf.distribute.get_strategy(), clip_norm=0.1, **options)
    moved = [v.numpy() - s.numpy() for v, s in zip(net.model.trainable_variables, start)]
    assert rows[0]["gradient_norm"] > 1
    assert np.sqrt(sum(np.sum(m**2) for m in moved)) == pytest.approx(0.1 * 1e-2, rel=1e-3)


def test_each_step_has_its_learning_rate():
    net = learner(tf.distribute.get_strategy())
    feed = Feed(Store(), 8, tf.distribute.get_strategy())
    plan = np.arange(32, dtype=np.int32).reshape(4, 8)
    seen = []
    batches = feed.batches(plan, np.full(40, -1, np.int32), [1], start=2)
    for step, _ in net.fit(batches, 0.0, lambda s: s / 100, start=2):
        seen.append((step, round(float(net.optimizer.learning_rate), 6)))
    assert seen == [(2, 0.02), (3, 0.03)]


@pytest.mark.parametrize("endpoint", ["embedding", "res4"])
@pytest.mark.parametrize("replicas", [1, 2])
def test_encode_gives_features_of_unaugmented_images_in_order(replicas, endpoint, two_replicas):
    strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
    net, store = learner(strategy), Store()
    images = np.array([7, 3, 30, 31, 2, 9, 11, 13, 39, 0, 1], np.int32)
    batches = list(net.encode(Feed(store, 4, strategy), images, endpoint))
    assert [len(b) for b in batches] == [4, 4, 3]
    prepared = store.batch(images).astype(np.float32) / 255
    expected = net.model.encoder(prepared, training=False)[endpoint].numpy()
    if endpoint == "res4":
        expected = expected.mean((1, 2))
    np.testing.assert_allclose(np.concatenate(batches), expected, rtol=1e-4, atol=1e-5)


def test_reconstruct_returns_images_and_reconstructions():
    net, images = learner(tf.distribute.get_strategy()), Store().batch(np.arange(3))
    shown, reconstructed = net.reconstruct(images)
    np.testing.assert_array_equal(shown, images)
    assert (reconstructed.shape, reconstructed.dtype) == ((3, 32, 32, 3), np.uint8)


def test_graphs_are_built_once():
    net = learner(tf.distribute.get_strategy())
    feed = Feed(Store(), 8, tf.distribute.get_strategy())
    labels = np.repeat(np.arange(10, dtype=np.int32), 4)
    for turn in range(4):
        plan = np.random.default_rng(turn).permutation(40)[:16].astype(np.int32).reshape(2, 8)
        for _ in net.fit(feed.batches(plan, labels, [turn]), turn / 4, lambda step: 1e-3):
            pass
        list(net.encode(feed, np.arange(40, dtype=np.int32), "embedding"))
    assert net._train_step.experimental_get_tracing_count() == 1
    assert net._encode_step.experimental_get_tracing_count() == 1
