"""Measurements beside other processes."""

import os
import subprocess
import sys

import pytest

from tools.bench import quiet


@pytest.fixture
def others(monkeypatch):
    """Shares of the cores that others use: the first is that of the first try, and so on."""
    shares = []
    monkeypatch.setattr(quiet, "wait_for_others", lambda: None)
    monkeypatch.setattr(quiet, "used_by_others", lambda before, after: shares.pop(0))
    return shares


def test_a_disturbed_measurement_is_repeated(others):
    others += [0.5, 0.3, 0.0, 0.0]
    results = iter([1.0, 2.0, 3.0, 4.0])
    assert quiet.undisturbed(lambda: next(results)) == 3.0
    assert others == [0.0]


def test_the_least_disturbed_counts_if_all_are(others):
    others += [0.5, 0.2, 0.4, 0.3]
    results = iter([1.0, 2.0, 3.0, 4.0])
    assert quiet.undisturbed(lambda: next(results)) == 2.0


def test_the_share_of_others_is_what_is_busy_and_not_ours(monkeypatch):
    """In 2 s of 4 cores, all were busy for 6 s, of which 5 s were ours."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    tick = os.sysconf("SC_CLK_TCK")
    before, after = (100, 50, 10.0), (100 + 6 * tick, 50 + 5 * tick, 12.0)
    assert quiet.used_by_others(before, after) == pytest.approx(1 / 8)
    assert quiet.used_by_others((0, 0, 1.0), (0, 0, 2.0)) == 0  # no /proc


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="Linux alone has /proc/stat")
def test_a_process_that_we_started_is_ours():
    loop = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    loop += "print(flush=True)\ninput()"
    before = quiet.own_ticks()
    child = subprocess.Popen(
        [sys.executable, "-c", loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child.stdout.readline()
    spent = quiet.own_ticks() - before
    child.communicate("\n")
    assert spent >= 0.25 * os.sysconf("SC_CLK_TCK")
