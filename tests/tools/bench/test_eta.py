"""The benchmark of the ETA: what it reads, and how it counts, for runs with a known end."""

import textwrap

import pytest

from mgta_tf.errors import UserError
from mgta_tf.runtime.progress import duration
from tools.bench import eta
from tools.bench.eta import Moment, Watched


@pytest.mark.parametrize("seconds", [0, 45, 200, 3600 + 120, 2 * 86_400 + 7200])
def test_times_are_read_as_they_are_shown(seconds):
    assert eta.seconds_of(duration(seconds)) == seconds


def test_moments_are_the_lines_with_an_eta():
    bar = " 12%|##   | ETA 1 min 05 s · epoch 2 of 9 · loss 1\r 13%|##   | 7 s so far · x\r"
    line = "40% · ETA 9 s · saving\n"
    assert eta.moments_of(bar + line, 3.0) == [
        Moment(3.0, 65, "epoch 2 of 9 · loss 1"),
        Moment(3.0, 9, "saving"),
    ]


def test_the_share_is_that_of_the_moments_after_a_tenth():
    """100 s: at 5 s it is too early to count; 10 of 90 is wrong, 60 of 50 is right."""
    moments = [Moment(5, 1, ""), Moment(10.5, 10, "wrong"), Moment(50, 60, ""), Moment(90, 10, "")]
    found = eta.score(Watched(100, moments, ""))
    assert (found.moments, found.share) == (3, pytest.approx(200 / 3))
    assert found.worst.text == "wrong"
    text = eta.described(Watched(100, moments, ""), found)
    assert "3 moments, 67 % of them within 20 %" in text
    assert "most wrong after 10 s: 10 s, when 1 min 30 s were left: wrong" in text


def test_an_error_is_relative_to_the_time_left_and_one_second_off_is_none():
    assert eta.error(Moment(40, 90, ""), 100) == pytest.approx(29 / 60)
    assert eta.error(Moment(40, 30, ""), 100) == pytest.approx(29 / 60)
    assert eta.error(Moment(97, 4, ""), 100) == 0
    assert eta.error(Moment(100, 0, ""), 100) == 0


def test_without_a_moment_all_are_right():
    found = eta.score(Watched(100, [Moment(1, 1, "")], ""))
    assert found == eta.Score(0, 100.0, None)
    assert "0 moments" in eta.described(Watched(100, [], ""), found)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Writes a program, and watches it."""

    def watched(code, **flags):
        (tmp_path / "program.py").write_text(textwrap.dedent(code))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return eta.watch("program", flags)

    return watched


def test_a_command_is_watched_as_on_a_terminal(run):
    found = run(
        """
        import sys
        assert sys.stderr.isatty() and sys.argv[1:] == ["--a=1"]
        print("50%| ETA 2 s · half\\r", end="", file=sys.stderr, flush=True)
        print("done")
        """,
        a=1,
    )
    assert [(m.left, m.text) for m in found.moments] == [(2, "half")]
    assert found.output.endswith("done\r\n")
    assert 0 < found.moments[0].seconds <= found.seconds


def test_a_command_that_fails_is_an_error_with_its_last_line(run):
    with pytest.raises(UserError, match="python -m program ended with 3: no photographs"):
        run("import sys\nprint('x\\nno photographs')\nsys.exit(3)")
