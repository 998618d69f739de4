"""All flags of mgta_tf.train and mgta_tf.supervised."""

from __future__ import annotations

import dataclasses

from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.config import flag, group
from mgta_tf.data.pipeline import AugmentConfig
from mgta_tf.data.sampler import BatchConfig
from mgta_tf.data.sources import DataConfig
from mgta_tf.errors import UserError
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.runtime.strategy import DeviceConfig
from mgta_tf.training.guidance import GuidanceConfig
from mgta_tf.training.losses import LossConfig
from mgta_tf.training.optimization import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class RobustnessConfig:
    """Checkpoints, determinism and skipped steps."""

    checkpoint_every_steps: int = flag(
        0,
        "Steps between checkpoints, in addition to one after each turn or supervised epoch; 0 "
        "disables them.",
        minimum=0,
        advanced=True,
    )
    checkpoint_every_secs: float = flag(
        600.0, "Seconds between checkpoints, also within k-means.", minimum=0.0, advanced=True
    )
    keep: int = flag(2, "Number of checkpoints to keep.", minimum=1, advanced=True)
    deterministic: bool = flag(
        False,
        "Deterministic operations only: a resumed run ends with the same bits as an uninterrupted "
        "one. docs/robustness.md lists what may differ without this flag.",
        advanced=True,
    )
    max_skipped_steps: int = flag(
        10,
        "Maximum number of consecutive steps skipped because their loss or gradient is not finite; "
        "one more stops the run.",
        minimum=0,
        advanced=True,
    )


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The run."""

    workdir: str = flag("", "Output folder of the run; an existing run in it is resumed.")
    minutes: float = flag(
        0.0,
        "Time budget of the run: the speed is measured, then the epochs are planned that are not "
        "given; the encoder may be smaller. 0: no budget.",
        minimum=0.0,
    )
    seed: int = flag(1, "Random seed for weights, split, clusters and batches.", minimum=0)
    iae_checkpoint: str = flag(
        "",
        "Folder of a run whose IAE replaces stage 1 for both nets; two folders separated by a "
        "comma give each net its own.",
    )
    probe_every_rounds: int = flag(
        0,
        "Rounds between quick evaluations (linear SVMs and 20-NN) of the nets, also after "
        "stages 1 and 3; 0 disables them. Uses labelled images of the run, half to fit and half "
        "to test.",
        minimum=0,
    )
    log_every_steps: int = flag(
        0,
        "Steps between two points of a curve; 0 chooses them by the steps of a turn: 20 points, or "
        "one every 20 steps.",
        minimum=0,
        advanced=True,
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All flags of mgta_tf.train."""

    run: RunConfig = group(RunConfig)
    data: DataConfig = group(DataConfig)
    augment: AugmentConfig = group(AugmentConfig)
    model: ModelConfig = group(ModelConfig)
    loss: LossConfig = group(LossConfig)
    batch: BatchConfig = group(BatchConfig)
    guidance: GuidanceConfig = group(GuidanceConfig)
    cluster: ClusterConfig = group(ClusterConfig)
    optimizer: OptimizerConfig = group(OptimizerConfig)
    robustness: RobustnessConfig = group(RobustnessConfig)
    device: DeviceConfig = group(DeviceConfig)

    def __post_init__(self):
        stages, batch = self.guidance, self.batch
        if stages.labels == "none" and batch.views_per_image != batch.images_per_cluster:
            raise UserError(
                f"--labels=none with --views_per_image={batch.views_per_image}: all images of a "
                f"cluster are views of one; set it to --images_per_cluster="
                f"{batch.images_per_cluster}"
            )
        if stages.labels == "hard_negatives" and batch.views_per_image < 2:
            raise UserError(
                "--labels=hard_negatives with --views_per_image=1: the positive of an image is "
                "another view of it; set --views_per_image=2"
            )
        if stages.labels == "hard_negatives" and (
            self.cluster.clusterer == "hdbscan" or self.cluster.core_fraction < 1
        ):
            raise UserError(
                "--labels=hard_negatives needs a cluster for every image; give neither "
                "--clusterer=hdbscan nor --core_fraction"
            )
        if self.model.decoder == "none" and stages.iae_epochs and not self.run.iae_checkpoint:
            raise UserError(
                f"--iae_epochs={stages.iae_epochs} with --decoder=none: stage 1 trains by "
                "reconstruction; set --decoder=mirror, or --iae_epochs=0"
            )


@dataclasses.dataclass(frozen=True)
class SupervisedRunConfig:
    """The run."""

    workdir: str = flag("", "Output folder of the run; an existing run in it is resumed.")
    seed: int = flag(1, "Random seed for weights and batches.", minimum=0)
    epochs: int = flag(100, "Passes over the training images.", minimum=1)
    batch_size: int = flag(
        64,
        "Images per step. auto: 64, and at most a quarter of the images whose labels are used.",
        minimum=1,
        auto="auto",
    )
    init: str = flag(
        "",
        "SavedModel of mgta_tf.export to initialize the encoder from; empty starts from random "
        "weights.",
    )
    frozen_epochs: int = flag(
        0, "First epochs that train only the classifier on the frozen encoder.", minimum=0
    )
    label_fraction: float = flag(
        1.0,
        "Fraction of each class's images to train on, at least one; the others are treated as "
        "unlabelled.",
        minimum=0.0,
        maximum=1.0,
    )


@dataclasses.dataclass(frozen=True)
class SupervisedConfig:
    """All flags of mgta_tf.supervised."""

    run: SupervisedRunConfig = group(SupervisedRunConfig)
    data: DataConfig = group(DataConfig)
    augment: AugmentConfig = group(AugmentConfig)
    model: ModelConfig = group(ModelConfig)
    optimizer: OptimizerConfig = group(OptimizerConfig)
    robustness: RobustnessConfig = group(RobustnessConfig)
