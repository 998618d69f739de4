"""Flags to a config, and a config to a flagfile."""

import dataclasses
import subprocess
import sys
import textwrap

import pytest
from absl import flags as absl_flags

from mgta_tf import config, flagfiles
from mgta_tf.config import flag, group


@dataclasses.dataclass(frozen=True)
class Inner:
    """Inner."""

    rate: float = flag(0.5, "A rate.", minimum=0.0, maximum=1.0)
    policy: str = flag("a", "A choice.", choices=("a", "b"))
    blocks: tuple = flag((3, 4), "Integers.")


@dataclasses.dataclass(frozen=True)
class Outer:
    """Outer."""

    name: str = flag("", "Text.")
    count: int = flag(3, "A count.", minimum=1)
    size: object = flag(8, "A size.", minimum=2, words=("auto",))
    fast: bool = flag(True, "On or off.")
    inner: Inner = group(Inner)
    share: float = flag(0.5, "A share.", maximum=1.0, auto="auto")
    depths: tuple = flag((1, 2), "Integers.", auto="auto")


def parse(*words):
    values = absl_flags.FlagValues()
    config.define(Outer, values)
    values(flagfiles.expand(["program", *words]))
    return config.from_flags(Outer, values)


def test_without_flags_a_config_has_its_defaults():
    assert parse() == Outer()


def test_every_type_is_parsed():
    words = ["--name=x", "--count=7", "--size=9", "--nofast", "--rate=0.25", "--policy=b"]
    parsed = parse(*words, "--blocks=1,2")
    assert parsed == Outer("x", 7, 9, False, Inner(0.25, "b", (1, 2)))
    assert parse("--size=auto").size == "auto"


@pytest.mark.parametrize(
    "word",
    [
        "--rate=1.5",
        "--rate=x",
        "--policy=c",
        "--count=0",
        "--size=1",
        "--size=x",
        "--blocks=1,x",
        "--unknown=1",
    ],
)
def test_bad_values_are_refused_by_name(word):
    with pytest.raises(absl_flags.Error, match=word[2:].split("=")[0]):
        parse(word)


def test_a_written_flagfile_resolves_to_the_same_config(tmp_path):
    original = Outer("a b", 9, "auto", False, Inner(1.0, "b", (2,)))
    path = tmp_path / "f.flagfile"
    path.write_text("# a comment\n" + config.to_flagfile(original))
    assert parse(f"--flagfile={path}") == original


def test_arguments_are_as_on_the_command_line():
    flags = {"name": "x", "fast": False, "blocks": [1, 2], "rate": 0.25}
    words = config.to_arguments(flags)
    assert words == ["--name=x", "--fast=false", "--blocks=1,2", "--rate=0.25"]
    assert parse(*words) == Outer("x", fast=False, inner=Inner(0.25, blocks=(1, 2)))


def test_an_automatic_flag_has_its_word_as_a_flag_and_its_default_in_a_config():
    values = absl_flags.FlagValues()
    config.define(Outer, values)
    values(["program", "--size=auto", "--depths=3,4"])
    leaves = config.leaves(Outer, values)
    assert (leaves["share"], leaves["depths"], leaves["size"]) == ("auto", (3, 4), "auto")
    given = config.given(Outer, leaves)
    assert leaves.keys() - given.keys() == {"share"}
    assert config.from_flags(Outer, values) == Outer(size="auto", depths=(3, 4))
    with pytest.raises(absl_flags.Error, match=r"share=2: must be number <= 1\.0 or auto"):
        parse("--share=2")


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outer().count = 5


COMMAND = """
    import dataclasses
    from mgta_tf import cli
    from mgta_tf.config import flag
    from mgta_tf.errors import UserError

    @dataclasses.dataclass(frozen=True)
    class Config:
        \"\"\"Purpose of the group.\"\"\"
        size: int = flag(1, "Its unit.", minimum=0)
        depth: int = flag(4, "Rarely set.", advanced=True)
        share: float = flag(0.5, "Automatic.", auto="auto")

    def main(config):
        if config.size == 1:
            raise UserError("size is one;\\nmake it two")
        if config.size == 2:
            raise OSError(28, "No space left on device", "file.bin")
        print("size", config.size)

    cli.run(main, Config)
"""


def command(tmp_path, *words):
    script = tmp_path / "command.py"
    script.write_text(textwrap.dedent(COMMAND))
    return subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        ([], 1, "mgta_tf: error: size is one; make it two\n"),
        (["--size=2"], 1, "mgta_tf: error: cannot write file.bin: No space left on device\n"),
        (["stray"], 2, "mgta_tf: error: unexpected argument 'stray'; flags begin with --\n"),
    ],
)
def test_errors_are_one_line(tmp_path, words, status, line):
    done = command(tmp_path, *words)
    assert (done.returncode, done.stderr) == (status, line)


@pytest.mark.parametrize("word", ["--size=-1", "--siez=1", "--flagfile=missing.flagfile"])
def test_bad_flags_are_one_line(tmp_path, word):
    done = command(tmp_path, word)
    assert done.returncode == 2
    assert done.stderr.startswith("mgta_tf: error: ")
    assert done.stderr.count("\n") == 1
    assert word[2:6] in done.stderr or "missing.flagfile" in done.stderr


def test_help_groups_flags_by_purpose(tmp_path):
    done = command(tmp_path, "--help")
    assert done.returncode == 0
    assert "Purpose of the group.\n\n  --size=INT  (default 1)\n      Its unit." in done.stdout
    assert "--depth" not in done.stdout
    assert "  --share=FLOAT|auto  (default auto)\n      Automatic." in done.stdout
    assert "--help=all also lists the advanced flags (1)." in done.stdout
    everything = command(tmp_path, "--help=all").stdout
    assert "  --depth=INT  (default 4)\n      Rarely set." in everything
    assert "advanced" not in everything


def test_good_flags_run(tmp_path):
    assert command(tmp_path, "--size=3").stdout == "size 3\n"
