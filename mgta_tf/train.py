"""Pre-trains two auto-encoders that teach each other (MGTA).

  python -m mgta_tf.train --flagfile=flags/quickstart.flagfile --workdir=runs/quickstart
  python -m mgta_tf.train --data_dir=PHOTOS --workdir=runs/mine --num_clusters=100

A run that was interrupted goes on where it was when the same command is given again.
"""

from __future__ import annotations

import dataclasses

from mgta_tf import cli
from mgta_tf.clustering import ClusterConfig
from mgta_tf.config import group
from mgta_tf.data.pipeline import AugmentConfig
from mgta_tf.data.sampler import BatchConfig
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import ImageStore, load_store
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.run import Run, RunConfig
from mgta_tf.runtime.strategy import DeviceConfig
from mgta_tf.runtime.workdir import Workdir, open_workdir
from mgta_tf.training import guidance
from mgta_tf.training.guidance import GuidanceConfig
from mgta_tf.training.losses import LossConfig
from mgta_tf.training.optimization import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run."""

    run: RunConfig = group(RunConfig)
    data: DataConfig = group(DataConfig)
    augment: AugmentConfig = group(AugmentConfig)
    model: ModelConfig = group(ModelConfig)
    loss: LossConfig = group(LossConfig)
    batch: BatchConfig = group(BatchConfig)
    guidance: GuidanceConfig = group(GuidanceConfig)
    cluster: ClusterConfig = group(ClusterConfig)
    optimizer: OptimizerConfig = group(OptimizerConfig)
    device: DeviceConfig = group(DeviceConfig)


def main(config: TrainConfig) -> None:
    workdir = open_workdir(config.run.workdir, config)
    store = open_images(config.data, config.augment, workdir)
    schedule = list(guidance.turns(config.guidance))
    run = Run(config, workdir, store, schedule)
    nets, labels = run.nets, run.labels
    first_turn, first_step = run.restore()

    # The algorithm: §3.4 and §4.2 as one sequence of GLPs and TMPs.
    for number, turn in enumerate(schedule[first_turn:], first_turn):
        images = guidance.images_of(turn, len(store), config.guidance, config.run.seed)
        if turn.process == "GLP":
            labels[turn.half] = run.cluster(turn, images, run.encode(nets[turn.net], images))
        else:
            start = first_step if number == first_turn else 0
            run.fit(number, nets[turn.net], images, labels.get(turn.half), start)
            if turn.stage == "iae":
                run.copy(nets[0], nets[1])
        run.finish(number)
    run.report()


def open_images(data: DataConfig, augment: AugmentConfig, workdir: Workdir) -> ImageStore:
    """Finds the images, checks each of them once, says what was found."""
    store = load_store(
        open_source(data),
        size=data.load_size or augment.image_size,
        policy=data.resize_policy,
        cache_budget_mb=data.cache_budget_mb,
        max_bad_fraction=data.max_bad_fraction,
        max_pixels=data.max_image_pixels,
        skipped_file=workdir.skipped,
    )
    where = "in memory" if store.pixels is not None else "read as they are needed"
    print(
        f"{store.format}: {len(store)} images of {store.size} px, {where}; "
        f"{len(store.skipped)} skipped",
        flush=True,
    )
    return store


if __name__ == "__main__":
    cli.run(main, TrainConfig)
