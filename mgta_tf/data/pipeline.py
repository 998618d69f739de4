"""From image indices to batches on the devices, and from uint8 to what a net sees.

`Feed` is one tf.data pipeline for the whole run. It runs over the rows of a plan (indices only; the
images stay in their `ImageStore`), and a new turn swaps the plan, so nothing is rebuilt or retraced
and memory stays flat over any number of rounds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.config import flag
from mgta_tf.data.store import ALIGNMENT
from mgta_tf.errors import UserError

GRID = 4  # squares per side, of which some are hidden
# Random numbers in [0, 1) for one image of a batch: nine for crop, flip and colours, one for each
# square, one for its triplet.
UNIFORMS = 9 + GRID**2 + 1

NORMALIZATIONS = {
    # name: (mean, standard deviation) of RGB in 0..1
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "centered": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Images as the nets see them."""

    image_size: int = flag(
        64, "Pixels per side as the nets see them, a multiple of 32.", minimum=32
    )
    normalization: str = flag(
        "unit",
        "RGB to [0, 1], to [-1, 1], or by ImageNet's mean and deviation.",
        choices=tuple(NORMALIZATIONS),
    )
    flip: bool = flag(True, "Mirror half of the training images.")
    crop_min_area: float = flag(
        0.4,
        "Random-resized crop: smallest share of the image; 1 turns it off.",
        minimum=0.05,
        maximum=1.0,
    )
    color_jitter: float = flag(
        0.2,
        "Largest relative change of brightness, contrast and saturation; 0 turns it off.",
        minimum=0.0,
        maximum=1.0,
    )
    grayscale: float = flag(0.0, "Share of images turned grey.", minimum=0.0, maximum=1.0)
    hidden_share: float = flag(
        0.0,
        "Share of the squares of a 4×4 grid that the encoder sees in the image's mean colour.",
        minimum=0.0,
        maximum=0.9,
    )
    reconstruct: str = flag(
        "seen",
        "What the decoder gives back: what the encoder saw (eq. 1), or the image before its "
        "colours were changed and squares hidden (a denoising auto-encoder; not in the paper).",
        choices=("seen", "clean"),
    )

    def __post_init__(self):
        if self.image_size % 32:
            raise UserError(
                f"--image_size={self.image_size}: must be a multiple of 32 (the encoder halves it "
                "five times and the decoder doubles it back)"
            )


def normalize(images, normalization: str):
    """uint8 or float [.., 3] in 0..255 → float32 [.., 3] as the encoder reads them."""
    mean, deviation = NORMALIZATIONS[normalization]
    images = tf.cast(images, tf.float32) / 255.0
    return (images - tf.constant(mean)) / tf.constant(deviation)


def denormalize(images, normalization: str):
    """The inverse of `normalize`, rounded and clipped to uint8."""
    mean, deviation = NORMALIZATIONS[normalization]
    images = (images * tf.constant(deviation) + tf.constant(mean)) * 255.0
    return tf.cast(tf.clip_by_value(tf.round(images), 0.0, 255.0), tf.uint8)


def fit_size(images, size: int):
    """Without augmentation: uint8 [N, S, S, 3] → 0..255 [N, size, size, 3], antialiased."""
    if images.shape[1] == size:
        return tf.cast(images, tf.float32)
    return tf.image.resize(images, (size, size), antialias=True)


def augment(images, uniforms, config: AugmentConfig):
    """Crop, flip, colours and hidden squares, a pure function of the images and of random numbers.

    Args:
      images: uint8 [N, S, S, 3].
      uniforms: float32 [N, UNIFORMS] in [0, 1). Given from outside, so that an image's augmentation
        depends on neither the device nor the number of replicas.
      config: What to do; `config.image_size` is the size of the result.

    Returns:
      (seen, target), float32 [N, image_size, image_size, 3] in 0..255 each: what the encoder reads,
      and what the decoder is to give back.
    """
    clean = _crop_and_flip(images, uniforms, config)
    seen = _change_colors(clean, uniforms, config)
    if config.hidden_share:
        seen = _hide_squares(seen, uniforms[:, 9 : 9 + GRID**2], config.hidden_share)
    return seen, clean if config.reconstruct == "clean" else seen


def _crop_and_flip(images, uniforms, config: AugmentConfig):
    draws = tf.unstack(uniforms, axis=1)
    mirrored = (draws[4] >= 0.5) & config.flip
    if config.crop_min_area < 1:
        return _random_resized_crop(images, draws[:4], mirrored, config)
    images = fit_size(images, config.image_size)
    if config.flip:
        images = tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return images


def _change_colors(images, uniforms, config: AugmentConfig):
    draws = tf.unstack(uniforms, axis=1)
    if config.color_jitter:
        brightness, contrast, saturation = (
            1 + config.color_jitter * (2 * u[:, None, None, None] - 1) for u in draws[5:8]
        )
        images = images * brightness
        images = _blend(images, tf.reduce_mean(_gray(images), [1, 2], keepdims=True), contrast)
        images = _blend(images, _gray(images), saturation)
        images = tf.clip_by_value(images, 0.0, 255.0)
    if config.grayscale:
        grey = draws[8][:, None, None, None] < config.grayscale
        images = tf.where(grey, _gray(images) + tf.zeros_like(images), images)
    return images


def _hide_squares(images, draws, share: float):
    """Squares whose number of `draws` [N, GRID²] is below `share` take the image's mean colour."""
    repeats = images.shape[1] // GRID
    hidden = tf.reshape(draws < share, [-1, GRID, GRID, 1])
    hidden = tf.repeat(tf.repeat(hidden, repeats, axis=1), repeats, axis=2)
    return tf.where(hidden, tf.reduce_mean(images, [1, 2], keepdims=True), images)


def _random_resized_crop(images, draws, mirrored, config: AugmentConfig):
    """Inception's crop: a share of the area in [crop_min_area, 1], aspect 3:4 to 4:3.

    mirrored: bool [N]; where it holds, the box is read from right to left.
    """
    area = config.crop_min_area + draws[0] * (1 - config.crop_min_area)
    aspect = tf.exp((2 * draws[1] - 1) * tf.math.log(4 / 3))
    height = tf.minimum(tf.sqrt(area / aspect), 1.0)
    width = tf.minimum(tf.sqrt(area * aspect), 1.0)
    top, left = draws[2] * (1 - height), draws[3] * (1 - width)
    # A box that ends beyond 1, if only by a rounding error, would get a black border.
    bottom, right = tf.minimum(top + height, 1 - 1e-5), tf.minimum(left + width, 1 - 1e-5)
    first, last = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
    boxes = tf.stack([top, first, bottom, last], axis=1)
    size = (config.image_size, config.image_size)
    return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), size)


def _gray(images):
    """Luma of ITU-R BT.601, [N, H, W, 3] → [N, H, W, 1]."""
    return tf.reduce_sum(images * tf.constant([0.299, 0.587, 0.114]), axis=-1, keepdims=True)


def _blend(images, other, weight):
    return other + (images - other) * weight


class Feed:
    """Batches of a plan as (images, labels, uniforms), spread over the replicas.

    One tf.data pipeline for the whole run; `batches` points it at another plan. Replica r of R gets
    the r-th of R equal parts of a row, and a host reads the images of its own replicas only.
    """

    def __init__(self, store, batch_size: int, strategy: tf.distribute.Strategy):
        """store: an `ImageStore`, or what else has `size` and `batch`."""
        self._store = store
        self.batch_size = batch_size
        self._rows: Iterator[Any] = iter(())
        self._error: Exception | None = None
        self._part = batch_size // strategy.num_replicas_in_sync
        pixels = getattr(store, "pixels", None)
        self._pixels = None if pixels is None else _same_memory(pixels)
        self._replicas = range(strategy.num_replicas_in_sync)
        if strategy.num_replicas_in_sync == 1:  # dealing out to one costs more than reading
            self._dataset = self._dataset_of_host(tf.distribute.InputContext())
        else:
            self._dataset = strategy.distribute_datasets_from_function(self._dataset_of_host)

    def _dataset_of_host(self, context: tf.distribute.InputContext):
        """The parts of this host's replicas, one after the other."""
        each = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * each
        self._replicas = range(first, first + each)
        dataset = tf.data.Dataset.from_generator(
            lambda: self._rows,
            output_signature=(
                tf.TensorSpec([self._part], tf.int32),
                tf.TensorSpec([self._part], tf.int32),
                tf.TensorSpec([self._part, UNIFORMS], tf.float32),
            ),
        )
        options = tf.data.Options()  # to rewrite the graph, tf.data copies all images into it
        options.autotune.enabled = False
        options.experimental_optimization.apply_default_optimizations = False
        return dataset.map(self._read).prefetch(2 * each).with_options(options)

    def _read(self, indices, labels, uniforms):
        if self._pixels is not None:
            return tf.gather(self._pixels, indices), labels, uniforms
        images = tf.numpy_function(self._batch, [indices], tf.uint8)
        images.set_shape([self._part, self._store.size, self._store.size, 3])
        return images, labels, uniforms

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        try:
            return self._store.batch(indices)
        except UserError as error:  # tf.data would bury its one line under its own
            self._error = error
            raise

    def batches(
        self, plan: np.ndarray, labels: np.ndarray, seed: list[int], start: int = 0
    ) -> Iterator[Any]:
        """Rows `start` … of a plan [steps, batch], with `labels` [number of images in the store].

        `seed` decides the augmentation, together with the row's number.

        Raises:
          UserError: an image cannot be read any more.
        """
        self._rows, self._error = self._generate(plan, labels, seed, start), None
        try:
            yield from self._dataset
        except tf.errors.OpError:
            if self._error is None:
                raise
            raise self._error from None

    def _generate(self, plan, labels, seed, start):
        for step in range(start, len(plan)):
            row = plan[step].astype(np.int32)
            rng = np.random.default_rng([*seed, step])
            uniforms = rng.random((len(row), UNIFORMS), np.float32)
            for replica in self._replicas:
                part = slice(replica * self._part, (replica + 1) * self._part)
                yield row[part], labels[row[part]], uniforms[part]


def _same_memory(pixels: np.ndarray) -> tf.Tensor:
    """An array as a tensor; no copy of what may be most of the memory, if it begins as aligned."""
    if pixels.ctypes.data % ALIGNMENT:
        return tf.constant(pixels)
    return tf.experimental.dlpack.from_dlpack(pixels.__dlpack__())
