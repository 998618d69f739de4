"""k-NN accuracy against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from mgta_tf.evaluation import knn
from mgta_tf.evaluation.knn import knn_accuracy


def data(count=260, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    means = np.random.default_rng(9).normal(size=(classes, 12))
    return (means[labels] + rng.normal(size=(count, 12))).astype(np.float32), labels


def test_accuracy_matches_scikit_learn(monkeypatch):
    monkeypatch.setattr(knn, "CHUNK", 37)
    (train, train_labels), (test, test_labels) = data(), data(150, seed=1)
    ours = knn_accuracy(train, train_labels, test, test_labels)
    assert set(ours) == {1, 5, 20, 200}
    model = KNeighborsClassifier(1, metric="cosine").fit(train, train_labels)
    assert ours[1] == pytest.approx(100 * model.score(test, test_labels))
    for k in (5, 20, 200):  # on images without ties
        model = KNeighborsClassifier(k, metric="cosine").fit(train, train_labels)
        votes = np.sort(model.predict_proba(test), axis=1)
        clear = votes[:, -1] > votes[:, -2] + 1e-9
        assert clear.mean() > 0.5
        theirs = 100 * model.score(test[clear], test_labels[clear])
        assert knn_accuracy(train, train_labels, test[clear], test_labels[clear])[k] == (
            pytest.approx(theirs)
        )


def test_a_tie_goes_to_the_class_of_the_nearest():
    angles = np.array([0.1, 0.2, 0.3, 0.4])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels = np.array([1, 0, 0, 1])
    test = np.array([[1.0, 0.0]], np.float32)
    for truth, right in ((1, 100.0), (0, 0.0)):
        assert knn_accuracy(train, labels, test, np.array([truth]), ks=(4,)) == {4: right}


def test_values_of_k_above_the_number_of_images_are_skipped():
    train, labels = data(30)
    assert set(knn_accuracy(train, labels, train, labels)) == {1, 5, 20}


def test_neighbors_match_brute_force():
    points = np.random.default_rng(4).normal(size=(50, 7)).astype(np.float32)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(knn.nearest(points, 5), np.argsort(distances, 1)[:, :5])


@pytest.mark.parametrize(("count", "found"), [(1, 0), (2, 1), (5, 4)])
def test_few_images_have_few_neighbors(count, found):
    assert knn.nearest(np.eye(count, dtype=np.float32)).shape == (count, found)


def test_an_image_is_not_its_own_neighbor_even_beside_a_copy():
    near = knn.nearest(np.zeros((6, 2), np.float32), 3)
    assert all(row not in found for row, found in enumerate(near))


def test_precision_is_the_share_of_the_twelve_nearest_that_have_the_class():
    """Two distant groups of 13 points: all of class 0; and class 1 with one point of class 0."""
    points = np.concatenate([np.zeros((13, 2)), np.full((13, 2), 100)]) + np.arange(26)[:, None]
    truth = np.repeat([0, 1], 13)
    assert knn.precision(points, truth) == 100
    truth[-1] = 0
    assert knn.precision(points, truth) == pytest.approx(100 * (13 + 12 * 11 / 12 + 0) / 26)
