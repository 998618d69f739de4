"""A job in another process."""

import sys

import pytest

from mgta_tf.errors import UserError
from tools.bench.worker import Worker

ANSWERS = 'import sys\nprint(\'{"versions": {"x": "1"}}\', flush=True)\n'


def test_each_request_runs_the_job_once():
    counting = ANSWERS + "for number, _ in enumerate(sys.stdin): print(number, flush=True)"
    worker = Worker([sys.executable, "-c", counting])
    assert (worker.versions, worker.unavailable) == ({"x": "1"}, "")
    assert [worker.seconds() for _ in range(3)] == [0, 1, 2]
    assert worker.each(3)() == 4  # the mean of 3, 4 and 5
    worker.close()


def test_a_job_that_cannot_run_has_a_reason():
    lacking = 'print(\'{"versions": {}, "unavailable": "no C++ compiler"}\')'
    worker = Worker([sys.executable, "-c", lacking])
    assert worker.unavailable == "no C++ compiler"
    worker.close()


def test_a_process_that_ends_is_reported():
    with pytest.raises(UserError, match="the process ended"):
        Worker([sys.executable, "-c", ""])
