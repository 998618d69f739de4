"""The metrics of a turn, uninterrupted and resumed."""

import json

import numpy as np
import pytest

from mgta_tf.errors import UserError
from mgta_tf.runtime.step_log import StepLog, steps_between_points


def metrics(loss, skipped=0.0):
    return {"loss": loss, "gradient_norm": loss, "skipped": skipped}


def walk(log, losses, first=0):
    """Feeds a log; returns the points."""
    points = []
    for step, loss in enumerate(losses, first):
        log.add(metrics(loss, float(not np.isfinite(loss))))
        if log.window_is_full() or step == 9:
            points.append(log.point(step + 1))
    return points


def without_seconds(row):
    return {key: value for key, value in row.items() if key != "seconds"}


def test_a_summary_has_the_first_window_and_the_means_of_the_last_epoch():
    log = StepLog("turn", steps=10, epochs=2, every=3, max_skipped=0)
    points = walk(log, range(10))
    assert [point["loss"] for point in points] == [1, 4, 7, 9]
    summary = log.summary()
    assert summary["first"] == points[0]
    assert summary["loss"] == pytest.approx((4 + 7 + 9) / 3)  # windows that end after step 5


@pytest.mark.parametrize("kill", range(1, 10))
def test_an_interrupted_turn_has_the_same_log(kill):
    whole = StepLog("turn", 10, 2, 3, 1)
    losses = [0.0, 1.0, float("nan"), 3.0, float("nan"), 5.0, 6.0, 7.0, 8.0, 9.0]
    points = walk(whole, losses)
    log = StepLog("turn", 10, 2, 3, 1)
    found = walk(log, losses[:kill])
    state = json.loads(json.dumps(log.state(kill)))  # as a checkpoint holds it
    resumed = StepLog("turn", 10, 2, 3, 1, state)
    found += walk(resumed, losses[kill:], first=kill)
    assert found == points
    assert without_seconds(resumed.summary()) == without_seconds(whole.summary())
    assert whole.summary()["skipped"] == 2
    assert points[0] == {"loss": 0.5, "gradient_norm": 0.5, "skipped": 1.0}


@pytest.mark.parametrize(
    ("steps", "every"), [(1, 1), (39, 1), (40, 2), (100, 5), (399, 19), (400, 20), (90_000, 20)]
)
def test_a_short_turn_has_a_curve_too(steps, every):
    assert steps_between_points(steps) == every
    assert steps / every >= min(steps, 20)


def test_too_many_consecutive_steps_that_are_not_finite_stop_the_run():
    log = StepLog("round 2: net 1 learns from clusters", 10, 1, 3, max_skipped=2)
    bad = float("inf")
    with pytest.raises(
        UserError, match=r"^round 2: net 1 learns from clusters, step 6: the loss is inf"
    ):
        walk(log, [1.0, bad, bad, 1.0, bad, bad, bad, 1.0, 1.0])


def test_steps_skipped_because_of_the_loss_scale_do_not_stop_the_run():
    """They do not count while the loss is finite and the scale is above 1, so that it can fall."""
    nan, scales = float("nan"), [2.0**n for n in range(15, -1, -1)] + [1.0] * 9

    def run(losses):
        log = StepLog("turn", len(losses), 1, 1, max_skipped=2)
        for step, (loss, scale) in enumerate(zip(losses, scales), 1):
            log.add({"loss": loss, "gradient_norm": nan, "skipped": 1.0, "loss_scale": scale})
            log.point(step)
        return log.summary()

    assert run([1.0] * 17)["skipped"] == 17  # 15 that do not count, and the two that are allowed
    with pytest.raises(UserError, match=r"step 17: the loss is 1\.0 and its gradient norm nan"):
        run([1.0] * 18)
    with pytest.raises(UserError, match="step 2: the loss is nan"):
        run([nan] * 3)
