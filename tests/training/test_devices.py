"""GPU support, checked without a GPU: TensorFlow's registry of kernels, graphs, placements."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

from mgta_tf.data.pipeline import AugmentConfig, Feed
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.training.learner import Learner
from mgta_tf.training.losses import LossConfig
from mgta_tf.training.optimization import OptimizerConfig

ON_GPU = ("GPU", "DEFAULT")  # DEFAULT: one kernel for every device
FUNCTION_BORDERS = ("_Arg", "_Retval", "Placeholder")
ON_HOST = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


class Store:
    size = 32

    def __init__(self):
        self.pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3)).astype(np.uint8)


def step_of(mixed="off", jit=False):
    """The graph of a training step with all augmentations."""
    strategy = tf.distribute.get_strategy()
    augment = AugmentConfig(
        image_size=32, crop_min_area=0.2, color_jitter=0.4, grayscale=0.2, hidden_share=0.2
    )
    model = ModelConfig(width=0.0625, blocks=(1, 1, 1, 1))
    optimizer = OptimizerConfig(clip_norm=1.0)
    net = Learner(strategy, model, augment, LossConfig(), optimizer, 1, mixed, jit)
    plan = np.arange(16, dtype=np.int32).reshape(1, 16)
    labels = np.repeat(np.arange(4, dtype=np.int32), 4)
    batch = next(Feed(Store(), 16, strategy).batches(plan, labels, [1]))
    return net._train_step.get_concrete_function(batch, tf.constant(0.5))


def operations(function):
    """Every node of the graph and of the functions that it calls."""
    graph = function.graph.as_graph_def()
    return [*graph.node, *itertools.chain(*(f.node_def for f in graph.library.function))]


def has_gpu_kernel(node):
    """Whether a kernel for GPUs takes the node's types."""
    return any(
        kernel.device_type in ON_GPU
        and all(
            node.attr[limit.name].type in limit.allowed_values.list.type
            for limit in kernel.constraint
            if node.attr[limit.name].type
        )
        for kernel in kernels.get_registered_kernels_for_op(node.op).kernel
    )


def without_gpu_kernel(function):
    functions = {f.signature.name for f in function.graph.as_graph_def().library.function}
    return {
        node.op
        for node in operations(function)
        if node.op not in functions and node.op not in FUNCTION_BORDERS and not has_gpu_kernel(node)
    }


pytestmark = pytest.mark.skipif(
    not tf.test.is_built_with_cuda(), reason="this TensorFlow was built without kernels for GPUs"
)


@pytest.mark.parametrize("mixed", ["off", "bfloat16", "float16"])
def test_every_operation_of_a_training_step_has_a_gpu_kernel(mixed):
    step = step_of(mixed)
    used = {node.op for node in operations(step)}
    assert {"Conv2D", "Conv2DBackpropFilter", "FusedBatchNormV3", "ResourceApplyAdam"} <= used
    assert without_gpu_kernel(step) == set()
    assert used.isdisjoint(ON_HOST)


def test_an_operation_without_a_gpu_kernel_is_found():
    @tf.function
    def on_host(x):
        return tf.numpy_function(np.sin, [x], tf.float32) + tf.strings.to_number(["1"])

    found = without_gpu_kernel(on_host.get_concrete_function(tf.constant(1.0)))
    assert found & set(ON_HOST)
    assert "StringToNumber" in found


def test_xla_must_compile_forward_and_backward_pass():
    """XLA must compile them without a fallback; test_learner.py runs the compiled step."""
    graph = step_of(jit=True).graph.as_graph_def()
    compiled = [f for f in graph.library.function if f.attr["_XlaMustCompile"].b]
    found = {node.op for function in compiled for node in function.node_def}
    assert {"Conv2D", "Conv2DBackpropFilter", "FusedBatchNormGradV3"} <= found


@pytest.mark.parametrize("devices", [["CPU:1"], ["CPU:0", "CPU:1"]])
def test_batches_are_on_the_devices_before_the_step(devices):
    strategy = tf.distribute.MirroredStrategy(devices)
    plan = np.arange(16, dtype=np.int32).reshape(2, 8)
    batches = Feed(Store(), 8, strategy).batches(plan, np.zeros(16, np.int32), [1])
    for batch in batches:
        for values in batch:
            placed = [v.device for v in strategy.experimental_local_results(values)]
            assert [place.rpartition("device:")[2] for place in placed] == devices
