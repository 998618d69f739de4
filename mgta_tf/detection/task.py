"""The detector as a Model Garden experiment: model, data, losses, metrics and schedule.

It is registered as `fasterrcnn_resnet50c4_voc07` and `fasterrcnn_resnet50c4_voc0712`, and uses
Model Garden's trainer, optimizer, schedule and checkpoints. Settings: docs/protocols.md §3a.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from official.core import config_definitions as cfg
from official.core import exp_factory, input_reader, task_factory
from official.modeling import optimization
from official.vision.configs import maskrcnn as maskrcnn_cfg
from official.vision.modeling.layers import (
    detection_generator,
    roi_aligner,
    roi_generator,
    roi_sampler,
)
from official.vision.modeling.maskrcnn_model import MaskRCNNModel
from official.vision.tasks.maskrcnn import MaskRCNNTask

from mgta_tf.data.voc import CLASSES
from mgta_tf.detection import cache, losses
from mgta_tf.detection.anchors import LEVEL, RATIOS, OctaveAnchor
from mgta_tf.detection.config import (
    BoxDataConfig,
    DetectConfig,
    DetectorConfig,
    ScheduleConfig,
)
from mgta_tf.detection.heads import FrozenBody, Res5Head, RpnHead
from mgta_tf.detection.parser import MAX_OBJECTS, Parser, decode
from mgta_tf.detection.records import contents, files_of
from mgta_tf.errors import UserError
from mgta_tf.evaluation.boxes import Detections
from mgta_tf.models import artifact

keras = tf.keras

LOSSES = ("total_loss", "rpn_score_loss", "rpn_box_loss", "roi_class_loss", "roi_box_loss")


@dataclasses.dataclass
class C4Task(maskrcnn_cfg.MaskRCNNTask):
    """Model Garden's task config with additional fields."""

    saved_model: str = ""  # of the encoder
    features: str = ""  # folder of cached features (mgta_tf.detection.cache), or ''
    encoder_width: float = 0.0  # 0 takes any
    short_side: int = 600
    long_side: int = 1000
    anchor_sizes: list[int] = dataclasses.field(default_factory=lambda: [64, 128, 256, 512])
    weight_decay: float = 5e-4
    max_objects: int = MAX_OBJECTS


def detector_of(config: C4Task) -> DetectorConfig:
    """The `DetectorConfig` of a task config, for the parser."""
    return DetectorConfig(
        short_side=config.short_side,
        long_side=config.long_side,
        anchor_sizes=tuple(config.anchor_sizes),
        rpn_samples=config.train_data.parser.rpn_batch_size_per_im,
    )


def build_detector(encoder: tf.keras.Model, normalization: str, config: C4Task) -> MaskRCNNModel:
    """Builds Model Garden's Faster R-CNN with C4 heads on an encoder, and its variables."""
    model_config = config.model
    body = FrozenBody(encoder, normalization)
    num_anchors = len(config.anchor_sizes) * len(RATIOS)
    model = MaskRCNNModel(
        backbone=body,
        decoder=None,
        rpn_head=RpnHead(body.channels, num_anchors),
        detection_head=Res5Head(encoder, model_config.num_classes),
        roi_generator=roi_generator.MultilevelROIGenerator(**model_config.roi_generator.as_dict()),
        roi_sampler=roi_sampler.ROISampler(
            mix_gt_boxes=model_config.roi_sampler.mix_gt_boxes,
            num_sampled_rois=model_config.roi_sampler.num_sampled_rois,
            foreground_fraction=model_config.roi_sampler.foreground_fraction,
        ),
        roi_aligner=roi_aligner.MultilevelROIAligner(**model_config.roi_aligner.as_dict()),
        detection_generator=detection_generator.DetectionGenerator(
            **model_config.detection_generator.as_dict()
        ),
        min_level=LEVEL,
        max_level=LEVEL,
    )
    side = config.model.input_size[0]
    anchors = OctaveAnchor(tuple(config.anchor_sizes), (side, side)).multilevel_boxes
    images = {"image": keras.Input((side, side, 3)), "shape": keras.Input((2,))}
    boxes = {level: keras.Input(box.shape) for level, box in anchors.items()}
    model(images, image_shape=keras.Input((2,)), anchor_boxes=boxes, training=False)
    add_weight_decay(model, config.weight_decay)
    return model


def add_weight_decay(model: tf.keras.Model, decay: float) -> None:
    """Adds decay/2 · Σ w² of every trainable kernel to `model.losses`; biases do not decay."""

    def penalty(kernel):
        return lambda: decay * tf.nn.l2_loss(kernel)

    if decay:
        for variable in model.trainable_variables:
            if len(variable.shape) > 1:
                model.add_loss(penalty(variable))


def double_biases(gradients: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Doubles the gradients of biases, and with SGD their learning rate, as in Detectron."""
    return [(g if len(v.shape) > 1 else 2 * g, v) for g, v in gradients]


@task_factory.register_task_cls(C4Task)
class FasterRcnnC4Task(MaskRCNNTask):
    """`MaskRCNNTask` with this package's model, data and losses, and VOC's average precision.

    on_detections: called with the `Detections` of an evaluation, labels from 0, boxes in VOC's
      pixels of the photograph; returns scalars for the logs.
    """

    def __init__(
        self,
        params: C4Task,
        logging_dir: str | None = None,
        name: str | None = None,
        on_detections: Callable[[Detections], dict[str, float]] = lambda found: {},
    ):
        super().__init__(params, logging_dir=logging_dir, name=name)
        self._on_detections = on_detections

    def build_model(self) -> tf.keras.Model:
        config = self.task_config
        encoder, facts = artifact.load_encoder(config.saved_model)
        if config.encoder_width and facts.model.width != config.encoder_width:
            raise UserError(
                f"{config.saved_model}: an encoder of --width={facts.model.width}, but the "
                f"detector's --width is {config.encoder_width}"
            )
        return build_detector(encoder, facts.normalization, config)

    def initialize(self, model: tf.keras.Model) -> None:
        """Loads nothing: the body and res5 already have the encoder's weights."""

    @classmethod
    def create_optimizer(cls, optimizer_config, runtime_config=None, dp_config=None):
        del runtime_config, dp_config
        factory = optimization.OptimizerFactory(optimizer_config)
        return factory.build_optimizer(
            factory.build_learning_rate(), gradient_transformers=[double_biases]
        )

    def build_inputs(self, params, input_context=None, dataset_fn=None):
        detector = detector_of(self.task_config)
        features = None
        if params.is_training and self.task_config.features:
            features = cache.open_features(self.task_config.features).lookup(detector)
        reader = input_reader.InputReader(
            params,
            dataset_fn=dataset_fn or tf.data.TFRecordDataset,
            decoder_fn=decode,
            parser_fn=Parser(detector, features, self.task_config.max_objects).parse_fn(
                params.is_training
            ),
        )
        return reader.read(input_context=input_context)

    def build_losses(self, outputs, labels, aux_losses=None):
        level = str(LEVEL)
        rpn_score, rpn_box = losses.rpn_losses(
            outputs["rpn_scores"][level],
            outputs["rpn_boxes"][level],
            labels["rpn_score_targets"][level],
            labels["rpn_box_targets"][level],
        )
        roi_class, roi_box = losses.roi_losses(
            outputs["class_outputs"],
            outputs["box_outputs"],
            outputs["class_targets"],
            outputs["box_targets"],
        )
        total = rpn_score + rpn_box + roi_class + roi_box + tf.add_n(aux_losses or [0.0])
        return dict(zip(LOSSES, (total, rpn_score, rpn_box, roi_class, roi_box)))

    def build_metrics(self, training: bool = True):
        if not training:
            return super().build_metrics(training=False)
        return [keras.metrics.Mean(name, dtype=tf.float32) for name in LOSSES]

    def aggregate_logs(self, state=None, step_outputs=None):
        """Collects the detections of a step, from all replicas, and feeds Model Garden's COCO."""
        super().aggregate_logs(state, step_outputs)
        _, predictions = step_outputs[self.coco_metric.name]
        batch = {
            name: np.concatenate([value.numpy() for value in replicas])
            for name, replicas in predictions.items()
        }
        return [*(state or []), batch]

    def reduce_aggregated_logs(self, aggregated_logs, global_step=None):
        logs = super().reduce_aggregated_logs({}, global_step)
        return {**logs, **self._on_detections(to_detections(aggregated_logs))}


def to_detections(batches: list[dict[str, np.ndarray]]) -> Detections:
    """Model Garden's predictions in VOC's pixels of the original photographs."""
    images, labels, corners, scores = [], [], [], []
    for batch in batches:
        boxes = batch["detection_boxes"] / np.tile(batch["image_info"][:, 2:3], (1, 1, 2))
        valid = np.arange(boxes.shape[1]) < batch["num_detections"][:, None]
        images.append(np.repeat(batch["source_id"], valid.sum(axis=1)))
        labels.append(batch["detection_classes"][valid] - 1)
        corners.append(boxes[valid][:, [1, 0, 3, 2]] + [1, 1, 0, 0])
        scores.append(batch["detection_scores"][valid])
    return Detections(*(np.concatenate(part) for part in (images, labels, corners, scores)))


def experiment(config: DetectConfig) -> cfg.ExperimentConfig:
    """Model Garden's experiment config for the flags, whose defaults follow the paper on VOC2007.

    Classes and sets are those of --records, or VOC's if no folder is given, as in a registered
    config.
    """
    detector, schedule, run = config.detector, config.schedule, config.run
    num_classes, max_objects, num_train = len(CLASSES), MAX_OBJECTS, 10_000
    train_files: list[str] = []
    test_files: list[str] = []
    if run.records:
        found = contents(run.records, config.data.train_set)
        num_classes = len(found.classes)
        max_objects = max(max_objects, found.most_objects)
        num_train = found.num_images(*found.train)  # size of the shuffle buffer
        train_files = files_of(run.records, found.train)
        test_files = files_of(run.records, (found.test,))
    task = C4Task(
        saved_model=run.saved_model,
        encoder_width=detector.width,
        short_side=detector.short_side,
        long_side=detector.long_side,
        anchor_sizes=list(detector.anchor_sizes),
        weight_decay=schedule.weight_decay,
        max_objects=max_objects,
        freeze_backbone=True,
        model=faster_rcnn(detector, num_classes, max_objects),
        train_data=maskrcnn_cfg.DataConfig(
            input_path=train_files,
            is_training=True,
            global_batch_size=schedule.batch_size,
            shuffle_buffer_size=num_train,
            dtype="float32",
            seed=run.seed,
            parser=maskrcnn_cfg.Parser(
                rpn_batch_size_per_im=detector.rpn_samples, aug_rand_hflip=True
            ),
        ),
        validation_data=maskrcnn_cfg.DataConfig(
            input_path=test_files,
            is_training=False,
            global_batch_size=schedule.batch_size,
            drop_remainder=False,
            dtype="float32",
        ),
    )
    return cfg.ExperimentConfig(
        task=task, trainer=trainer(schedule, run.log_every_steps, run.checkpoint_every_steps)
    )


def faster_rcnn(
    detector: DetectorConfig, num_classes: int, max_objects: int
) -> maskrcnn_cfg.MaskRCNN:
    """Faster R-CNN on res4 without masks, with up to `max_objects` detections per image."""
    side = detector.padded_side
    return maskrcnn_cfg.MaskRCNN(
        num_classes=num_classes + 1,  # 0 is the background
        input_size=[side, side, 3],
        min_level=LEVEL,
        max_level=LEVEL,
        include_mask=False,
        mask_head=None,
        mask_sampler=None,
        mask_roi_aligner=None,
        roi_generator=maskrcnn_cfg.ROIGenerator(
            pre_nms_top_k=detector.rpn_candidates,
            num_proposals=detector.rpn_proposals,
            test_pre_nms_top_k=detector.test_rpn_candidates,
            test_num_proposals=detector.test_rpn_proposals,
            nms_iou_threshold=0.7,
            test_nms_iou_threshold=0.7,
        ),
        roi_sampler=maskrcnn_cfg.ROISampler(
            num_sampled_rois=detector.roi_samples, foreground_fraction=0.25
        ),
        roi_aligner=maskrcnn_cfg.ROIAligner(crop_size=detector.roi_size),
        detection_generator=maskrcnn_cfg.DetectionGenerator(
            pre_nms_score_threshold=0.05,
            nms_iou_threshold=0.3,
            max_num_detections=max_objects,
            nms_version="batched",
        ),
    )


def trainer(schedule: ScheduleConfig, log_every: int, checkpoint_every: int) -> cfg.TrainerConfig:
    """Config of Model Garden's trainer: SGD with momentum 0.9, warm-up, one learning rate drop."""
    rate = schedule.learning_rate
    optimizer: dict[str, Any] = {
        "optimizer": {"type": "sgd", "sgd": {"momentum": 0.9}},
        "learning_rate": {
            "type": "stepwise",
            "stepwise": {"boundaries": [schedule.decay_step], "values": [rate, 0.1 * rate]},
        },
    }
    if schedule.warmup_steps:
        optimizer["warmup"] = {
            "type": "linear",
            "linear": {"warmup_steps": schedule.warmup_steps, "warmup_learning_rate": rate / 3},
        }
    return cfg.TrainerConfig(
        train_steps=schedule.steps,
        steps_per_loop=log_every,
        summary_interval=log_every,
        checkpoint_interval=checkpoint_every,
        validation_interval=schedule.steps,
        recovery_max_trials=-1,  # mgta_tf.detection.training stops a diverged run itself
        optimizer_config=optimization.OptimizationConfig(optimizer),
    )


@exp_factory.register_config_factory("fasterrcnn_resnet50c4_voc07")
def fasterrcnn_resnet50c4_voc07() -> cfg.ExperimentConfig:
    """Faster R-CNN C4 with a frozen body on VOC2007."""
    return experiment(DetectConfig())


@exp_factory.register_config_factory("fasterrcnn_resnet50c4_voc0712")
def fasterrcnn_resnet50c4_voc0712() -> cfg.ExperimentConfig:
    """Faster R-CNN C4 with a frozen body on VOC2007 and VOC2012."""
    return experiment(
        DetectConfig(
            data=BoxDataConfig(train_set="voc0712"),
            schedule=ScheduleConfig(steps=100000, decay_step=65000),
        )
    )
