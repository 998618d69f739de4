"""Flags of the detector; the defaults follow the paper on VOC2007 (docs/protocols.md §3a).

This module does not import TensorFlow or Model Garden, so `mgta_tf.detect --help` is fast.
"""

from __future__ import annotations

import dataclasses

from mgta_tf.config import flag, group
from mgta_tf.errors import UserError

STRIDE = 16  # of res4
REFERENCE_BATCH = 4  # images per step to which --learning_rate refers
TRAIN_SETS = {"voc07": ("2007_trainval",), "voc0712": ("2007_trainval", "2012_trainval")}
TEST_SET = "2007_test"
OWN_TRAIN_SETS, OWN_TEST_SET = ("train",), "test"  # names of the sets of other data
MANIFEST = "voc_records.json"  # describes the content of a folder of records


@dataclasses.dataclass(frozen=True)
class DetectRunConfig:
    """The run."""

    workdir: str = flag("", "Output folder of the run; an existing run in it is resumed.")
    saved_model: str = flag("", "SavedModel of the encoder, written by mgta_tf.export.")
    records: str = flag(
        "",
        "Folder written by mgta_tf.make_voc_tfrecord. Default: `records` in --workdir, made from "
        "--voc_root or --coco_root.",
    )
    eval_only: bool = flag(
        False,
        "Evaluation of the newest checkpoint in --workdir without training, with the run's own "
        "flags.",
    )
    image: str = flag(
        "",
        "Photograph on which to draw the detections of --workdir; the PNG is written next to it.",
    )
    min_score: float = flag(
        0.5, "Score above which boxes are drawn, for --image and for detections.png.", minimum=0.0
    )
    seed: int = flag(1, "Random seed for new layers, order of images and sampling.", minimum=0)
    log_every_steps: int = flag(
        100, "Steps between two points of a curve.", minimum=1, advanced=True
    )
    checkpoint_every_steps: int = flag(1000, "Steps between checkpoints.", minimum=1, advanced=True)
    keep: int = flag(2, "Number of checkpoints to keep.", minimum=1, advanced=True)


@dataclasses.dataclass(frozen=True)
class BoxDataConfig:
    """Data."""

    voc_root: str = flag(
        "",
        "Path of the VOCdevkit folder; or a folder of photographs with VOC's XML: images/ and "
        "annotations/, both in one folder, or either once for each split.",
    )
    coco_root: str = flag(
        "",
        "Folder of a COCO export (JSON and photographs), or its JSON; in place of --voc_root.",
    )
    train_set: str = flag(
        "voc07",
        "Training set of a VOCdevkit: trainval of VOC2007, or of VOC2007 and VOC2012. Its test set "
        "is always VOC2007's.",
        choices=tuple(TRAIN_SETS),
    )
    classes: str = flag(
        "",
        "Names of the classes to detect, separated by commas. By default VOC's 20 for a VOCdevkit "
        "that has no others, else those that occur.",
    )
    test_share: float = flag(
        0.0,
        "Share of the photographs to evaluate on, where the data have no val or test split; 0 is "
        "0.2. It does not depend on --seed.",
        minimum=0.0,
        maximum=0.9,
    )


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """Detector (docs/protocols.md §3a)."""

    width: float = flag(0.0, "Required --width of the encoder; 0 accepts any.", minimum=0.0)
    short_side: int = flag(
        600, "Length of an image's short side in pixels, in training and test.", minimum=32
    )
    long_side: int = flag(1000, "Maximum length of an image's long side in pixels.", minimum=32)
    anchor_sizes: tuple[int, ...] = flag(
        (64, 128, 256, 512), "Sides of the square anchors, in pixels; each also as 1:2 and 2:1."
    )
    rpn_candidates: int = flag(
        12000, "Anchors per image kept before NMS in training.", minimum=1, advanced=True
    )
    rpn_proposals: int = flag(
        2000, "Proposals per image kept after NMS in training.", minimum=1, advanced=True
    )
    test_rpn_candidates: int = flag(
        2000, "Anchors per image kept before NMS in test.", minimum=1, advanced=True
    )
    test_rpn_proposals: int = flag(
        1000, "Proposals per image kept after NMS in test.", minimum=1, advanced=True
    )
    rpn_samples: int = flag(
        256, "Anchors per image sampled for the RPN loss.", minimum=2, advanced=True
    )
    roi_samples: int = flag(
        64, "Proposals per image sampled for the RoI loss.", minimum=4, advanced=True
    )
    roi_size: int = flag(
        14,
        "Cells per side of a pooled RoI, the input of res5. 14 corresponds to images of 224 px; "
        "an encoder trained on smaller images needs fewer.",
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
    """Schedule (docs/protocols.md §3a)."""

    steps: int = flag(50000, "Number of training steps.", minimum=1)
    decay_step: int = flag(38000, "Step at which the learning rate drops to a tenth.", minimum=1)
    batch_size: int = flag(4, "Images per step.", minimum=1)
    base_learning_rate: float = flag(
        2e-3, "Learning rate for 4 images per step; scales linearly with --batch_size.", minimum=0.0
    )
    warmup_steps: int = flag(
        500, "Steps of linear warm-up, from a third of the learning rate.", minimum=0, advanced=True
    )
    weight_decay: float = flag(5e-4, "L2 weight decay of kernels.", minimum=0.0, advanced=True)

    @property
    def learning_rate(self) -> float:
        return self.base_learning_rate * self.batch_size / REFERENCE_BATCH


@dataclasses.dataclass(frozen=True)
class CacheConfig:
    """Features of the frozen body."""

    cache_body_features: str = flag(
        "auto",
        "Cache on disk for the body's features of all training images and their flips, as "
        "bfloat16. auto: in --workdir, if they fit; off: no cache; or a folder that several "
        "runs may share.",
    )
    cache_budget_gb: float = flag(
        100.0, "Size limit of the feature cache in GB.", minimum=0.0, advanced=True
    )


@dataclasses.dataclass(frozen=True)
class DetectConfig:
    """All flags of mgta_tf.detect."""

    run: DetectRunConfig = group(DetectRunConfig)
    data: BoxDataConfig = group(BoxDataConfig)
    detector: DetectorConfig = group(DetectorConfig)
    schedule: ScheduleConfig = group(ScheduleConfig)
    cache: CacheConfig = group(CacheConfig)
