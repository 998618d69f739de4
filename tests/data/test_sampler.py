"""The rules of the P×K sampler, over thousands of draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgta_tf.data import sampler
from mgta_tf.data.sampler import BatchConfig
from mgta_tf.errors import UserError

P, K = 5, 4
CONFIG = BatchConfig(clusters_per_batch=P, images_per_cluster=K, views_per_image=1)


def clusters_of(sizes, seed=0):
    """Shuffled image numbers (not 0 … n-1) and their labels for clusters of these sizes."""
    rng = np.random.default_rng(seed)
    images = rng.permutation(10 * sum(sizes))[: sum(sizes)].astype(np.int32)
    return images, np.repeat(np.arange(len(sizes)), sizes)


def count_item_by_item(rng, items, size, groups):
    """Counts the draws one by one and checks after each that the counts are balanced."""
    counts = np.zeros(items, int)
    for row in sampler.balanced_draws(items, size, groups, rng):
        for item in row:
            counts[item] += 1
            assert counts.max() - counts.min() <= 1
        assert len(set(row)) == min(items, size)
    return counts


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_draws_are_balanced_and_groups_distinct(items, size, groups, seed):
    counts = count_item_by_item(np.random.default_rng(seed), items, size, groups)
    assert counts.sum() == size * groups


def test_all_orders_are_equally_likely():
    orders = sampler.balanced_draws(3, 3, 12000, np.random.default_rng(0))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)


def test_rows_are_p_clusters_of_k_distinct_images():
    images, labels = clusters_of([4, 5, 6, 7, 8, 30, 40])
    config = BatchConfig(P, K, views_per_image=1)
    label_of = dict(zip(images, labels))
    plan = sampler.pk_plan(images, labels, config, epochs=50, seed=[1])
    for row in plan:
        assert len(set(row)) == P * K
        by_cluster = np.array([label_of[i] for i in row]).reshape(P, K)
        assert (by_cluster == by_cluster[:, :1]).all()
        assert len(set(by_cluster[:, 0])) == P


def test_small_clusters_repeat_as_little_as_they_can():
    images, labels = clusters_of([2, 3, 10, 10, 10])
    label_of = dict(zip(images, labels))
    for row in sampler.pk_plan(images, labels, CONFIG, epochs=40, seed=[1]):
        for group in row.reshape(P, K):
            size = np.sum(labels == label_of[group[0]])
            assert len(set(group)) == min(K, size)


def test_an_epoch_draws_as_many_images_as_there_are():
    images, labels = clusters_of([10] * 10)
    assert sampler.pk_plan(images, labels, CONFIG, epochs=1, seed=[0]).size == 100
    assert sampler.pk_plan(images, labels, CONFIG, epochs=7, seed=[0]).size == 700


def test_within_a_cluster_every_image_comes_before_any_comes_twice():
    images, labels = clusters_of([7, 9, 13, 21, 50, 50])
    plan = sampler.pk_plan(images, labels, CONFIG, epochs=30, seed=[2])
    counts = dict.fromkeys(images, 0)
    members = [images[labels == c] for c in range(6)]
    for image in plan.ravel():
        counts[image] += 1
        cluster = members[labels[np.flatnonzero(images == image)[0]]]
        drawn = [counts[i] for i in cluster]
        assert max(drawn) - min(drawn) <= 1


def test_clusters_of_all_sizes_are_drawn_equally_often():
    images, labels = clusters_of([10, 20, 30, 40, 50, 60, 70, 80, 90, 100])
    label_of = dict(zip(images, labels))
    config = BatchConfig(2, K, views_per_image=1)
    plan = sampler.pk_plan(images, labels, config, epochs=60, seed=[3])
    draws = np.bincount([label_of[i] for i in plan[:, ::K].ravel()], minlength=10)
    assert draws.max() - draws.min() <= 1


def test_singletons_are_reconstructed_but_never_anchors():
    images, labels = clusters_of([1] * 40 + [20] * 6)
    labels[-20:] = -1  # and one cluster is noise
    plan = sampler.pk_plan(images, labels, CONFIG, epochs=20, seed=[1])
    singletons = set(images[:40]) | set(images[-20:])
    rows = [sum(i in singletons for i in row) for row in plan]
    assert set(rows) == {0, P * K}
    assert sum(rows) == pytest.approx(20 * 60, abs=P * K)
    drawn = np.bincount(plan.ravel(), minlength=images.max() + 1)[sorted(singletons)]
    assert drawn.max() - drawn.min() <= 1


def test_labels_for_triplets():
    labels = np.array([3, 3, 1, -1, 0, 0, 0])
    np.testing.assert_array_equal(sampler.labels_for_triplets(labels), [3, 3, -1, -1, 0, 0, 0])


def test_a_plan_depends_on_its_seed_alone():
    images, labels = clusters_of([10] * 8)
    plans = [sampler.pk_plan(images, labels, CONFIG, 3, seed) for seed in ([1, 2], [1, 2], [1, 3])]
    np.testing.assert_array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])


def test_shuffled_plan_visits_every_image_once_per_epoch():
    images = np.arange(100, 130, dtype=np.int32)
    plan = sampler.shuffled_plan(images, 7, epochs=7, seed=[0])
    assert plan.shape == (30, 7)
    np.testing.assert_array_equal(np.unique(plan, return_counts=True)[1], [7] * 30)
    assert all(len(set(row)) == 7 for row in plan)


def test_too_few_clusters_or_images_are_refused():
    images, labels = clusters_of([10, 10, 10, 10, 1, 1])
    with pytest.raises(UserError, match=r"only 4 clusters with 2 images or more.*=5"):
        sampler.pk_plan(images, labels, CONFIG, 1, [0])
    images, labels = clusters_of([3] * 5)
    with pytest.raises(UserError, match="P×K = 20 images is larger than the 15 images"):
        sampler.pk_plan(images, labels, CONFIG, 1, [0])
    with pytest.raises(UserError, match="larger than the data"):
        sampler.shuffled_plan(images, 20, 1, [0])


def test_views_of_an_image_are_adjacent_and_count_towards_k():
    images, labels = clusters_of([1, 1, 2, 3, 9, 9])
    config = BatchConfig(P, K, views_per_image=2)
    label_of = dict(zip(images, labels))
    plan = sampler.pk_plan(images, labels, config, epochs=40, seed=[1])
    assert plan.size == 40 * 25
    for group in plan.reshape(-1, K // 2, 2):
        assert (group[:, 0] == group[:, 1]).all()
        cluster = {label_of[i] for i in group[:, 0]}
        assert len(cluster) == 1
        size = np.sum(labels == cluster.pop())
        assert len(set(group[:, 0])) == min(K // 2, size)
    assert set(plan.ravel()) == set(images)  # clusters of one take part


def test_views_divide_k():
    with pytest.raises(UserError, match="--views_per_image=3"):
        BatchConfig(P, K, views_per_image=3)


def test_global_batch_sets_the_clusters_of_a_batch():
    config = BatchConfig(global_batch=96, images_per_cluster=4, clusters_per_batch=5)
    assert (config.clusters_per_batch, config.size) == (24, 96)
    with pytest.raises(UserError, match="global_batch=30"):
        BatchConfig(global_batch=30, images_per_cluster=4)


def test_views_plan_repeats_p_images_k_times_and_visits_all():
    images = np.random.default_rng(1).permutation(100)[:30].astype(np.int32)
    plan = sampler.views_plan(images, CONFIG, epochs=8, seed=[3])
    assert plan.shape == (30 * 8 // (P * K), P * K)  # epochs count every view
    groups = plan.reshape(len(plan), P, K)
    assert (groups == groups[:, :, :1]).all()
    assert all(len(set(row)) == P for row in groups[:, :, 0])
    assert (np.bincount(groups[:, :, 0].ravel(), minlength=100)[images] == 2).all()
    with pytest.raises(UserError, match="--clusters_per_batch=5: larger than the data"):
        sampler.views_plan(images[:4], CONFIG, epochs=8, seed=[3])


def test_clusters_drawn_by_size_use_all_images_about_equally_often():
    batch = BatchConfig(clusters_per_batch=2, images_per_cluster=8, views_per_image=2)
    labels = np.repeat([0, 1, 2, 3], [4, 8, 20, 48])  # 4 images of a cluster in a batch
    images = np.arange(80, dtype=np.int32)
    plan = sampler.pk_plan(images, labels, batch, 200, [1], by_size=True)
    assert plan.shape == (80 * 200 // 16, 16)
    assert (labels[plan].reshape(-1, 2, 8).std(axis=2) == 0).all()
    assert np.ptp(np.bincount(plan.ravel())) <= 4  # of 200; a place more or less is 2 views
    equal = sampler.pk_plan(images, labels, batch, 200, [1])
    assert np.bincount(equal.ravel())[0] == 1000  # of a cluster a fifth of the mean's size


def test_a_batch_of_views_has_the_same_size():
    batch = BatchConfig(clusters_per_batch=2, images_per_cluster=12, views_per_image=3)
    views = batch.of_views
    assert (views.clusters_per_batch, views.images_per_cluster, views.size) == (8, 3, 24)
    assert views.of_views == views
    whole = BatchConfig(global_batch=24, images_per_cluster=12, views_per_image=3)
    assert whole.of_views == views


@pytest.mark.parametrize(
    ("total", "count", "expected"),
    [(10, 4, [0, 3, 6, 9]), (5, 9, [0, 1, 2, 3, 4]), (1, 3, [0]), (7, 1, [0]), (8, 3, [0, 3, 7])],
)
def test_evenly_has_both_ends_and_no_number_twice(total, count, expected):
    assert sampler.evenly(total, count).tolist() == expected
