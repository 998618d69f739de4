"""The configs of mgta_tf.train and mgta_tf.supervised: everything that decides a run."""

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

DETERMINISTIC = (
    "TensorFlow's deterministic operations only: a run that was interrupted ends with the bits of "
    "one that was not. docs/robustness.md says what may differ without it."
)
MAX_SKIPPED_STEPS = (
    "Steps in a row that may be left out because their loss or gradient is not finite, before the "
    "run stops."
)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The run."""

    workdir: str = flag("", "Folder for everything that the run leaves; resumes what it holds.")
    seed: int = flag(1, "Of the weights, the split, the clusters, the batches.", minimum=0)
    iae_checkpoint: str = flag(
        "",
        "Folder of a run whose IAE both nets start from, in place of stage 1; two folders, with a "
        "comma between them, give each net its own.",
    )
    checkpoint_every_steps: int = flag(
        0,
        "Steps between checkpoints within a turn; there is one after each turn. 0: none.",
        minimum=0,
    )
    checkpoint_every_secs: float = flag(
        600.0, "Seconds between checkpoints within a turn, and within a k-means.", minimum=0.0
    )
    keep: int = flag(2, "Checkpoints that are kept.", minimum=1)
    deterministic: bool = flag(False, DETERMINISTIC)
    max_skipped_steps: int = flag(10, MAX_SKIPPED_STEPS, minimum=0)
    probe_every_rounds: int = flag(
        0,
        "Judge a net by SVM and 20-NN when it has trained, every so many rounds and after stages 1 "
        "and 3; 0 never. On labelled images of the run, half to fit and half to test.",
        minimum=0,
    )
    log_every_steps: int = flag(20, "Steps between two points of a curve.", minimum=1)


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

    def __post_init__(self):
        stages, batch = self.guidance, self.batch
        if stages.labels == "none" and batch.views_per_image != batch.images_per_cluster:
            raise UserError(
                f"--labels=none with --views_per_image={batch.views_per_image}: all images of a "
                f"cluster are views of one; set it to --images_per_cluster="
                f"{batch.images_per_cluster}"
            )
        if self.model.decoder == "none" and stages.iae_epochs and not self.run.iae_checkpoint:
            raise UserError(
                f"--decoder=none with --iae_epochs={stages.iae_epochs}: stage 1 trains by "
                "reconstruction; set --iae_epochs=0, or choose another --decoder"
            )


@dataclasses.dataclass(frozen=True)
class SupervisedRunConfig:
    """The run."""

    workdir: str = flag("", "Folder for everything that the run leaves; resumes what it holds.")
    seed: int = flag(1, "Of the weights and the batches.", minimum=0)
    epochs: int = flag(100, "Passes over the images.", minimum=1)
    batch_size: int = flag(64, "Images in a step.", minimum=1)
    init: str = flag(
        "", "SavedModel of mgta_tf.export whose encoder the training starts from; none: random."
    )
    frozen_epochs: int = flag(
        0, "First epochs in which only the classifier trains, on frozen features.", minimum=0
    )
    label_fraction: float = flag(
        1.0,
        "Share of each class's images that is used, at least one; the others count as unlabelled.",
        minimum=0.0,
        maximum=1.0,
    )
    checkpoint_every_steps: int = flag(
        0, "Steps between checkpoints within an epoch; there is one after each. 0: none.", minimum=0
    )
    checkpoint_every_secs: float = flag(
        600.0, "Seconds between checkpoints within an epoch.", minimum=0.0
    )
    keep: int = flag(2, "Checkpoints that are kept.", minimum=1)
    deterministic: bool = flag(False, DETERMINISTIC)
    max_skipped_steps: int = flag(10, MAX_SKIPPED_STEPS, minimum=0)


@dataclasses.dataclass(frozen=True)
class SupervisedConfig:
    """Everything that decides a run."""

    run: SupervisedRunConfig = group(SupervisedRunConfig)
    data: DataConfig = group(DataConfig)
    augment: AugmentConfig = group(AugmentConfig)
    model: ModelConfig = group(ModelConfig)
    optimizer: OptimizerConfig = group(OptimizerConfig)
