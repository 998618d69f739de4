"""The encoder E of Table 1: ResNet-50 without its classifier."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.models.layers import batch_norm, bottleneck, convolution

keras = tf.keras

ENDPOINTS = ("res2", "res3", "res4", "res5", "embedding")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Networks (Table 1)."""

    width: float = flag(
        1.0,
        "Channel multiplier of encoder and decoder; 1 is ResNet-50. auto: 1 on a GPU, or where "
        "training takes ten minutes at most; else 0.25, with two blocks per stage.",
        minimum=0.05,
        auto="auto",
    )
    blocks: tuple[int, ...] = flag(
        (3, 4, 6, 3),
        "Residual blocks in res2, res3, res4 and res5; the decoder mirrors them. auto: as --width.",
        auto="auto",
    )
    decoder: str = flag(
        "none",
        "Decoder. none: no decoder and no reconstruction, which halves the cost of a step; mirror: "
        "Table 1's mirrored encoder with transposed convolutions; resize_conv: upsampling and "
        "plain convolutions, free of checkerboard artifacts; light: one block per stage (future "
        "work, §5, second point).",
        choices=("none", "mirror", "resize_conv", "light"),
    )
    sync_batch_norm: bool = flag(
        True,
        "Batch norm statistics over all replicas; no effect on a single device.",
        advanced=True,
    )

    def __post_init__(self):
        if len(self.blocks) != 4 or min(self.blocks) < 1:
            raise UserError(f"--blocks={self.blocks}: must be four positive integers")

    def channels(self, full: int) -> int:
        """Channels of a layer that has `full` in the full-size network."""
        return max(4, round(full * self.width))


def build_encoder(config: ModelConfig) -> tf.keras.Model:
    """The encoder as a functional model.

    Input: normalized images [N, H, W, 3], any H and W from 32. Output, by name, with w = width:

      res2       [N, H/4,  W/4,  256w]   conv2_x
      res3       [N, H/8,  W/8,  512w]   conv3_x
      res4       [N, H/16, W/16, 1024w]  conv4_x: input of the linear SVMs of §4.1.2
      res5       [N, H/32, W/32, 2048w]  conv5_x: input of the decoder
      embedding  [N, 2048w]              global average of res5: f(x) of eq. 3

    The endpoints res2 … res5 are taken after the last ReLU of their stage.
    """
    sync = config.sync_batch_norm and tf.distribute.get_strategy().num_replicas_in_sync > 1
    images = keras.Input((None, None, 3), name="images")
    x = convolution(images, config.channels(64), 7, 2, "conv1_conv")
    x = batch_norm(x, "conv1_bn", synchronized=sync)
    x = keras.layers.ReLU(name="conv1")(x)
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)

    endpoints = {}
    for stage, (blocks, inner) in enumerate(zip(config.blocks, (64, 128, 256, 512)), start=2):
        for block in range(1, blocks + 1):
            x = bottleneck(
                x,
                inner=config.channels(inner),
                outer=config.channels(4 * inner),
                stride=2 if block == 1 and stage > 2 else 1,
                name=f"res{stage}_block{block}",
                synchronized=sync,
                output_name=f"res{stage}" if block == blocks else None,
            )
        endpoints[f"res{stage}"] = x
    average = keras.layers.GlobalAveragePooling2D(name="embedding", dtype=keras.backend.floatx())
    endpoints["embedding"] = average(x)
    return keras.Model(images, endpoints, name="encoder")
