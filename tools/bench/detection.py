"""Measures a training step of the detector with and without cached features of the frozen body.

  python -m tools.bench.detection --flagfile=flags/scenes_c4.flagfile --saved_model=DIR \\
      --records=RECORDS --json=bench_detection.json

Both train the same detector, in turns, so that other load affects both; the result is the median.
Computing the features is measured separately.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable

import numpy as np

from mgta_tf import cli
from mgta_tf.config import flag, group
from mgta_tf.detection.config import CacheConfig, DetectConfig
from mgta_tf.errors import UserError
from tools.bench import rows as benchmarks


@dataclasses.dataclass(frozen=True)
class TimingConfig:
    """The benchmark."""

    json: str = flag("", "JSON to write: a list of bench, ours, peer, unit, ratio, target, pass.")
    turns: int = flag(6, "Times that each is timed.", minimum=1)
    turn_steps: int = flag(5, "Steps in a turn.", minimum=1)


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """All flags; those of the detector's run and cache have no effect."""

    timing: TimingConfig = group(TimingConfig)
    detect: DetectConfig = group(DetectConfig)


def main(config: BenchConfig) -> None:
    if not config.detect.run.records or not config.detect.run.saved_model:
        raise UserError("--records or --saved_model is required")
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        steps = {"without": step_of(config.detect, ""), "with": step_of(config.detect, folder)}
        for step in steps.values():
            step()  # builds the graph
        print(f"features made and graphs built in {time.monotonic() - began:.0f} s", flush=True)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(config.timing.turns):
            for name, step in steps.items():
                began = time.monotonic()
                for _ in range(config.timing.turn_steps):
                    step()
                seconds[name].append((time.monotonic() - began) / config.timing.turn_steps)
    ours, peer = (float(np.median(seconds[name])) for name in ("with", "without"))
    row = benchmarks.row(
        "detection: features of the body kept", ours, peer, "s/step", peer / ours, 1.0
    )
    benchmarks.finish([row], config.timing.json)


def step_of(config: DetectConfig, folder: str) -> Callable[[], float]:
    """A training step, with cached features in `folder` if given."""
    import tensorflow as tf

    from mgta_tf.detection import cache, records
    from mgta_tf.detection.task import FasterRcnnC4Task, experiment

    params = experiment(config)
    task = FasterRcnnC4Task(params.task)
    model = task.build_model()
    if folder:
        found = records.contents(config.run.records, config.data.train_set)
        files = records.files_of(config.run.records, found.train)
        kept = CacheConfig(cache_body_features=folder)
        params.task.features = cache.choose(kept, "", files, model.backbone, config.detector)
    optimizer = task.create_optimizer(params.trainer.optimizer_config)
    batches = iter(task.build_inputs(params.task.train_data))

    @tf.function(input_signature=[batches.element_spec])
    def train(inputs):
        return task.train_step(inputs, model, optimizer)["loss"]

    return lambda: float(train(next(batches)))


if __name__ == "__main__":
    cli.run(main, BenchConfig)
