"""The pictures of docs/reading_the_curves.md."""

import os

import numpy as np
import pytest
from PIL import Image

from mgta_tf import config as config_lib
from mgta_tf.training.config import TrainConfig
from tools.docs import provoke


def test_every_run_has_flags_that_exist_and_a_folder_of_its_own():
    runs = provoke.flags_of_runs("runs")
    known = {field.name for _, group in config_lib.groups(TrainConfig) for field in group}
    assert {name for flags in runs.values() for name in flags} <= known | {"flagfile"}
    assert len({flags["workdir"] for flags in runs.values()}) == len(runs)
    assert set(provoke.PANELS) == set(runs) - {"healthy"}


@pytest.mark.parametrize("name", ["collapse", "default", "tiny_clusters"])
def test_a_picture_shows_a_run(finished, tmp_path, name):
    for run in ("healthy", name):
        os.symlink(finished, tmp_path / run)
    provoke.draw(name, str(tmp_path), str(tmp_path / "picture.png"))
    with Image.open(tmp_path / "picture.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    color = provoke.RED if name in provoke.FAILURES else provoke.BLUE
    drawn = (pixels == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2)
    assert drawn.sum() > 50
