"""The layers of Table 1: convolution, batch norm and bottleneck, for encoder and decoder."""

from __future__ import annotations

import tensorflow as tf

keras = tf.keras

# The statistics average about the last 10 steps: a turn of a small run has only hundreds of steps.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5


def convolution(x, filters: int, size: int, stride: int, name: str, *, kind: str = "plain"):
    """A bias-free convolution of `size`×`size` with 'same' padding.

    kind 'plain' divides the resolution by the stride: [N, h, w, c] → [N, ceil(h / stride),
    ceil(w / stride), filters]. 'transposed', and 'resize' (repeat every pixel, then a plain
    convolution), multiply it: [N, h·stride, w·stride, filters].
    """
    if kind == "resize" and stride > 1:
        x, stride = keras.layers.UpSampling2D(stride, name=f"{name}_resize")(x), 1
    layer = keras.layers.Conv2D
    if kind == "transposed":
        layer = PointwiseTransposed if size == 1 else keras.layers.Conv2DTranspose
    return layer(
        filters,
        size,
        stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


class PointwiseTransposed(tf.keras.layers.Conv2DTranspose):
    """A transposed 1×1 convolution as a matrix product, with the weights of Conv2DTranspose.

    On a CPU its gradients are faster than those of TensorFlow's transposed convolution. With a
    stride, the pixels in between are 0.
    """

    def call(self, inputs):
        shape, (stride, _) = tf.shape(inputs), self.strides
        kernel = self.kernel[0, 0]  # [filters, c]
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])  # [N*h*w, c]
        outputs = tf.matmul(rows, kernel, transpose_b=True)
        if stride > 1:
            outputs = tf.reshape(outputs, [-1, shape[1], 1, shape[2], 1, self.filters])
            zeros = [0, stride - 1]
            outputs = tf.pad(outputs, [[0, 0], [0, 0], zeros, [0, 0], zeros, [0, 0]])
        outputs = tf.reshape(outputs, [-1, stride * shape[1], stride * shape[2], self.filters])
        outputs.set_shape(self.compute_output_shape(inputs.shape))
        return outputs


class ImageTransposed(tf.keras.layers.Conv2DTranspose):
    """The decoder's last layer, 8×8, stride 2, 3 channels, with the weights of Conv2DTranspose.

    TensorFlow's transposed convolution is slow on a CPU for so few channels. Each output pixel
    depends on 4×4 input pixels through one of 2×2 parts of the kernel. So this layer is a plain
    4×4 convolution to 2×2×3 channels, which `depth_to_space` rearranges to 2×2 pixels. Row j of its
    result is row j - 1 of the image: input row i meets kernel row k = 2v + d at
    j = 2 (i - 1 + v) + d.
    """

    def call(self, inputs):
        shape = tf.shape(inputs)
        kernel = tf.reshape(self.kernel, [4, 2, 4, 2, self.filters, -1])  # v, d of rows; of columns
        kernel = tf.transpose(kernel[::-1, :, ::-1], [0, 2, 5, 1, 3, 4])
        kernel = tf.reshape(kernel, [4, 4, -1, 4 * self.filters])
        # A separate pad: oneDNN has no gradient for convolutions with explicit padding.
        inputs = tf.pad(inputs, [[0, 0], [2, 2], [2, 2], [0, 0]])
        outputs = tf.nn.conv2d(inputs, kernel, 1, "VALID")  # [N, h + 1, w + 1, 4 * filters]
        outputs = tf.nn.depth_to_space(outputs, 2)
        # Same as outputs[:, 1:-1, 1:-1], whose gradient is slow.
        size = [-1, 2 * shape[1], 2 * shape[2], self.filters]
        outputs = tf.slice(outputs, [0, 1, 1, 0], size)
        return tf.nn.bias_add(outputs, self.bias)


def batch_norm(x, name: str, *, synchronized: bool):
    """Batch normalization over N, h, w; over all replicas when `synchronized`."""
    return keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM,
        epsilon=BATCH_NORM_EPSILON,
        synchronized=synchronized,
        name=name,
    )(x)


def bottleneck(
    x,
    inner: int,
    outer: int,
    stride: int,
    name: str,
    *,
    synchronized: bool,
    kind: str = "plain",
    output_name: str | None = None,
):
    """A residual block of Table 1: 1×1 `inner`, 3×3 `inner`, 1×1 `outer`, ReLU after the sum.

    The 3×3 convolution has the stride, as in FAIR's benchmark and Model Garden; in
    `keras.applications` it is the first 1×1. `kind` applies to all convolutions: with 'transposed'
    and 'resize' the stride multiplies the resolution. The shortcut is a 1×1 projection where the
    shape changes.

    [N, h, w, c] → [N, h/stride, w/stride, outer], or [N, h·stride, w·stride, outer].
    """

    def conv_bn(value, filters, size, conv_stride, part):
        value = convolution(value, filters, size, conv_stride, f"{name}_{part}_conv", kind=kind)
        return batch_norm(value, f"{name}_{part}_bn", synchronized=synchronized)

    shortcut = x
    if stride != 1 or x.shape[-1] != outer:
        shortcut = conv_bn(x, outer, 1, stride, "proj")
    y = keras.layers.ReLU(name=f"{name}_1_relu")(conv_bn(x, inner, 1, 1, "1"))
    y = keras.layers.ReLU(name=f"{name}_2_relu")(conv_bn(y, inner, 3, stride, "2"))
    y = conv_bn(y, outer, 1, 1, "3")
    y = keras.layers.Add(name=f"{name}_add")([y, shortcut])
    return keras.layers.ReLU(name=output_name or f"{name}_relu")(y)
