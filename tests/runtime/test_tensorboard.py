"""TensorBoard's scalars, read back, and the traced steps."""

import glob

import tensorflow as tf

from mgta_tf.runtime.tensorboard import TensorBoardWriter, profiled


def read(directory):
    """(step, tag, value) of every scalar of `run`."""
    (path,) = glob.glob(f"{directory}/run/*")
    return [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for event in tf.compat.v1.train.summary_iterator(path)
        for value in event.summary.value
    ]


def test_a_metric_is_not_written_before_it_changes(tmp_path):
    board = TensorBoardWriter(str(tmp_path))
    for step, rate, skipped in ((1, 0.5, 0.0), (2, 0.5, 0.0), (3, 0.25, 0.0), (4, 0.25, 0.0)):
        board.metrics("run", step, {"loss": float(step), "rate": rate, "skipped": skipped})
    board.flush()
    found = read(tmp_path)
    losses = [(step, value) for step, tag, value in found if tag == "1_loss/loss"]
    assert losses == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    rates = [(step, value) for step, tag, value in found if tag == "5_training/rate"]
    assert rates == [(1, 0.5), (2, 0.5), (3, 0.25), (4, 0.25)]
    assert {tag for _, tag, _ in found} == {"1_loss/loss", "5_training/rate"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # nothing was written about a net


def test_a_resumed_run_writes_the_curves_of_an_uninterrupted_one(tmp_path):
    """Whether a metric has changed before the interruption, after it, or never."""
    rows = {
        1: {"nmi_truth": 0.5, "smallest": 1, "empty_clusters": 0},
        2: {"nmi_truth": 0.6, "smallest": 1, "empty_clusters": 0},
        3: {"nmi_truth": 0.7, "smallest": 2, "empty_clusters": 0},
    }
    points = {}
    for name, starts in (("whole", (1,)), ("resumed", (1, 2, 3))):
        for start in starts:
            board = TensorBoardWriter(str(tmp_path / name / str(start)))
            for step in range(1, start):
                board.recall("run", step, rows[step])
            for step in range(start, 4 if name == "whole" else start + 1):
                board.metrics("run", step, rows[step])
            board.flush()
        parts = [tmp_path / name / str(start) for start in starts]
        points[name] = sorted(point for part in parts if part.exists() for point in read(part))
    assert [tag for _, tag, _ in points["whole"]].count("2_clusters/nmi_truth") == 3
    assert not [tag for _, tag, _ in points["whole"] if tag == "2_clusters/empty_clusters"]
    assert points["resumed"] == points["whole"]


def test_the_third_step_and_those_after_it_are_traced(tmp_path, monkeypatch):
    traced = []

    class Trace:
        def __init__(self, name, step_num, _r):
            self.name = f"{name} {step_num}"

        def __enter__(self):
            traced.append(self.name)

        def __exit__(self, *error):
            traced.append("end")

    monkeypatch.setattr(tf.profiler.experimental, "Trace", Trace)

    def steps(count):
        for step in range(count):
            traced.append(step)
            yield step

    def walk(count, profile, folder):
        """The order of steps and traces, and the number of traces on disk."""
        traced.clear()
        assert list(profiled(steps(count), profile, str(tmp_path / folder))) == list(range(count))
        return traced, len(glob.glob(f"{tmp_path / folder}/**/*.xplane.pb", recursive=True))

    two = ["train 0", 2, "end", "train 1", 3, "end"]
    assert walk(6, 2, "six") == ([0, 1, *two, 4, 5], 1)
    assert walk(3, 2, "short") == ([0, 1, *two[:4], "end"], 1)
    assert walk(3, 0, "none") == ([0, 1, 2], 0)
