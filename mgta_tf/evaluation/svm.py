"""Linear SVMs on frozen features (docs/protocols.md §2.5, §2.6), exact and fast.

For each class, cost C and fold, the problem is

    min over w  ½|w|² + C Σ c_i max(0, 1 - y_i w·x_i)²

with y = ±1, class weights c = {+1: 2, -1: 1}, and a constant 1 appended to every x, so the bias is
regularized as in LIBLINEAR with intercept_scaling=1. The problem is strictly convex and has a
single optimum. `liblinear` solves one problem after the other with scikit-learn's LinearSVC;
`batched` solves many classes and folds at once by Newton's method, with matrix products.
"""

from __future__ import annotations

import dataclasses
import time
import warnings

import joblib
import numpy as np
import scipy.linalg
import tensorflow as tf
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from mgta_tf.errors import UserError
from mgta_tf.evaluation.ap import average_precision

COSTS = {
    # FAIR's benchmark: powers of ten, and powers of one half (its parse_cost_list)
    "goyal": tuple(sorted([10.0**e for e in range(-7, 3)] + [0.5**e for e in range(4, 20)])),
    "vissl": (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0),
}
POSITIVE_WEIGHT = 2.0
FOLDS = 3
ERROR = 3e-3  # bound on |w - w*| / |w| below which a batched problem counts as solved
BLOCK_VALUES = 2**24  # float32 values of an array [images, problems] of the batched solver: 64 MiB


@dataclasses.dataclass(frozen=True)
class SvmResult:
    """One-vs-rest SVMs of C classes, evaluated on M test images.

    ap: [C] percent, NaN for a class without a positive. map: their mean.
    cost: [C], chosen by cross-validation. cv_ap: [C, costs], mean over the folds, 0 to 1.
    scores: float32 [M, C].
    error: largest bound on |w - w*| / |w| of the batched solver, else NaN.
    unconverged: number of fits that stopped before convergence.
    """

    ap: np.ndarray
    map: float
    cost: np.ndarray
    cv_ap: np.ndarray
    scores: np.ndarray
    seconds: float
    error: float
    unconverged: int


def linear_svm(
    train: np.ndarray,
    targets: np.ndarray,
    test: np.ndarray,
    test_targets: np.ndarray,
    *,
    costs: tuple[float, ...] = COSTS["goyal"],
    impl: str = "batched",
    ap: str = "area",
) -> SvmResult:
    """Linear SVMs, one per class, with the cost chosen by 3-fold cross-validation.

    Args:
      train: float32 [N, D], normalized by `features.normalize`.
      targets: int8 [N, C]: 1 or -1, or 0 where the image is ignored for the class.
      test, test_targets: float32 [M, D] and int8 [M, C], likewise.
      costs: Values of C to choose from.
      impl: 'batched' or 'liblinear'.
      ap: method of `average_precision`.

    Raises:
      UserError: a feature is not finite.
    """
    began = time.monotonic()
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise UserError("features hold NaN or infinity; the encoder has diverged")
    known = (targets == 1).any(0) & (targets == -1).any(0)
    fit = {"batched": _fit_batched, "liblinear": _fit_liblinear}[impl]
    cost, cv_ap, scores, error, unconverged = fit(train, targets[:, known], test, costs)

    def spread(values, shape, fill):
        whole = np.full(shape, fill, np.float64)
        whole[..., known] = values
        return whole

    classes = targets.shape[1]
    scores = spread(scores, (len(test), classes), -np.inf)
    aps = np.full(classes, np.nan)
    for c in np.flatnonzero(known):
        aps[c] = 100 * average_precision(test_targets[:, c], scores[:, c], ap)
    return SvmResult(
        ap=aps,
        map=float(np.nanmean(aps)) if np.isfinite(aps).any() else float("nan"),
        cost=spread(cost, classes, np.nan),
        cv_ap=spread(cv_ap.T, (len(costs), classes), np.nan).T,
        scores=scores.astype(np.float32),
        seconds=time.monotonic() - began,
        error=error,
        unconverged=unconverged,
    )


def folds_of(target: np.ndarray) -> np.ndarray:
    """The fold of each image, by scikit-learn's stratified 3-fold split without shuffling.

    target: [N] in {1, -1, 0} → int [N], -1 where the image is ignored.
    """
    fold, counted = np.full(len(target), -1), np.flatnonzero(target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # with fewer than 3 positives, a fold has none
        splits = StratifiedKFold(FOLDS).split(np.zeros(len(counted)), target[counted])
        for number, (_, held_out) in enumerate(splits):
            fold[counted[held_out]] = number
    return fold


def _held_out_ap(target, scores) -> float:
    """scikit-learn's average precision of a held-out fold; 0 without positives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return average_precision_score(target > 0, scores)


# --------------------------------------------------------------------------------------- LIBLINEAR


def _fit_liblinear(train, targets, test, costs):
    """Fits a LinearSVC for every class, cost and fold; classes run in parallel."""
    train, test = train.astype(np.float64), test.astype(np.float64)

    def one_class(target):
        counted, fold, failed = target != 0, folds_of(target), 0
        cv_ap = np.zeros(len(costs))
        for i, cost in enumerate(costs):
            for number in range(FOLDS):
                inside = counted & (fold != number)
                if (target[inside] > 0).any():
                    model, missed = fit_linear_svc(train[inside], target[inside], cost)
                    failed += missed
                    held_out = fold == number
                    scores = model.decision_function(train[held_out])
                    cv_ap[i] += _held_out_ap(target[held_out], scores) / FOLDS
        best = costs[int(np.argmax(cv_ap))]
        model, missed = fit_linear_svc(train[counted], target[counted], best)
        return best, cv_ap, model.decision_function(test), failed + missed

    columns = [targets[:, c] for c in range(targets.shape[1])]
    results = joblib.Parallel(n_jobs=-1)(joblib.delayed(one_class)(t) for t in columns)
    cost, cv_ap, scores, failed = zip(*results)
    return np.array(cost), np.stack(cv_ap), np.stack(scores, axis=1), float("nan"), sum(failed)


def fit_linear_svc(x, y, cost):
    """Fits the reference on x [n, D], y in {1, -1}: (LinearSVC, whether it did not converge)."""
    model = LinearSVC(
        C=cost,
        class_weight={1: POSITIVE_WEIGHT, -1: 1.0},
        penalty="l2",
        loss="squared_hinge",
        dual=True,
        tol=1e-4,
        intercept_scaling=1.0,
        max_iter=2000,
        random_state=0,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x, y)
    return model, any(issubclass(w.category, ConvergenceWarning) for w in caught)


# ----------------------------------------------------------------------------------------- Batched


def _fit_batched(train, targets, test, costs):
    """Newton's method for blocks of classes and all folds; then the chosen costs on all images.

    The costs are solved in ascending order, each starting from the optimum of the one before.
    """
    z, projection = _principal_basis(train)
    folds = np.stack([folds_of(t) for t in targets.T], axis=1)  # [N, C]
    classes, ascending = targets.shape[1], np.argsort(costs)
    cv_ap, errors = np.zeros((classes, len(costs))), []
    best, start = np.full(classes, -1.0), np.zeros((z.shape[1], classes), np.float32)
    block = max(1, BLOCK_VALUES // (len(train) * FOLDS))
    for first in range(0, classes, block):
        part = np.arange(first, min(first + block, classes))
        c, fold = np.repeat(part, FOLDS), np.tile(np.arange(FOLDS), len(part))
        held_out = folds[:, c] == fold
        y = np.where((folds[:, c] >= 0) & ~held_out, targets[:, c], 0)
        weights = np.zeros((z.shape[1], len(c)), np.float32)
        for i in ascending:
            weights, margins, error = _newton(z, y, np.full(len(c), costs[i]), weights)
            errors.append(error)
            for column in np.flatnonzero((y > 0).any(0)):
                test_of = held_out[:, column]
                ap = _held_out_ap(targets[test_of, c[column]], margins[test_of, column])
                cv_ap[c[column], i] += ap / FOLDS
            better = cv_ap[part, i] > best[part]
            best[part] = np.maximum(best[part], cv_ap[part, i])
            start[:, part[better]] = weights[:, ::FOLDS][:, better]
    chosen = np.array(costs)[cv_ap.argmax(1)]
    weights, _, error = _newton(z, targets, chosen, start)
    all_errors = np.concatenate([*errors, error])
    appended = np.concatenate([test, np.ones((len(test), 1), np.float32)], axis=1)
    scores = (appended.astype(np.float32) @ projection) @ weights
    return chosen, cv_ap, scores, all_errors.max(), int((all_errors > ERROR).sum())


def _principal_basis(x):
    """Rotates x, with the constant 1, to its principal axes: (z [N, r], projection [D + 1, r]).

    A rotation keeps all dot products, so the problem is the same. But zᵀz is diagonal, which makes
    the diagonal of the Hessian a good preconditioner even at large costs. r ≤ min(N, D + 1).
    """
    x = np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1).astype(np.float64)
    wide = x.shape[0] < x.shape[1]
    values, vectors = scipy.linalg.eigh(x @ x.T if wide else x.T @ x, overwrite_a=True)
    kept = values > values[-1] * 1e-10
    values, vectors = values[kept], vectors[:, kept]
    projection = x.T @ (vectors / np.sqrt(values)) if wide else vectors
    z = vectors * np.sqrt(values) if wide else x @ vectors
    return z.astype(np.float32), projection.astype(np.float32)


def _newton(z, targets, costs, weights, max_steps: int = 60):
    """Solves P problems on the same points, starting from `weights`.

    Args:
      z: float32 [N, r]. targets: [N, P] in {1, -1, 0}; 0 is ignored. costs: [P].
      weights: float32 [r, P].

    Returns:
      (weights float32 [r, P], margins z·w float32 [N, P], bounds on |w - w*| / |w| [P]).
    """
    count = targets.shape[1]
    weights, margins = weights.copy(), z @ weights
    errors, todo = np.full(count, np.inf), np.arange(count)
    z, squares = tf.constant(z), tf.square(tf.constant(z))
    for _ in range(max_steps):
        y = tf.constant(targets[:, todo], tf.float32)
        c = tf.constant(costs[todo], tf.float32)
        state = tf.constant(weights[:, todo]), tf.constant(margins[:, todo])
        error, new_weights, new_margins = _newton_step(z, squares, y, c, *state)
        errors[todo] = error.numpy()
        open_ = errors[todo] > ERROR
        weights[:, todo[open_]] = new_weights.numpy()[:, open_]
        margins[:, todo[open_]] = new_margins.numpy()[:, open_]
        todo = todo[open_]
        if not len(todo):
            break
    return weights, margins, errors


@tf.function(reduce_retracing=True)
def _newton_step(z, squares, y, costs, weights, margins):
    """One Newton step of P problems: (error before it [P], weights, margins after it)."""
    importance = tf.where(y > 0, POSITIVE_WEIGHT, 1.0) * tf.abs(y)
    slack = tf.nn.relu(1.0 - y * margins)
    pull = tf.matmul(z, y * importance * slack, transpose_a=True)  # [r, P]
    gradient = weights - 2.0 * costs * pull

    # The objective is strongly convex with constant 1, so |w - w*| ≤ |gradient|, and also
    # ½|w - w*|² ≤ duality gap, where α = 2C c ξ is feasible for any w. The first bound is tight at
    # small costs; the second is precise in float32 at large ones.
    norm = tf.reduce_sum(tf.square(weights), 0)
    loss = costs * tf.reduce_sum(importance * tf.square(slack), 0)
    primal = 0.5 * norm + loss
    dual = (
        2.0 * costs * tf.reduce_sum(importance * slack, 0)
        - 2.0 * tf.square(costs) * tf.reduce_sum(tf.square(pull), 0)
        - loss
    )
    bound = tf.minimum(tf.norm(gradient, axis=0), tf.sqrt(2.0 * tf.maximum(primal - dual, 0.0)))
    error = bound / tf.maximum(tf.sqrt(norm), 1e-30)

    active = importance * tf.cast(slack > 0, tf.float32)

    def hessian(v):
        return v + 2.0 * costs * tf.matmul(z, active * tf.matmul(z, v), transpose_a=True)

    diagonal = 1.0 + 2.0 * costs * tf.matmul(squares, active, transpose_a=True)
    direction = _conjugate_gradients(hessian, -gradient, diagonal)
    change = tf.matmul(z, direction)

    # The objective along the direction is convex and piecewise quadratic; try several lengths.
    lengths = tf.constant([1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.01])
    slope = tf.reduce_sum(weights * direction, 0)
    bend = tf.reduce_sum(tf.square(direction), 0)

    def objective(t):
        moved = tf.nn.relu(1.0 - y * (margins + t * change))
        regularizer = 0.5 * norm + t * slope + 0.5 * t * t * bend
        return regularizer + costs * tf.reduce_sum(importance * tf.square(moved), 0)

    values = tf.map_fn(objective, lengths)  # [lengths, P]
    best = tf.gather(lengths, tf.argmin(values, 0))
    return error, weights + best * direction, margins + best * change


def _conjugate_gradients(product, right, diagonal, max_steps: int = 40, tolerance: float = 0.03):
    """Solves product(v) = right for P columns at once, preconditioned by the diagonal."""
    limit = tolerance * tf.norm(right, axis=0)

    def unsolved(step, _, residual, *__):
        return (step < max_steps) & tf.reduce_any(tf.norm(residual, axis=0) > limit)

    def body(step, v, residual, search, energy):
        moved = product(search)
        size = tf.math.divide_no_nan(energy, tf.reduce_sum(search * moved, 0))
        size *= tf.cast(
            tf.norm(residual, axis=0) > limit, tf.float32
        )  # solved columns do not change
        v, residual = v + size * search, residual - size * moved
        scaled = residual / diagonal
        new_energy = tf.reduce_sum(residual * scaled, 0)
        search = scaled + tf.math.divide_no_nan(new_energy, energy) * search
        return step + 1, v, residual, search, new_energy

    start = right / diagonal
    energy = tf.reduce_sum(right * start, 0)
    return tf.while_loop(unsolved, body, (0, tf.zeros_like(right), right, start, energy))[1]
