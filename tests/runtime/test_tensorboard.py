"""The steps that are traced."""

import glob

import tensorflow as tf

from mgta_tf.runtime.tensorboard import profiled


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
        """What was made, and when; and the number of traces on the disk."""
        traced.clear()
        assert list(profiled(steps(count), profile, str(tmp_path / folder))) == list(range(count))
        return traced, len(glob.glob(f"{tmp_path / folder}/**/*.xplane.pb", recursive=True))

    two = ["train 0", 2, "end", "train 1", 3, "end"]
    assert walk(6, 2, "six") == ([0, 1, *two, 4, 5], 1)
    assert walk(3, 2, "short") == ([0, 1, *two[:4], "end"], 1)
    assert walk(3, 0, "none") == ([0, 1, 2], 0)
