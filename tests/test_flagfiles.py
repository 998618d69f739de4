"""Flagfiles: includes, retired flags, and the flagfiles of this repository."""

import importlib
import inspect
import os
import pathlib
import re

import pytest
from absl import flags as absl_flags

from mgta_tf import cli, flagfiles
from mgta_tf import config as config_lib
from mgta_tf.detection.config import DetectConfig
from mgta_tf.errors import UserError
from mgta_tf.probe import ProbeConfig
from mgta_tf.runtime.workdir import load_config
from mgta_tf.training.config import SupervisedConfig, TrainConfig

ROOT = pathlib.Path(__file__).parent.parent


def test_includes_are_found_beside_the_file_that_includes_them(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "base.flagfile").write_text("--width=1\n--margin=1\n")
    (tmp_path / "a" / "one").write_text("# head\n--flagfile=../base.flagfile\n\n--margin=2\n")
    monkeypatch.chdir(tmp_path / "a" / "b")
    words = ["train", "--seed=1", "--flagfile=../one", "--flip"]
    expected = ["train", "--seed=1", "--width=1", "--margin=1", "--margin=2", "--flip"]
    assert flagfiles.expand(words) == expected
    absolute = str(tmp_path / "a" / "one")
    assert flagfiles.expand(["train", "--seed=1", "--flagfile", absolute, "--flip"]) == expected


def test_flags_of_the_package_are_found_from_every_folder_but_those_there_come_first(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    installed = flagfiles.expand(["--flagfile=flags/quickstart.flagfile"])
    assert "--data_source=digits" in installed
    (tmp_path / "flags").mkdir()
    (tmp_path / "flags" / "quickstart.flagfile").write_text("--seed=7\n")
    assert flagfiles.expand(["--flagfile=flags/quickstart.flagfile"]) == ["--seed=7"]


def test_flagfiles_that_include_themselves_are_refused(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text(f"--width=0.5\n--flagfile={other}\n")
    other.write_text("--flagfile=one\n")
    with pytest.raises(UserError, match=r"other: --flagfile=.*one: includes itself"):
        flagfiles.expand([f"--flagfile={one}"])


def test_flagfiles_that_include_each_other_are_refused(tmp_path):
    for number in range(20):
        (tmp_path / str(number)).write_text(f"--flagfile={number + 1}\n")
    with pytest.raises(UserError, match="more than 8 levels of included flagfiles"):
        flagfiles.expand([f"--flagfile={tmp_path / '0'}"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "f.flagfile: not a text file"),
        (b"--flagfile=a\x00b\n", "f.flagfile: --flagfile=.*null"),
        (b"--flagfile=gone\n", "f.flagfile: --flagfile=.*gone: No such file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "f.flagfile"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        flagfiles.expand([f"--flagfile={path}"])


RETIRED = {"cluster_sampling": "0.0", "old_switch": "false", "old_word": "a,b"}


def test_retired_flags_are_dropped_at_their_old_defaults_and_refused_otherwise(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(flagfiles, "RETIRED", RETIRED)
    path = tmp_path / "flags.flagfile"
    path.write_text("--cluster_sampling=0\n--noold_switch\n--old_word=a,b\n--seed=3\n")
    assert flagfiles.expand([f"--flagfile={path}"]) == ["--seed=3", "--labels=clusters"]
    assert capsys.readouterr().err == (
        "mgta_tf: retired flags at their old defaults, ignored: "
        "--cluster_sampling, --old_switch, --old_word\n"
    )
    for line in ("--cluster_sampling=0.5", "--old_switch", "--old_word=b"):
        path.write_text(f"--seed=3\n{line}\n")
        with pytest.raises(UserError, match=rf"{line}.*: this flag is retired.*remove it"):
            flagfiles.expand([f"--flagfile={path}"])


def test_the_flagfile_of_a_run_of_version_0_1_still_loads(tmp_path, capsys):
    """Shortened, as mgta_tf.train wrote it."""
    path = tmp_path / "flags.flagfile"
    old = (
        "--num_clusters=300\n--min_cluster_size=10\n--kmeans_tolerance=0.0001\n--probe_images={}\n"
    )
    path.write_text(old.format(2000))
    config = load_config(str(path), TrainConfig)
    assert config.cluster.num_clusters == 300
    assert config.guidance.labels == "clusters"  # the flag came later, with another default
    assert "--kmeans_tolerance, --min_cluster_size, --probe_images" in capsys.readouterr().err
    path.write_text(old.format(2000) + "--labels=none\n--rounds=0\n")
    assert load_config(str(path), TrainConfig).guidance.labels == "none"
    path.write_text(old.format(500))
    with pytest.raises(UserError, match="--probe_images=500: this flag is retired"):
        load_config(str(path), TrainConfig)


def test_no_retired_flag_is_a_flag():
    names = set(config_lib.to_dict(TrainConfig())) | set(config_lib.to_dict(SupervisedConfig()))
    assert not names & set(flagfiles.RETIRED)


def test_the_package_has_the_flagfiles_of_the_repository():
    package = pathlib.Path(flagfiles.PACKAGE) / "flags"
    assert sorted(os.listdir(package)) == sorted(os.listdir(ROOT / "flags"))


@pytest.mark.parametrize("path", sorted((ROOT / "flags").glob("*.flagfile")), ids=lambda p: p.stem)
def test_every_flagfile_has_a_header_and_loads_with_its_command(path):
    text = path.read_text()
    head = " ".join(line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    what, result, cost, command = re.fullmatch(
        r"What: (.+) Result: (.+) Cost: (.+) Command: (.+)", head
    ).groups()
    assert len(what) > 40
    assert re.search(r"\d|^not run here: needs ", result)
    assert cost
    run = rf"python -m (mgta_tf\.\w+) \\? ?--flagfile=flags/{path.name} "
    module = importlib.import_module(re.search(run, command)[1])
    config_class = re.search(r"cli\.run\(main, (\w+)", inspect.getsource(module))[1]
    load_config(str(path), getattr(module, config_class))


def test_flagfiles_leave_nothing_to_be_chosen():
    """A run with a flagfile has the same settings on every machine and with any images."""
    for path in sorted((ROOT / "flags").glob("*.flagfile")):
        text = re.sub(r"[#\\\s]+", " ", path.read_text())
        command = re.search(rf"mgta_tf\.(train|supervised) --flagfile=flags/{path.name}", text)
        if not command or path.stem == "paper_net":  # the settings that others share
            continue
        config_class = TrainConfig if command[1] == "train" else SupervisedConfig
        values = absl_flags.FlagValues()
        config_lib.define(config_class, values)
        values(flagfiles.expand(["program", f"--flagfile={path}"]))
        leaves = config_lib.leaves(config_class, values)
        chosen = leaves.keys() - config_lib.given(config_class, leaves).keys()
        if leaves.get("global_batch"):
            chosen -= {"clusters_per_batch"}  # it is the batch / K
        if leaves.get("rounds") == 0:
            chosen -= {"epochs_per_round"}
        if leaves.get("labels") == "none":  # a single stage, and no clusters
            chosen -= {"iae_epochs", "rounds", "epochs_per_round", "num_clusters"}
        if (leaves.get("rounds"), leaves.get("final_epochs")) == (0, 0):  # stage 1 alone
            chosen -= {"num_clusters"}
        assert not chosen, path


def test_help_has_what_a_user_needs_and_help_all_the_rest():
    """25 flags or so of each command; --help=all lists every one."""
    for config_class in (TrainConfig, SupervisedConfig, ProbeConfig, DetectConfig):
        shown, everything = (
            re.findall(r"^  --(?:\[no\])?(\w+)", cli.help_text(config_class, all_of_them), re.M)
            for all_of_them in (False, True)
        )
        assert len(shown) <= 26
        assert set(shown) < set(everything)
        assert set(everything) == set(config_lib.to_dict(config_class()))
