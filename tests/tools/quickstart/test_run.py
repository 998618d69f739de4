"""The quickstart from its flagfiles to its pictures, with fewer digits and epochs."""

import dataclasses
import json
import pathlib
import re

import pytest
from PIL import Image

from mgta_tf import config as config_lib
from mgta_tf.data import digits
from mgta_tf.training.config import SupervisedConfig, TrainConfig
from tools.quickstart import evaluation, pictures, run, seeds

ROOT = pathlib.Path(__file__).parents[3]
SMALL = {"shapes_count": 64, "width": 0.0625, "clusters_per_batch": 8, "batch_size": 16}


@pytest.fixture
def few(monkeypatch):
    """The quickstart's runs with an epoch each, on 64 digits."""
    of = run.Runs.of.__func__

    def small(config, **flags):
        return config_lib.from_dict(type(config), {**config_lib.to_dict(config), **SMALL, **flags})

    def of_few(cls, config):
        runs = of(cls, config)
        assert isinstance(runs.default, TrainConfig)
        assert isinstance(runs.supervised, SupervisedConfig)
        return dataclasses.replace(
            runs,
            default=small(runs.default, final_epochs=1),
            iae=small(runs.iae, iae_epochs=1),
            supervised=small(runs.supervised, epochs=1),
        )

    monkeypatch.setattr(run.Runs, "of", classmethod(of_few))
    monkeypatch.setattr(digits, "count", lambda split: 64)
    monkeypatch.setattr(pictures, "CLUSTERS", 5)


@pytest.mark.usefixtures("few")
def test_quickstart(tmp_path, capsys):
    folder = tmp_path / "quickstart"
    run.main(run.QuickstartConfig(str(folder), seed=3))
    printed = capsys.readouterr().out
    found = json.loads((folder / "quickstart.json").read_text())
    assert found["seed"] == 3
    for name in evaluation.ORDER:
        assert 0 <= found[name]["low"] <= found[name]["value"] <= found[name]["high"] <= 100
        assert f"{run.TITLES[name]:28s}{found[name]['value']:5.1f}" in printed
    for name in ("reconstructions.png", "clusters.png"):
        with Image.open(folder / name) as image:
            assert image.width == 16 * 32 * pictures.SCALE
    assert re.search(
        r"NMI with the digits [\d.]+ \(untrained encoder [\d.]+, by chance [\d.]+\)\n", printed
    )
    assert (folder / "report.html").exists()
    assert (folder / "saved_model" / "saved_model.pb").exists()


def test_every_seed_is_a_row_and_is_run_once(tmp_path, monkeypatch):
    made = []

    def measure(runs):
        made.append(runs.default.run.seed)
        values = {name: {"value": 10.0 * made[-1]} for name in run.TITLES}
        found = {**values, "seed": made[-1], "ordered": True, "separated": made[-1] != 2}
        return run.Measured(found, [], {})

    monkeypatch.setattr(seeds, "measure", measure)
    output = tmp_path / "rows.json"
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- tools/quickstart/seeds.py writes what follows -->\n<!-- end -->\n")
    config = seeds.SeedsConfig(str(tmp_path), (1, 2), str(output), str(page))
    seeds.main(config)
    seeds.main(dataclasses.replace(config, seeds=(2, 3)))
    assert made == [1, 2, 3]
    rows = json.loads(output.read_text())
    assert [row["separated"] for row in rows] == [True, False, True]
    assert "| labels and softmax | 20.0 | 10.0 | 30.0 |" in page.read_text()
    assert "in 3 of 3 seeds; in 2 no intervals overlap." in page.read_text()


def test_the_page_has_the_table_of_the_committed_rows():
    rows = json.loads((ROOT / "docs" / "results" / "quickstart.json").read_text())
    assert [row["seed"] for row in rows] == list(range(1, 11))
    for row in rows:
        assert row["ordered"] == evaluation.ordered(row)
        assert row["separated"] == evaluation.separated(row)
    assert sum(row["separated"] for row in rows) >= 9
    assert seeds.table(rows) in (ROOT / "docs" / "quickstart.md").read_text()
