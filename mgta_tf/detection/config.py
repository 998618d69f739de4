"""Settings of the detector, by default those of the paper's reference on VOC2007 (protocols §3a).

Nothing here imports TensorFlow or Model Garden, so `python -m mgta_tf.detect --help` does not.
"""

from __future__ import annotations

import dataclasses

from mgta_tf.config import flag, group
from mgta_tf.errors import UserError

STRIDE = 16  # of res4
REFERENCE_BATCH = 4  # images a step that the learning rate is given for
TRAIN_SETS = {"voc07": ("2007_trainval",), "voc0712": ("2007_trainval", "2012_trainval")}
TEST_SET = "2007_test"


@dataclasses.dataclass(frozen=True)
class DetectRunConfig:
    """The run."""

    workdir: str = flag("", "Folder for everything that the run leaves; resumes what it holds.")
    saved_model: str = flag("", "The encoder, as mgta_tf.export wrote it.")
    eval_only: bool = flag(
        False, "Judge the newest checkpoint of --workdir again, with the flags of its run."
    )
    image: str = flag(
        "", "Draw the boxes that the detector of --workdir finds in a photograph, as PNG beside it."
    )
    min_score: float = flag(
        0.5, "Boxes of --image and of the sheet are drawn from this score.", minimum=0.0
    )
    seed: int = flag(1, "Of the new layers, the order of the images, the samples.", minimum=0)
    log_every_steps: int = flag(100, "Steps between two points of a curve.", minimum=1)
    checkpoint_every_steps: int = flag(1000, "Steps between checkpoints.", minimum=1)
    keep: int = flag(2, "Checkpoints that are kept.", minimum=1)


@dataclasses.dataclass(frozen=True)
class VocConfig:
    """Data."""

    voc_root: str = flag("", "VOCdevkit.")
    records: str = flag(
        "",
        "Folder of mgta_tf.make_voc_tfrecord. By default `records` in --workdir, made from "
        "--voc_root.",
    )
    train_set: str = flag(
        "voc07",
        "trainval of VOC2007, or of VOC2007 and VOC2012. The test is VOC2007's.",
        choices=tuple(TRAIN_SETS),
    )


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """Detector (protocols §3a)."""

    width: float = flag(0.0, "The encoder must have this --width; 0 takes any.", minimum=0.0)
    short_side: int = flag(
        600, "Pixels of an image's short side, in training and test.", minimum=32
    )
    long_side: int = flag(1000, "Pixels that the long side may have at most.", minimum=32)
    anchor_sizes: tuple[int, ...] = flag(
        (64, 128, 256, 512), "Sides of the square anchors, in pixels; each also as 1:2 and 2:1."
    )
    rpn_candidates: int = flag(12000, "Best anchors of an image before NMS, training.", minimum=1)
    rpn_proposals: int = flag(2000, "Proposals of an image after NMS, training.", minimum=1)
    test_rpn_candidates: int = flag(2000, "Best anchors of an image before NMS, test.", minimum=1)
    test_rpn_proposals: int = flag(1000, "Proposals of an image after NMS, test.", minimum=1)
    rpn_samples: int = flag(256, "Anchors of an image that the RPN learns from.", minimum=2)
    roi_samples: int = flag(64, "Proposals of an image that the RoI head learns from.", minimum=4)
    roi_size: int = flag(
        14,
        "Cells per side that a proposal is cropped to for res5. 14 is what res5 reads of an image "
        "of 224 px; an encoder that was trained on smaller ones wants fewer.",
        minimum=2,
    )

    def __post_init__(self):
        if self.long_side < self.short_side:
            raise UserError(f"--long_side={self.long_side}: less than --short_side")
        if not self.anchor_sizes or min(self.anchor_sizes) < 1:
            raise UserError(f"--anchor_sizes={self.anchor_sizes}: must be positive integers")

    @property
    def padded_side(self) -> int:
        """Pixels per side of the square that every image is padded to: a multiple of the stride."""
        return -(-self.long_side // STRIDE) * STRIDE


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Schedule (protocols §3a)."""

    steps: int = flag(50000, "Training steps.", minimum=1)
    decay_step: int = flag(38000, "Step from which the learning rate is a tenth.", minimum=1)
    batch_size: int = flag(4, "Images in a step.", minimum=1)
    base_learning_rate: float = flag(
        2e-3, "For 4 images a step; scaled linearly with --batch_size.", minimum=0.0
    )
    warmup_steps: int = flag(500, "Steps of linear warm-up from a third.", minimum=0)
    weight_decay: float = flag(5e-4, "L2, of kernels only.", minimum=0.0)

    @property
    def learning_rate(self) -> float:
        return self.base_learning_rate * self.batch_size / REFERENCE_BATCH


@dataclasses.dataclass(frozen=True)
class CacheConfig:
    """Features of the frozen body."""

    cache_body_features: str = flag(
        "auto",
        "Compute the body's features of every training image and its flip once, and keep them on "
        "disk as bfloat16. auto: in --workdir, if they fit; off; or a folder, which several runs "
        "may share.",
    )
    cache_budget_gb: float = flag(100.0, "Largest size of these files, in GB.", minimum=0.0)


@dataclasses.dataclass(frozen=True)
class DetectConfig:
    """Everything that decides a run."""

    run: DetectRunConfig = group(DetectRunConfig)
    voc: VocConfig = group(VocConfig)
    detector: DetectorConfig = group(DetectorConfig)
    schedule: ScheduleConfig = group(ScheduleConfig)
    cache: CacheConfig = group(CacheConfig)
