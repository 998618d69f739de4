"""The decoder D of Table 1: the encoder mirrored, with transposed convolutions."""

from __future__ import annotations

import tensorflow as tf

from mgta_tf.models.encoder import ModelConfig
from mgta_tf.models.layers import ImageTransposed, bottleneck

keras = tf.keras


def build_decoder(config: ModelConfig) -> tf.keras.Model:
    """The decoder as a functional model: res5 [N, h, w, 2048w] → images [N, 32h, 32w, 3], linear.

    The stages mirror those of the encoder in reverse order, with 3, 6, 4 and 3 blocks. The last
    block of a stage has the channels of the next stage and, where the mirrored stage halves the
    resolution, doubles it; the other blocks change neither:

      stage  mirrors  blocks  inner  channels      resolution
      up5    conv5_x  3       512    2048 → 1024   h  → 2h
      up4    conv4_x  6       256    1024 → 512    2h → 4h
      up3    conv3_x  4       128    512 → 256     4h → 8h
      up2    conv2_x  3       64     256 → 64      8h (conv2_x has no stride)

    Then "interpolate, scale factor 2" mirrors the max pool (16h), and a transposed 8×8 convolution
    of stride 2 mirrors conv1 (32h). Its 'same' padding equals Table 1's "padding 3".

    `--decoder=light` has one block per stage. `--decoder=resize_conv` replaces each transposed
    convolution by repeating pixels and a plain convolution, 7×7 in the last layer as in conv1.
    """
    kind = "resize" if config.decoder == "resize_conv" else "transposed"
    depth = (1, 1, 1, 1) if config.decoder == "light" else config.blocks
    sync = config.sync_batch_norm and tf.distribute.get_strategy().num_replicas_in_sync > 1
    features = keras.Input((None, None, config.channels(2048)), name="res5")
    x = features
    after = {5: 1024, 4: 512, 3: 256, 2: 64}
    for stage, blocks in zip((5, 4, 3, 2), reversed(depth)):
        inner = 64 * 2 ** (stage - 2)
        for block in range(1, blocks + 1):
            last = block == blocks
            x = bottleneck(
                x,
                inner=config.channels(inner),
                outer=config.channels(after[stage] if last else 4 * inner),
                stride=2 if last and stage > 2 else 1,
                name=f"up{stage}_block{block}",
                synchronized=sync,
                kind=kind,
            )
    x = keras.layers.UpSampling2D(2, interpolation="bilinear", name="interpolate")(x)
    if kind == "resize":
        x = keras.layers.UpSampling2D(2, name="images_resize")(x)
        last = keras.layers.Conv2D(
            3, 7, padding="same", dtype=keras.backend.floatx(), name="images"
        )
    else:
        last = ImageTransposed(3, 8, 2, padding="same", dtype=keras.backend.floatx(), name="images")
    return keras.Model(features, last(x), name="decoder")
