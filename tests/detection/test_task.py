"""The registered experiments and the optimizer follow docs/protocols.md §3a."""

import numpy as np
import pytest
import tensorflow as tf
from official.core import exp_factory, task_factory

from mgta_tf.detection.config import DetectConfig, ScheduleConfig
from mgta_tf.detection.task import FasterRcnnC4Task, to_detections, trainer
from mgta_tf.errors import UserError


def test_the_registered_experiment_has_the_papers_settings():
    params = exp_factory.get_exp_config("fasterrcnn_resnet50c4_voc07")
    model, trained = params.task.model, params.task.train_data
    assert model.num_classes == 21
    assert model.input_size == [1008, 1008, 3]
    assert (params.task.short_side, params.task.long_side) == (600, 1000)
    assert params.task.anchor_sizes == [64, 128, 256, 512]
    rpn = model.roi_generator
    assert (rpn.pre_nms_top_k, rpn.num_proposals, rpn.nms_iou_threshold) == (12000, 2000, 0.7)
    assert (rpn.test_pre_nms_top_k, rpn.test_num_proposals) == (2000, 1000)
    assert trained.parser.rpn_batch_size_per_im == 256
    assert (trained.parser.rpn_match_threshold, trained.parser.rpn_unmatched_threshold) == (
        0.7,
        0.3,
    )
    assert trained.parser.rpn_fg_fraction == 0.5
    rois = model.roi_sampler
    assert (rois.num_sampled_rois, rois.foreground_fraction) == (64, 0.25)
    assert (rois.foreground_iou_threshold, rois.background_iou_high_threshold) == (0.5, 0.5)
    assert rois.background_iou_low_threshold == 0
    assert model.roi_aligner.crop_size == 14
    test = model.detection_generator
    assert (test.pre_nms_score_threshold, test.nms_iou_threshold) == (0.05, 0.3)
    assert test.max_num_detections == 100
    assert params.trainer.train_steps == 50000
    assert trained.global_batch_size == 4
    assert params.task.weight_decay == 5e-4
    task = task_factory.get_task(params.task)
    assert isinstance(task, FasterRcnnC4Task)


@pytest.mark.parametrize(("name", "decay"), [("voc07", 38000), ("voc0712", 65000)])
def test_the_learning_rate_warms_up_from_a_third_and_falls_once(name, decay):
    params = exp_factory.get_exp_config(f"fasterrcnn_resnet50c4_{name}")
    rate = FasterRcnnC4Task.create_optimizer(params.trainer.optimizer_config).learning_rate
    found = [float(rate(step)) for step in (0, 250, 500, decay - 1, decay + 1)]
    assert found == pytest.approx([2e-3 / 3, 2e-3 * 2 / 3, 2e-3, 2e-3, 2e-4], rel=1e-3)


def test_the_learning_rate_scales_with_the_batch():
    assert ScheduleConfig(batch_size=16).learning_rate == pytest.approx(8e-3)


def test_biases_have_twice_the_learning_rate():
    params = trainer(ScheduleConfig(warmup_steps=0), 1, 1)
    optimizer = FasterRcnnC4Task.create_optimizer(params.optimizer_config)
    kernel, bias = tf.Variable([[1.0, 2.0]]), tf.Variable([1.0, 2.0])
    gradients = [(tf.constant([[1.0, 1.0]]), kernel), (tf.constant([1.0, 1.0]), bias)]
    for _ in range(2):  # velocities 1 and 1 + 0.9
        optimizer.apply_gradients(gradients)
    assert 1 - kernel.numpy()[0, 0] == pytest.approx(2e-3 * 2.9, rel=1e-3)
    assert 1 - bias.numpy()[0] == pytest.approx(2 * 2e-3 * 2.9, rel=1e-3)


def test_predictions_are_mapped_back_to_the_photograph():
    batch = {
        "detection_boxes": np.array([[[20, 10, 80, 60], [0, 0, 0, 0]]], np.float32),
        "detection_classes": np.array([[3, 1]]),
        "detection_scores": np.array([[0.9, 0.0]], np.float32),
        "num_detections": np.array([1]),
        "image_info": np.array([[[50, 50], [100, 200], [2, 4], [0, 0]]], np.float32),
        "source_id": np.array([77]),
    }
    found = to_detections([batch, batch])
    # Edges x 10 … 60 at scale 4 are 2.5 … 15; VOC's first pixel is 1 and ends are included.
    assert found.box.tolist() == [[3.5, 11, 15, 40]] * 2
    assert found.label.tolist() == [2, 2]
    assert found.image.tolist() == [77, 77]


def test_an_encoder_of_another_width_is_refused(saved_model):
    params = exp_factory.get_exp_config("fasterrcnn_resnet50c4_voc07").task
    params.saved_model, params.encoder_width = saved_model, 1.0
    with pytest.raises(UserError, match=r"an encoder of --width=0.0625, but .* --width is 1.0"):
        FasterRcnnC4Task(params).build_model()


def test_the_flags_default_to_the_paper():
    config = DetectConfig()
    assert (config.schedule.steps, config.schedule.decay_step) == (50000, 38000)
    assert config.data.train_set == "voc07"
