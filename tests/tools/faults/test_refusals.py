"""What is known at the start is said at the start."""

import random

from tools.faults import refusals
from tools.faults.suite import Suite


def test_what_is_known_at_the_start_is_said_before_anything_is_decoded(tmp_path, monkeypatch):
    """Without a clock; `make faults ONLY=refusals` has 2,000 photographs and measures."""
    monkeypatch.setattr("mgta_tf.data.images.decode_stored", None)
    row = refusals.refusals(Suite(str(tmp_path), True, random.Random(0), {}))
    assert row["tries"] == len(refusals.TRAIN) + 4
