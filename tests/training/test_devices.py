"""GPU support, checked without a GPU: TensorFlow's registry of kernels, graphs, placements."""

import dataclasses
import itertools
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from mgta_tf.data.pipeline import AugmentConfig, Feed
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.runtime.workdir import load_config
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.learner import Learner
from mgta_tf.training.losses import LossConfig
from mgta_tf.training.optimization import OptimizerConfig

ON_GPU = ("GPU", "DEFAULT")  # DEFAULT: one kernel for every device
BY_XLA = ("XLA_GPU_JIT",)
FUNCTION_BORDERS = ("_Arg", "_Retval", "Placeholder")
ON_HOST = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


class Store:
    size = 32

    def __init__(self):
        self.pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3)).astype(np.uint8)


AUGMENT = AugmentConfig(
    image_size=32, crop_min_area=0.2, color_jitter=0.4, grayscale=0.2, hidden_share=0.2
)
LOSS, CLIPPED = LossConfig(), OptimizerConfig(clip_norm=1.0)
PAPER = load_config(
    str(pathlib.Path(__file__).parents[2] / "flags" / "paper.flagfile"), TrainConfig
)


def step_of(mixed="off", jit=False, decoder="none", augment=AUGMENT, loss=LOSS, optimizer=CLIPPED):
    """The graph of a training step, by default with all augmentations."""
    strategy = tf.distribute.get_strategy()
    model = ModelConfig(width=0.0625, blocks=(1, 1, 1, 1), decoder=decoder)
    augment = dataclasses.replace(augment, image_size=32)
    net = Learner(strategy, model, augment, loss, optimizer, 1, mixed, jit)
    plan = np.arange(16, dtype=np.int32).reshape(1, 16)
    labels = np.repeat(np.arange(4, dtype=np.int32), 4)
    batch = next(Feed(Store(), 16, strategy).batches(plan, labels, [1]))
    return net._train_step.get_concrete_function(batch, tf.constant(0.5))


def operations(function):
    """Every node of the graph and of the functions that it calls."""
    graph = function.graph.as_graph_def()
    return [*graph.node, *itertools.chain(*(f.node_def for f in graph.library.function))]


def has_kernel(node, devices):
    """Whether a kernel for one of these types of device takes the node's types."""
    return any(
        kernel.device_type in devices
        and all(
            node.attr[limit.name].type in limit.allowed_values.list.type
            for limit in kernel.constraint
            if node.attr[limit.name].type
        )
        for kernel in kernels.get_registered_kernels_for_op(node.op).kernel
    )


def without_kernel(function, devices=ON_GPU):
    functions = {f.signature.name for f in function.graph.as_graph_def().library.function}
    return {
        node.op
        for node in operations(function)
        if node.op not in {*functions, *FUNCTION_BORDERS} and not has_kernel(node, devices)
    }


pytestmark = pytest.mark.skipif(
    not tf.test.is_built_with_cuda(), reason="this TensorFlow was built without kernels for GPUs"
)


OTHER_LOSS = LossConfig(triplet_positive="random", triplet_negative="soft", soft_margin=True)
STEPS = {
    "default": dict(decoder="none", mixed="bfloat16"),
    "light": dict(decoder="light", mixed="float16"),  # the layers of `mirror`
    "resize_conv": dict(decoder="resize_conv", mixed="bfloat16", loss=OTHER_LOSS),
    "paper": dict(
        decoder=PAPER.model.decoder,
        mixed=PAPER.device.mixed_precision,
        augment=PAPER.augment,
        loss=PAPER.loss,
        optimizer=PAPER.optimizer,
    ),
}
LAST_LAYER = {  # of each decoder
    "none": set(),
    "mirror": {"DepthToSpace"},
    "light": {"DepthToSpace"},
    "resize_conv": {"ResizeNearestNeighborGrad"},
}


@pytest.mark.parametrize("name", STEPS)
def test_every_operation_of_a_training_step_has_a_gpu_kernel(name):
    step = step_of(**STEPS[name])
    used = {node.op for node in operations(step)}
    assert {"Conv2D", "Conv2DBackpropFilter", "FusedBatchNormV3", "ResourceApplyAdam"} <= used
    assert used & set().union(*LAST_LAYER.values()) == LAST_LAYER[STEPS[name]["decoder"]]
    assert without_kernel(step) == set()
    assert used.isdisjoint(ON_HOST)


def test_an_operation_without_a_gpu_kernel_is_found():
    @tf.function
    def on_host(x):
        return tf.numpy_function(np.sin, [x], tf.float32) + tf.strings.to_number(["1"])

    found = without_kernel(on_host.get_concrete_function(tf.constant(1.0)))
    assert found & set(ON_HOST)
    assert "StringToNumber" in found


def test_xla_must_compile_forward_and_backward_pass():
    """XLA must compile them without a fallback; test_learner.py runs the compiled step."""
    step = step_of(jit=True)
    library = step.graph.as_graph_def().library.function
    compiled = [function for function in library if function.attr["_XlaMustCompile"].b]
    found = {node.op for function in compiled for node in function.node_def}
    assert {"Conv2D", "Conv2DBackpropFilter", "FusedBatchNormGradV3"} <= found
    assert without_kernel(step, BY_XLA) == {"CropAndResize"}  # why the augmentation is not inside


@pytest.mark.parametrize("devices", [["CPU:1"], ["CPU:0", "CPU:1"]])
def test_batches_are_on_the_devices_before_the_step(devices):
    strategy = tf.distribute.MirroredStrategy(devices)
    plan = np.arange(16, dtype=np.int32).reshape(2, 8)
    batches = Feed(Store(), 8, strategy).batches(plan, np.zeros(16, np.int32), [1])
    for batch in batches:
        for values in batch:
            placed = [v.device for v in strategy.experimental_local_results(values)]
            assert [place.rpartition("device:")[2] for place in placed] == devices
