"""The batched solver against scikit-learn's LinearSVC, and both against the objective."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.model_selection import StratifiedKFold

from mgta_tf.errors import UserError
from mgta_tf.evaluation import svm


def problem(count, dimensions, positives, seed=0):
    """Features of length 1 with a decaying spectrum, and classes along random directions."""
    rng = np.random.default_rng(seed)
    scales = np.arange(1, dimensions + 1) ** -0.5
    x = rng.normal(size=(2 * count, dimensions)) * scales + 0.3
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    directions = rng.normal(size=(dimensions, len(positives)))
    score = x @ directions + 0.05 * rng.normal(size=(2 * count, len(positives)))
    targets = np.full(score.shape, -1, np.int8)
    for c, number in enumerate(positives):
        for half in (slice(0, count), slice(count, None)):
            targets[half, c][np.argsort(-score[half, c])[:number]] = 1
    x = x.astype(np.float32)
    return x[:count], targets[:count], x[count:], targets[count:]


COSTS = (0.01, 0.1, 1.0, 10.0)


@pytest.mark.parametrize(
    ("count", "dimensions", "positives"),
    [(300, 40, (30, 100)), (120, 500, (20, 40)), (200, 60, (3, 50))],
    ids=["n > d", "n < d", "3 positives"],
)
def test_batched_matches_liblinear(count, dimensions, positives):
    data = problem(count, dimensions, positives)
    batched = svm.linear_svm(*data, costs=COSTS, impl="batched")
    reference = svm.linear_svm(*data, costs=COSTS, impl="liblinear")
    assert abs(batched.map - reference.map) < 0.1
    for c in range(len(positives)):
        chosen = [COSTS.index(result.cost[c]) for result in (batched, reference)]
        gap = reference.cv_ap[c, chosen[1]] - reference.cv_ap[c, chosen[0]]
        assert chosen[0] == chosen[1] or gap < 0.002
    assert batched.error <= svm.ERROR
    assert batched.unconverged == 0
    np.testing.assert_allclose(batched.cv_ap, reference.cv_ap, atol=0.01)


@pytest.mark.parametrize("cost", [0.001, 0.3, 30.0])
def test_scores_match_the_optimum(cost):
    """The objective of protocols §2.5, minimized by SciPy in float64."""
    train, targets, test, test_targets = problem(80, 12, (15,))
    x = np.hstack([train, np.ones((80, 1))]).astype(np.float64)
    y = targets[:, 0].astype(np.float64)
    weight = np.where(y > 0, 2.0, 1.0)

    def objective(w):
        slack = np.maximum(0, 1 - y * (x @ w))
        value = 0.5 * w @ w + cost * (weight * slack**2).sum()
        return value, w - 2 * cost * x.T @ (weight * y * slack)

    found = minimize(objective, np.zeros(13), jac=True, method="BFGS", options={"gtol": 1e-9})
    expected = np.hstack([test, np.ones((80, 1))]) @ found.x
    result = svm.linear_svm(train, targets, test, test_targets, costs=(cost,))
    scale = np.linalg.norm(found.x) * 2
    assert np.abs(result.scores[:, 0] - expected).max() < svm.ERROR * scale


def test_the_certified_error_bounds_the_true_one():
    train, targets, *_ = problem(100, 20, (20,))
    z, _ = svm._principal_basis(train)
    rng = np.random.default_rng(0)
    for cost in (0.01, 0.1, 10.0):
        costs = np.array([cost], np.float32)
        zeros = np.zeros((z.shape[1], 1), np.float32)
        optimum = svm._newton(z, targets, costs, zeros)[0]
        for size in (1.0, 0.1, 0.01):
            weights = optimum * (1 + size * rng.normal(size=optimum.shape)).astype(np.float32)
            y = targets.astype(np.float32)
            error, *_ = svm._newton_step(z, np.square(z), y, costs, weights, z @ weights)
            true = np.linalg.norm(weights - optimum) / np.linalg.norm(weights)
            assert float(error[0]) >= true - svm.ERROR
            assert float(error[0]) > svm.ERROR or true < 2 * svm.ERROR


def test_folds_of_the_counted_images_match_scikit_learn():
    target = np.array([1, -1, -1, 0, 1, -1, 1, -1, -1, 0, -1, 1, -1])
    fold = svm.folds_of(target)
    counted = np.flatnonzero(target)
    assert (fold[target == 0] == -1).all()
    splits = StratifiedKFold(3).split(counted, target[counted])
    for number, (_, held_out) in enumerate(splits):
        assert set(np.flatnonzero(fold == number)) == set(counted[held_out])


def test_ignored_images_have_no_effect():
    train, targets, test, test_targets = problem(90, 10, (20,))
    targets[::9] = 0
    kept = targets[:, 0] != 0
    both = [
        svm.linear_svm(x, t, test, test_targets, costs=COSTS)
        for x, t in ((train, targets), (train[kept], targets[kept]))
    ]
    assert both[0].map == pytest.approx(both[1].map, abs=0.05)
    np.testing.assert_allclose(both[0].scores, both[1].scores, atol=0.02)


@pytest.mark.parametrize("impl", ["batched", "liblinear"])
def test_a_class_without_positives_has_no_ap_and_is_not_in_the_mean(impl):
    train, targets, test, test_targets = problem(60, 8, (10, 10))
    targets[:, 0] = -1
    result = svm.linear_svm(train, targets, test, test_targets, costs=(0.1, 1.0), impl=impl)
    assert np.isnan(result.ap[0])
    assert result.map == result.ap[1]


def test_nan_is_refused():
    train, targets, test, test_targets = problem(60, 8, (10,))
    train[3, 4] = np.nan
    with pytest.raises(UserError, match="NaN"):
        svm.linear_svm(train, targets, test, test_targets)


def test_the_26_costs_of_the_reference():
    costs = svm.COSTS["goyal"]
    assert len(costs) == 26
    assert costs[0] == 1e-7
    assert costs[-1] == 100
    assert {0.5**4, 0.5**19, 1.0} <= set(costs)
    assert len(svm.COSTS["vissl"]) == 11
