"""The rows of the thread benchmark."""

import pytest

from mgta_tf.errors import UserError
from tools.bench import threads

SECONDS = {
    "TensorFlow's default": [2.0],
    "one device per core": [1.0],
    "two nets side by side": [4.0],
    "product": [2 * 4000**3 / 1e9 / 200],  # 200 GFLOP/s
}


def test_each_way_is_compared_with_the_default_and_with_the_product():
    faster, slower = threads.rows_of("a net, float32", 100.0, SECONDS, 64)
    assert faster["bench"] == "threads, a net, float32: one device per core"
    assert (faster["ours"], faster["peer"], faster["ratio"]) == (64, 32, 2)
    assert faster["share"] == pytest.approx(
        {"TensorFlow's default": 0.25, "one device per core": 0.5}
    )
    assert slower["ratio"] == 0.5
    assert not slower["pass"]


def test_chosen_ways_follow_the_default():
    assert threads.chosen_ways("") == list(threads.WAYS)
    chosen = threads.chosen_ways("two nets side by side,one device per core")
    assert chosen == ["TensorFlow's default", "two nets side by side", "one device per core"]
    assert threads.possible(chosen, "small") == chosen
    assert threads.possible(chosen, "full") == [chosen[0], chosen[2]]
    with pytest.raises(UserError, match="--ways: 'two cores' is not one of"):
        threads.chosen_ways("one device per core,two cores")
