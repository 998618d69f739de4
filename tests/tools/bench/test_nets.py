"""The jobs of the thread benchmark: two devices, halves of a batch, two nets side by side."""

import numpy as np
import pytest

from tools.bench import nets, thread_jobs

TINY = dict(size=32, width=0.0625, blocks=(1, 1, 1, 1), batch=8)


def test_two_devices_share_the_batch_of_one(two_replicas):
    """Each has half of the rows. tests/training/test_learner.py compares the steps."""
    values = np.arange(24).reshape(8, 3)
    held = nets.shared(values, two_replicas)
    parts = [part.numpy() for part in two_replicas.experimental_local_results(held)]
    assert [len(part) for part in parts] == [4, 4]
    np.testing.assert_array_equal(np.concatenate(parts), values)
    sums = two_replicas.run(lambda part: part[0, 0], args=(held,))
    assert two_replicas.reduce("SUM", sums, axis=None).numpy() == 0 + 12


def test_halves_of_a_batch_have_their_own_statistics():
    """Two equal halves have the statistics of the whole, so the outputs are equal; else not."""
    _, net = nets.make_learner(**TINY)
    half = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    images = np.concatenate([half, half])
    whole = net.model(images, training=True)
    parts = thread_jobs.in_halves(net.model)(images, training=True)
    assert parts.keys() == whole.keys()
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-4)
    images[:4] *= 0.1
    whole = net.model(images, training=True)["embedding"]
    parts = thread_jobs.in_halves(net.model)(images, training=True)["embedding"]
    assert np.abs(whole - parts).max() > 1e-3


def test_nets_train_side_by_side():
    done = []
    steps = [lambda: done.append("a"), lambda: done.append("b")]
    thread_jobs.side_by_side(steps, 3)()
    assert sorted(done) == ["a"] * 3 + ["b"] * 3


@pytest.mark.parametrize(("net", "steps"), [("full", 2), ("small", 10)])
def test_a_measurement_has_an_even_number_of_steps(net, steps):
    assert thread_jobs.steps_of(net) == steps
