"""Screens: losses and labels against NumPy loops, and a budget that is never exceeded."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from mgta_tf.training.losses import batch_hard_triplet_loss
from tools.study.screens import labels as labels_lib
from tools.study.screens import recipe as recipe_lib
from tools.study.screens import run
from tools.study.screens.recipe import Recipe


@pytest.fixture
def batch():
    """12 embeddings: 6 images × 2 views; labels of two, two, one image, and one without."""
    rng = np.random.default_rng(0)
    z = tf.math.l2_normalize(tf.constant(rng.normal(size=(12, 5)), tf.float32), axis=1)
    images = np.repeat(np.arange(6), 2).astype(np.int32)
    labels = np.repeat([0, 0, 1, 1, 2, -1], 2).astype(np.int32)
    return z, tf.constant(images), tf.constant(labels)


def test_views_alone_have_the_packages_loss(batch):
    z, images, labels = batch
    found = recipe_lib.loss_of(Recipe(), {"z": 3 * z}, None, images, labels, 0.0)
    expected, _ = batch_hard_triplet_loss(
        z, images, margin=0.3, normalize=True, positive="nearest", negative="hardest"
    )
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_the_loss_of_another_endpoint_is_added(batch):
    z, images, labels = batch
    other = tf.reverse(z, axis=[1]) + 0.1
    outputs = {"z": z, "res4": other}
    found = recipe_lib.loss_of(Recipe(also=("res4",)), outputs, None, images, labels, 0.0)
    parts = [
        batch_hard_triplet_loss(e, images, normalize=True, positive="nearest")[0]
        for e in (z, other)
    ]
    assert float(found) == pytest.approx(float(parts[0] + parts[1]), abs=1e-5)


@pytest.mark.parametrize("negative", ["hardest", "ranks"])
@pytest.mark.parametrize("margin", [0.3, 0.0])
def test_triplets_of_label_mates(batch, negative, margin):
    z, images, labels = batch
    recipe = Recipe(labels="clusters", use="triplet", weight=2.0, negative=negative, margin=margin)
    found = recipe_lib.loss_of(recipe, {"z": z}, None, images, labels, tf.constant(2.0))
    z, images, labels = z.numpy(), images.numpy(), labels.numpy()
    distance = np.linalg.norm(z[:, None] - z[None], axis=2)
    views, mates = [], []
    for i in range(12):
        own = [j for j in range(12) if j != i and images[j] == images[i]]
        mate = [j for j in range(12) if labels[j] == labels[i] >= 0 and images[j] != images[i]]
        others = sorted(distance[i, j] for j in range(12) if j != i and j not in own + mate)
        far = others[0] if negative == "hardest" else np.mean([*others, 1e9][1:10])

        def loss(positives, i=i, far=far):
            x = min(distance[i, j] for j in positives) - far
            return max(0.0, x + 0.3) if margin else np.log1p(np.exp(x / 0.1))

        views.append(loss(own))
        if mate:
            mates.append(loss(mate))
    assert float(found) == pytest.approx(np.mean(views) + 2 * np.mean(mates), rel=1e-4)


def test_supcon_of_label_mates(batch):
    z, images, labels = batch
    recipe = Recipe(loss="softmax", labels="clusters", use="supcon", weight=0.5)
    found = recipe_lib.loss_of(recipe, {"z": z}, None, images, labels, tf.constant(0.5))
    z, images, labels = z.numpy().astype(float), images.numpy(), labels.numpy()
    logits = z @ z.T / 0.1
    views, mates = [], []
    for i in range(12):
        own = [j for j in range(12) if j != i and images[j] == images[i]]
        mate = [j for j in range(12) if labels[j] == labels[i] >= 0 and images[j] != images[i]]
        without = [j for j in range(12) if j != i and j not in mate]
        every = [j for j in range(12) if j != i]
        views.append(-logits[i, own[0]] + np.log(np.exp(logits[i, without]).sum()))
        if mate:  # Khosla et al.: the own view is a positive like the others
            total = np.log(np.exp(logits[i, every]).sum())
            mates.append(np.mean([total - logits[i, j] for j in own + mate]))
    assert float(found) == pytest.approx(np.mean(views) + 0.5 * np.mean(mates), rel=1e-4)


def test_images_of_a_label_as_negatives(batch):
    z, images, labels = batch
    recipe = Recipe(labels="clusters", use="meet")
    found = recipe_lib.loss_of(recipe, {"z": z}, None, images, labels, tf.constant(0.5))
    z, images, labels = z.numpy(), images.numpy(), labels.numpy()
    distance = np.linalg.norm(z[:, None] - z[None], axis=2)
    losses = []
    for i in range(12):
        kept = images != images[i]  # those of its label, too
        own = next(j for j in range(12) if j != i and images[j] == images[i])
        losses.append(max(0.0, distance[i, own] - distance[i, kept].min() + 0.3))
    assert float(found) == pytest.approx(np.mean(losses), rel=1e-4)


def test_mutual_neighbors_and_pair_purity_match_loops():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    classes = rng.integers(4, size=60)
    labels = labels_lib.mutual_neighbors(features)
    similarity = features @ features.T - 9 * np.eye(60)
    nearest = similarity.argmax(1)
    same = 0
    for i in range(60):
        mates = np.flatnonzero((labels == labels[i]) & (np.arange(60) != i))
        if nearest[nearest[i]] == i:
            assert mates.tolist() == [nearest[i]]
            same += classes[i] == classes[nearest[i]]
        else:
            assert labels[i] == -1
    assert labels_lib.pair_purity(labels, classes) == pytest.approx(same / (labels >= 0).sum())


def test_labels_on_which_two_nets_agree():
    first = np.array([0, 0, 0, 1, 1, 2, 1], np.int32)
    second = np.array([5, 5, 4, 4, 4, 4, 9], np.int32)
    found = labels_lib.common(first, second)
    mates = [sorted(np.flatnonzero(found == found[i]).tolist()) for i in range(5)]
    assert mates[0] == mates[1] == [0, 1]
    assert mates[3] == mates[4] == [3, 4]
    assert found[[2, 5, 6]].tolist() == [-1, -1, -1]


def test_batches_hold_images_of_the_same_label():
    labels = np.array([0, 0, 0, 1, 1, 2, -1, -1, 3, 3, 3, 3])
    draw = labels_lib.batches_with_mates(labels, 6, 2, seed=1)
    for step in range(20):
        images = draw(step)
        assert len(set(images)) == 6
        assert sorted(np.bincount(labels[images], minlength=4)) == [0, 2, 2, 2]
    assert draw(3).tolist() == draw(3).tolist()
    draw = labels_lib.batches_with_mates(labels, 6, 3, seed=1)
    assert sorted(np.bincount(labels[draw(0)], minlength=4)) == [0, 0, 3, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"teacher": "average"},
        {"teacher": "peer"},
        {"labels": "clusters", "label_views": 4},
        {"labels": "oracle"},
    ],
)
def test_no_recipe_costs_more_than_its_passes(changes):
    recipe = Recipe(passes=10.0, **changes)
    first, steps, labelled = run.schedule(recipe, 1000)
    of_image = {"none": 1.0, "average": 4 / 3, "peer": 2.0}[recipe.teacher]
    forwards = {"clusters": 4 * 1000 / 3}.get(recipe.labels, 0.0) * len(labelled)
    spent = steps * 64 * of_image + forwards
    assert 10_000 - 64 * of_image < spent <= 10_000
    if recipe.labels == "clusters":
        assert labelled == {first, first + (steps - first) // 2}
    assert first == (steps if recipe.labels == "none" else int(0.33 * steps))


def test_renamed_labels_keep_as_many_names_as_possible():
    rng = np.random.default_rng(0)
    before = rng.integers(4, size=200).astype(np.int32)
    after = np.where(rng.random(200) < 0.2, rng.integers(4, size=200), before)
    after = np.array([2, 0, 3, 1])[after]  # k-means numbers its clusters at random
    after[7] = -1
    found = labels_lib.renamed(after, before)
    best = max(
        itertools.permutations(range(4)),
        key=lambda names: sum(
            names[a] == b for a, b in zip(after.tolist(), before.tolist()) if a >= 0
        ),
    )
    assert found.tolist() == [-1 if a < 0 else best[a] for a in after.tolist()]


def test_batches_of_pairs_also_hold_images_without_one():
    labels = np.array([0, 0, 1, 1, -1, -1, -1, -1])
    plan = np.tile(np.array([4, 5, 6, 7]), (3, 1))
    images = run.batches(Recipe(labels="pairs", use="supcon", images=4), plan, labels, 1)(2)
    assert images[2:].tolist() == [4, 5]
    assert labels[images[0]] == labels[images[1]] >= 0


def test_the_page_has_differences_of_one_seed():
    plan = {
        "base": {"idea": "The base", "about": "two views", "recipe": {}},
        "other": {"idea": "An idea", "about": "a change", "recipe": {"images": 16}},
        "third": {"idea": "A thought", "about": "nothing yet", "recipe": {"images": 8}},
        "long": {"idea": "A plan", "about": "long", "recipe": {"passes": 72.0}, "base": "long"},
        "last": {"idea": "A plan", "about": "longer", "recipe": {"images": 8}, "base": "long"},
    }
    row = {"recipe": {}, "pair_purity": []}
    rows = {
        "tiny": [
            {**row, "screen": "base", "seed": 1, "map": 10.0},
            {**row, "screen": "base", "seed": 2, "map": 12.0},
            {**row, "screen": "other", "seed": 2, "map": 12.5, "pair_purity": [0.1, 0.2]},
            {**row, "screen": "long", "seed": 1, "map": 13.0},
            {**row, "screen": "last", "seed": 1, "map": 12.0},
        ]
    }
    page = run.page(plan, rows)
    assert "| two views | 11.00 |  | 2 | - |" in page
    assert "| a change | 12.50 | +0.50 | 1 | 0.10 → 0.20 |" in page
    assert "| long | 13.00 |  | 1 | - |" in page
    assert "| longer | 12.00 | -1.00 | 1 | - |" in page
    assert "A thought" not in page
    assert "not run yet: `third`." in page


def test_the_committed_plan_is_valid():
    plan = run.load_plan("docs/results/screens/plan.json")
    assert Recipe(**plan["base"]["recipe"]) == Recipe()
    assert all(Recipe(**entry["recipe"]) for entry in plan.values())
