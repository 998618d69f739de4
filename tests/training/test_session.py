"""What a run says and writes when it ends."""

import pytest
import tensorflow as tf
from small import config_of

from mgta_tf import export, report, train

VIEWS = {"labels": "none", "decoder": "none", "images_per_cluster": 2, "views_per_image": 2}


@pytest.mark.parametrize("flags", [{}, VIEWS])
def test_a_run_without_epochs_is_an_untrained_net(flags, tmp_path, capsys):
    workdir, output = tmp_path / "w", tmp_path / "w" / "saved_model"
    train.train(config_of(workdir, **{**flags, "iae_epochs": 0, "rounds": 0, "final_epochs": 0}))
    printed = capsys.readouterr().out
    assert "done: no epochs: the net is untrained\n" in printed
    asked = f"--workdir={workdir} --output={output} --untrained"  # what its last line says
    assert printed.endswith(f"python -m mgta_tf.export {asked}\n")
    report.main(report.ReportConfig(workdir=str(workdir)))
    page = (workdir / "report.html").read_text()
    assert "not finished" not in page
    assert "The net is untrained: the run has no epochs." in page
    assert "<span>--untrained</span>" in page  # in the command to export
    export.main(export.ExportConfig(workdir=str(workdir), output=str(output), untrained=True))
    signatures = tf.saved_model.load(str(output)).signatures
    assert signatures["encode"](images=tf.zeros([1, 32, 32, 3], tf.uint8))["res4"].shape[0] == 1
