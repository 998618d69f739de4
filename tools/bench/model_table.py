"""Prints parameters and FLOPs of the auto-encoder by size: the table of BUILD.md.

  python -m tools.bench.model_table

A multiply-add counts as two. A training step costs about three times the forward pass.
"""

from __future__ import annotations

import contextlib
import io
import logging

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2_as_graph,
)

from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ModelConfig

NETS = (
    ("full size (the paper's)", ModelConfig(decoder="mirror"), (32, 64, 96, 224)),
    ("half width", ModelConfig(width=0.5, decoder="mirror"), (64,)),
    ("small model", ModelConfig(width=0.25, blocks=(2, 2, 2, 2), decoder="mirror"), (32, 64)),
)


def gigaflops(model: tf.keras.Model, size: int) -> float:
    """FLOPs of a forward pass on one image [size, size, 3], in 10⁹."""
    specification = tf.TensorSpec([1, size, size, 3], tf.float32)
    concrete = tf.function(lambda x: model(x, training=False)).get_concrete_function(specification)
    frozen, graph_def = convert_variables_to_constants_v2_as_graph(concrete)
    del frozen
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
        options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
        options["output"] = "none"
        with contextlib.redirect_stdout(io.StringIO()):
            counted = tf.compat.v1.profiler.profile(graph, options=options)
    return counted.total_float_ops / 1e9


def main() -> None:
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    print("| net | `--width` | `--blocks` | encoder | decoder | image | forward, GFLOP |")
    print("|---|---|---|---|---|---|---|")
    for name, config, sizes in NETS:
        model = build_autoencoder(config)
        blocks = ",".join(map(str, config.blocks))
        counts = [f"{half.count_params() / 1e6:.2f} M" for half in (model.encoder, model.decoder)]
        for size in sizes:
            print(
                f"| {name} | {config.width:g} | {blocks} | {counts[0]} | {counts[1]} "
                f"| {size} px | {gigaflops(model, size):.2f} |"
            )


if __name__ == "__main__":
    main()
