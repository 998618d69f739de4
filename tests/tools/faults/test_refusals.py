"""Errors that can be known at the start are reported at the start."""

import random

from tools.faults import refusals
from tools.faults.suite import Suite


def test_errors_known_at_the_start_are_reported_before_decoding(tmp_path, monkeypatch):
    """Not timed; `make faults ONLY=refusals` measures the seconds with 2,000 photographs."""
    monkeypatch.setattr("mgta_tf.data.images.decode_stored", None)
    row = refusals.refusals(Suite(str(tmp_path), True, random.Random(0), {}))
    assert row["tries"] == len(refusals.TRAIN) + 4
