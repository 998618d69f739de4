"""Damaged flagfiles, kills at the very start, and the paths of a workdir."""

import pytest

from mgta_tf import config as config_lib
from mgta_tf.errors import UserError
from mgta_tf.runtime.workdir import (
    KNOWN_BY_CONTENT,
    Workdir,
    _same,
    load_config,
    open_workdir,
)
from mgta_tf.training.config import TrainConfig


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"--flagfile=a\x00b\n", b"--flagfile=gone\n", b"--wdith=1\n"]
)
def test_damaged_flagfiles_are_refused(tmp_path, content):
    path = tmp_path / "f.flagfile"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"f.flagfile: "):
        load_config(str(path), TrainConfig)


def test_a_run_that_was_killed_before_its_flagfile_may_begin_again(tmp_path):
    config = TrainConfig()
    (tmp_path / "lock").write_text("")
    (tmp_path / "flags.flagfile.partial").write_text("--wid")
    open_workdir(str(tmp_path), config)
    assert (tmp_path / "flags.flagfile").read_text() == config_lib.to_flagfile(config)


def test_a_host_that_is_not_the_chief_writes_no_picture_of_the_run():
    """Two hosts that write the same file would overwrite each other's."""
    chief, other = Workdir("run"), Workdir("run", own="own")
    for ask in (
        lambda workdir: workdir.originals,
        lambda workdir: workdir.reconstruction(1, 0),
        lambda workdir: workdir.gallery(1, 0),
    ):
        assert ask(chief).startswith("run/pictures/")
        assert ask(other).startswith("own/pictures/")


def test_paths_to_the_same_files_are_the_same_flag(tmp_path, monkeypatch):
    """A trailing slash, a relative path or moved images do not prevent a resume."""
    monkeypatch.chdir(tmp_path)
    for before, now in (
        ("runs/a", "runs/a/"),
        ("runs/a", f"{tmp_path}/runs/a"),
        ("runs/a,runs/b", "./runs/a,runs/b/"),
        (0.1, 0.1),
        ("", ""),
    ):
        assert _same(before, now)
    for before, now in (
        ("runs/a", "runs/b"),
        ("uniform", "proportional"),
        ("", "x"),
        ("", "."),
        (1, 2),
    ):
        assert not _same(before, now)
    assert "data_dir" in KNOWN_BY_CONTENT
