"""The largest benchmark of k-means in a small form."""

import numpy as np

from mgta_tf.clustering import features
from tools.bench import clustering


def test_features_of_imagenet_are_kept_in_a_file_of_the_given_folder(tmp_path, monkeypatch):
    """With smaller K and fewer points, in this process."""
    monkeypatch.setattr(clustering, "IMAGENET_CLUSTERS", 20)
    kept = []

    def collect(batches, count, budget_mb, path):
        kept.append(features.collect(batches, count, budget_mb, path))
        return kept[-1]

    monkeypatch.setattr(clustering, "collect", collect)
    config = clustering.BenchConfig(imagenet=5000, dimensions=64, budget_mb=1)
    base, peak, start, steps = clustering.kmeans_of_imagenet(config, str(tmp_path))
    assert peak >= base > 0
    assert start > 0
    assert len(steps) == clustering.STEPS
    assert min(steps) > 0
    assert isinstance(kept[0], np.memmap)
    assert len(np.unique(kept[0], axis=0)) == 5000
    assert kept[0].shape == (5000, 64)
    assert (tmp_path / "features.npy").stat().st_size > 5000 * 64 * 4


def test_the_step_of_imagenet_is_compared_with_one_in_memory(monkeypatch):
    monkeypatch.setattr(
        clustering, "in_a_process", lambda job, config: (1.0, 1.5, 9.0, [2.0, 3, 4])
    )
    monkeypatch.setattr(clustering, "time_of_step", lambda points, k, seed: 0.5)
    config = clustering.BenchConfig(imagenet=100_000, dimensions=4, budget_mb=1024)
    step, memory = clustering.imagenet(config)
    assert (step["ours"], step["peer"], step["ratio"]) == (3.0, 2.5, 1.2)  # 100,000 / 20,000
    assert (memory["ours"], memory["peer"], memory["pass"]) == (0.5, 1.0, True)
