"""Paths and names of any characters, from training to the report."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys

import cases
import numpy as np
import pytest
from small import config_of

from mgta_tf import config as config_lib
from mgta_tf import export, probe, report, search, supervised, train
from mgta_tf.data.sources import DataConfig
from mgta_tf.embed import __main__ as embed
from mgta_tf.embed import table
from mgta_tf.embed.config import EncodeConfig
from mgta_tf.errors import UserError
from mgta_tf.evaluation import features
from mgta_tf.models import artifact
from mgta_tf.runtime import checkpoints
from mgta_tf.training.config import SupervisedConfig, TrainConfig

ODD = "run [lr=1] *?"


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A run on files and a folder with Latin-1 names, killed once, resumed after its data moved."""
    folder = tmp_path_factory.mktemp("odd")
    cases.latin1_names(folder)
    photos = os.fsdecode(os.path.join(os.fsencode(folder), b"folder_caf\xe9"))
    flags = dict(data_source="", probe_every_rounds=0, num_clusters=2, k_candidates="2,3")
    flags.update(clusters_per_batch=2, images_per_cluster=2)
    workdir, saves = folder / ODD, checkpoints.Checkpoints.save

    def save_and_die(self, position):
        saves(self, position)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train.train(config_of(workdir, data_dir=photos, **flags))
    moved = os.fsdecode(os.path.join(os.fsencode(folder), b"moved_\xfc"))
    os.rename(photos, moved)
    train.train(config_of(workdir, data_dir=moved + "/", **flags))
    return workdir, moved, flags


def test_a_run_in_brackets_resumes_exports_and_is_loaded(odd):
    workdir, _, _ = odd
    output = str(workdir / "saved_model")
    export.main(export.ExportConfig(workdir=str(workdir), output=output))
    assert features.load_encode(output, "embedding")
    encoder, _ = artifact.load_encoder(output)
    assert encoder.count_params() > 0


def test_embed_search_and_probe_read_and_write_such_paths(odd, tmp_path):
    workdir, moved, _ = odd
    exported = str(workdir / "export [2], *?")
    export.main(export.ExportConfig(workdir=str(workdir), output=exported))
    encode = EncodeConfig(saved_model=exported)
    made = {suffix: str(tmp_path / f"a [1], *?{suffix}") for suffix in (".npz", ".csv")}
    for output in made.values():
        embed.main(embed.EmbedConfig(output, encode, DataConfig(data_dir=moved)))
    names = np.load(made[".npz"])["name"].tolist()
    assert sorted(names) == sorted(os.listdir(moved))  # exact, for names of any bytes
    with open(made[".csv"], encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == [table.as_utf8(name) for name in names]
    with open(workdir / "clusters.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert sorted(row[0] for row in rows[1:]) == sorted(map(table.as_utf8, names))

    page = tmp_path / "hits [1].html"
    search.main(
        search.SearchConfig(
            query=os.path.join(moved, names[0]),
            embeddings=made[".npz"],
            output=str(page),
            encode=encode,
            data=DataConfig(data_dir=moved),
        )
    )
    assert page.stat().st_size > 1000
    for number, name in enumerate(sorted(os.listdir(moved))):
        place = tmp_path / "classes [x]" / f"{number % 2} [y] *?"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.join(moved, name), place / name)
    output = str(tmp_path / "p [1]" / "probe *?.json")
    flags = dict(dataset="folder", image_size=32, svm_costs="1", baselines=False)
    for _ in range(2):  # the second time with cached features
        probe.main(
            probe.ProbeConfig(
                data_dir=str(tmp_path / "classes [x]"),
                saved_model=exported,
                output=output,
                **flags,
            )
        )
    with open(output) as file:
        assert json.load(file)["num_train"] == 6


def test_names_of_any_bytes_reach_projector_and_report(odd):
    workdir, _, _ = odd
    report.main(report.ReportConfig(workdir=str(workdir)))
    page = (workdir / "report.html").read_bytes().decode()
    assert r"moved_\xfc" in page
    table = (workdir / "tensorboard" / "run" / "projector.tsv").read_text(encoding="utf-8")
    assert ".jpg" in table


def test_other_images_under_the_same_names_are_refused(odd):
    workdir, moved, flags = odd
    copy = workdir.parent / "copy"
    shutil.copytree(moved, copy)
    cases.replace_contents(copy)
    with pytest.raises(UserError, match=r"not those that the run in .* began with"):
        train.train(config_of(workdir, data_dir=str(copy), **flags))


def test_an_older_checkpoint_knows_its_images_by_name(tmp_path, odd, capsys):
    """Its fingerprint is of names alone: it is accepted with a note."""
    workdir, moved, flags = odd
    old = tmp_path / "old"
    shutil.copytree(workdir, old, ignore=shutil.ignore_patterns("saved_model"))
    with pytest.MonkeyPatch.context() as patch:
        real = checkpoints.Checkpoints.restore
        patch.setattr(
            checkpoints.Checkpoints, "restore", lambda self, data, names: real(self, names, data)
        )
        train.train(config_of(old, data_dir=moved, **flags))
    assert "compared images by name only" in capsys.readouterr().out


def test_home_in_every_flag(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for given, expected in (
        ("~/x", "/home/me/x"),
        ("~", "/home/me"),
        ("a,~/b", "a,/home/me/b"),
        ("@~/list.txt", "@/home/me/list.txt"),
        ("row=~/m,b=x~y/~", "row=/home/me/m,b=x~y/~"),
        ("a/~/b", "a/~/b"),
    ):
        assert config_lib.expand_home(given) == expected
    config = config_lib.from_dict(TrainConfig, {"workdir": "~/w", "data_dir": "~/a,~/b"})
    assert (config.run.workdir, config.data.data_dir) == ("/home/me/w", "/home/me/a,/home/me/b")


def test_a_terminal_that_is_not_utf8_gets_replacements():
    command = [sys.executable, "-m", "mgta_tf.train", "--help=all"]
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(command, capture_output=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert "×".encode("latin-1") in done.stdout
    assert b"?" in done.stdout


def test_a_report_of_a_run_in_its_first_stage(tmp_path):
    for name, config in (
        ("train", config_of(tmp_path / "train")),
        ("supervised", config_lib.from_dict(SupervisedConfig, {"workdir": "w"})),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "flags.flagfile").write_text(config_lib.to_flagfile(config))
        report.main(report.ReportConfig(workdir=str(tmp_path / name)))
        assert "no turn has ended yet" in (tmp_path / name / "report.html").read_text()


def test_printed_commands_can_be_pasted(tmp_path, capsys):
    for number in range(12):
        cases.put(f"{tmp_path}/photos/{'ab'[number % 2]}/{number}.png")
    workdir = tmp_path / "a b; rm x"
    flags = dict(width=0.0625, blocks=(1, 1, 1, 1), image_size=32, epochs=1, batch_size=4)
    flags.update(data_dir=str(tmp_path / "photos"), workdir=str(workdir))
    supervised.train(config_lib.from_dict(SupervisedConfig, flags))
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "mgta_tf.export" in x]
    words = shlex.split(line)
    assert f"--workdir={workdir}" in words
    assert f"--output={workdir}/saved_model" in words
