"""AP50 of the detector on the four images it was trained on, for ten seeds.

Not part of `make test`: it takes half an hour on one core. It tells whether a low AP50 in
test_training.py is chance, and is run on both supported versions of TensorFlow:

  python -m pytest tests/detection/many_seeds.py

Each result becomes a row of docs/results/detector_seeds.json. Combinations that already have a row
are skipped.
"""

import dataclasses
import json
import pathlib

import pytest

from mgta_tf import detect
from mgta_tf.runtime.files import write_json
from mgta_tf.training.summary import versions

ROWS = pathlib.Path(__file__).parents[2] / "docs" / "results" / "detector_seeds.json"


@pytest.mark.parametrize("steps", [400, 600])
@pytest.mark.parametrize("seed", range(1, 11))
def test_four_images_are_memorized(small, steps, seed, tmp_path):
    made_by = versions()
    key = {"steps": steps, "seed": seed, "tensorflow": made_by["tensorflow"]}
    rows = json.loads(ROWS.read_text()) if ROWS.exists() else []
    if any(key.items() <= row.items() for row in rows):
        pytest.skip("already a row of docs/results/detector_seeds.json")
    schedule = dataclasses.replace(small.schedule, steps=steps, decay_step=int(0.8 * steps))
    run = dataclasses.replace(small.run, workdir=str(tmp_path / "run"), seed=seed)
    detect.main(dataclasses.replace(small, run=run, schedule=schedule))
    found = json.loads((tmp_path / "run" / "detection.json").read_text())
    row = {**key, "ap50_voc07": found["ap50_voc07"], "versions": made_by}
    write_json(str(ROWS), [*rows, row])
    assert steps < 600 or row["ap50_voc07"] >= 90
