"""What a batch must be for the devices; tests/training/test_learner.py has two replicas."""

import pytest

from mgta_tf.errors import UserError
from mgta_tf.runtime.strategy import make_strategy


def test_a_device_that_mines_by_itself_needs_two_clusters():
    assert make_strategy(2, "clusters_per_batch", least=2).num_replicas_in_sync == 1
    with pytest.raises(UserError, match="clusters_per_batch=1: each of the 1 devices needs 2"):
        make_strategy(1, "clusters_per_batch", least=2)
