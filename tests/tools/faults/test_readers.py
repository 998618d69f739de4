"""Every reader on damaged files."""

import contextlib

import hypothesis
import pytest

from mgta_tf.data.images import BadImage
from mgta_tf.errors import UserError
from tools.faults import fuzz
from tools.faults.readers import READERS


@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_refused_or_read(reader, tmp_path):
    """The short form; `make faults` does this for an hour, in subprocesses that may crash."""
    seeds, read = READERS[reader](str(tmp_path))
    examples = 40 if reader in ("checkpoints", "tfrecords", "records") else 150

    @hypothesis.seed(0)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(fuzz.damaged(seeds))
    def once(data):
        with contextlib.suppress(UserError, BadImage):
            read(data)

    once()
    for seed in seeds[:1]:
        read(seed)  # an intact file
