"""Input pipeline: from image indices to augmented, normalized batches on the devices.

`Feed` is one tf.data pipeline for the whole run. It iterates over the rows of a plan (indices only;
the images stay in their `ImageStore`). A new turn replaces the plan, so nothing is rebuilt or
retraced, and memory stays flat over any number of rounds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf.config import flag
from mgta_tf.data.store import ALIGNMENT
from mgta_tf.errors import UserError

GRID = 4  # squares per side; some of them are hidden
UNIFORMS = 9 + GRID**2 + 1  # random numbers per image of a batch: see `Draws`

NORMALIZATIONS = {
    # name: (mean, standard deviation) of RGB in 0..1
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "centered": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Input size and augmentation."""

    image_size: int = flag(
        64,
        "Input size of the nets in pixels per side, a multiple of 32. auto: the images' shorter "
        "side, up to 64 on a CPU and 128 on a GPU.",
        minimum=32,
        auto="auto",
    )
    normalization: str = flag(
        "unit",
        "Range of the input: RGB in [0, 1], in [-1, 1], or by ImageNet's mean and deviation.",
        choices=tuple(NORMALIZATIONS),
        advanced=True,
    )
    flip: bool = flag(True, "Random horizontal flip of training images.", advanced=True)
    crop_min_area: float = flag(
        0.3,
        "Smallest area of the random resized crop, as a fraction of the image; 1 turns it off.",
        minimum=0.05,
        maximum=1.0,
        advanced=True,
    )
    color_jitter: float = flag(
        0.3,
        "Color jitter: largest relative change of brightness, contrast and saturation; 0 turns it "
        "off.",
        minimum=0.0,
        maximum=1.0,
        advanced=True,
    )
    grayscale: float = flag(
        0.1,
        "Probability of converting a training image to grayscale.",
        minimum=0.0,
        maximum=1.0,
        advanced=True,
    )
    hidden_share: float = flag(
        0.0,
        "Fraction of the squares of a 4×4 grid that are masked by the image's mean color.",
        minimum=0.0,
        maximum=0.9,
        advanced=True,
    )
    reconstruct: str = flag(
        "seen",
        "Target of the reconstruction: the augmented input (eq. 1), or the clean crop before color "
        "changes and masking (a denoising auto-encoder; not in the paper).",
        choices=("seen", "clean"),
        advanced=True,
    )

    def __post_init__(self):
        if self.image_size % 32:
            raise UserError(
                f"--image_size={self.image_size}: must be a multiple of 32 (the encoder halves it "
                "five times and the decoder doubles it back)"
            )


@dataclasses.dataclass(frozen=True)
class Draws:
    """The random numbers of a batch of N images: float32 [N] in [0, 1), squares [N, GRID²]."""

    crop_area: Any
    crop_aspect: Any
    crop_top: Any
    crop_left: Any
    flip: Any
    brightness: Any
    contrast: Any
    saturation: Any
    grayscale: Any
    squares: Any
    triplet: Any  # for --triplet_positive and --triplet_negative=random

    @classmethod
    def of(cls, uniforms) -> Draws:
        """The columns of float32 [N, UNIFORMS] by name."""
        columns = tf.unstack(uniforms, axis=1)
        return cls(*[*columns[:9], uniforms[:, 9:-1], columns[-1]])


def normalize(images, normalization: str):
    """uint8 or float [.., 3] in 0..255 → float32 [.., 3], the input of the encoder."""
    mean, deviation = NORMALIZATIONS[normalization]
    images = tf.cast(images, tf.float32) / 255.0
    return (images - tf.constant(mean)) / tf.constant(deviation)


def denormalize(images, normalization: str):
    """The inverse of `normalize`, rounded and clipped to uint8."""
    mean, deviation = NORMALIZATIONS[normalization]
    images = (images * tf.constant(deviation) + tf.constant(mean)) * 255.0
    return tf.cast(tf.clip_by_value(tf.round(images), 0.0, 255.0), tf.uint8)


def fit_size(images, size: int):
    """Resizes without augmentation: uint8 [N, S, S, 3] → 0..255 [N, size, size, 3]."""
    if images.shape[1] == size:
        return tf.cast(images, tf.float32)
    return tf.image.resize(images, (size, size), antialias=True)


def augment(images, uniforms, config: AugmentConfig):
    """Crop, flip, color jitter and masking: a pure function of images and random numbers.

    Args:
      images: uint8 [N, S, S, 3].
      uniforms: float32 [N, UNIFORMS] in [0, 1), see `Draws`. They are an argument, so that the
        augmentation of an image depends on neither the device nor the number of replicas.
      config: The augmentation; `config.image_size` is the size of the result.

    Returns:
      (seen, target): the input of the encoder and the target of the reconstruction, float32 [N,
      image_size, image_size, 3] in 0..255 each.
    """
    draws = Draws.of(uniforms)
    clean = _crop_and_flip(images, draws, config)
    seen = _change_colors(clean, draws, config)
    if config.hidden_share:
        seen = _hide_squares(seen, draws.squares, config.hidden_share)
    return seen, clean if config.reconstruct == "clean" else seen


def _crop_and_flip(images, draws: Draws, config: AugmentConfig):
    mirrored = (draws.flip >= 0.5) & config.flip
    if config.crop_min_area < 1:
        return _random_resized_crop(images, draws, mirrored, config)
    images = fit_size(images, config.image_size)
    if config.flip:
        images = tf.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    return images


def _change_colors(images, draws: Draws, config: AugmentConfig):
    if config.color_jitter:
        brightness, contrast, saturation = (
            1 + config.color_jitter * (2 * u[:, None, None, None] - 1)
            for u in (draws.brightness, draws.contrast, draws.saturation)
        )
        images = images * brightness
        images = _blend(images, tf.reduce_mean(_gray(images), [1, 2], keepdims=True), contrast)
        images = _blend(images, _gray(images), saturation)
        images = tf.clip_by_value(images, 0.0, 255.0)
    if config.grayscale:
        gray = draws.grayscale[:, None, None, None] < config.grayscale
        images = tf.where(gray, _gray(images) + tf.zeros_like(images), images)
    return images


def _hide_squares(images, draws, share: float):
    """Squares whose draw [N, GRID²] is below `share` take the image's mean color."""
    repeats = images.shape[1] // GRID
    hidden = tf.reshape(draws < share, [-1, GRID, GRID, 1])
    hidden = tf.repeat(tf.repeat(hidden, repeats, axis=1), repeats, axis=2)
    return tf.where(hidden, tf.reduce_mean(images, [1, 2], keepdims=True), images)


def _random_resized_crop(images, draws: Draws, mirrored, config: AugmentConfig):
    """Inception's crop: an area in [crop_min_area, 1] of the image, aspect 3:4 to 4:3.

    mirrored: bool [N]; where true, the box is read from right to left.
    """
    area = config.crop_min_area + draws.crop_area * (1 - config.crop_min_area)
    aspect = tf.exp((2 * draws.crop_aspect - 1) * tf.math.log(4 / 3))
    height = tf.minimum(tf.sqrt(area / aspect), 1.0)
    width = tf.minimum(tf.sqrt(area * aspect), 1.0)
    top, left = draws.crop_top * (1 - height), draws.crop_left * (1 - width)
    # A box that ends beyond 1, even by a rounding error, would get a black border.
    bottom, right = tf.minimum(top + height, 1 - 1e-5), tf.minimum(left + width, 1 - 1e-5)
    first, last = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
    boxes = tf.stack([top, first, bottom, last], axis=1)
    images = tf.cast(images, tf.float32)  # GPUs have no kernel for uint8; the host would crop
    size = (config.image_size, config.image_size)
    return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), size)


def _gray(images):
    """Luma of ITU-R BT.601, [N, H, W, 3] → [N, H, W, 1]."""
    return tf.reduce_sum(images * tf.constant([0.299, 0.587, 0.114]), axis=-1, keepdims=True)


def _blend(images, other, weight):
    return other + (images - other) * weight


class Feed:
    """Batches of a plan as (images, labels, uniforms), distributed to the replicas.

    There is one tf.data pipeline for the whole run, and `batches` replaces its plan. Replica r of R
    gets the r-th of R equal parts of a row; a host reads the images of its own replicas only.
    """

    def __init__(self, store, batch_size: int, strategy: tf.distribute.Strategy):
        """store: an `ImageStore`, or an object with its `size`, and its `batch` or `pixels`."""
        self._store = store
        self.batch_size = batch_size
        self._rows: Iterator[Any] = iter(())
        self._error: Exception | None = None
        self._part = batch_size // strategy.num_replicas_in_sync
        pixels = getattr(store, "pixels", None)
        self._pixels = None if pixels is None else _same_memory(pixels)
        self._fill = getattr(store, "fill", lambda indices: None)
        self._replicas = range(strategy.num_replicas_in_sync)
        if _is_host(strategy):  # distributing would cost more than reading
            self._dataset = self._dataset_of_host(tf.distribute.InputContext())
        else:
            self._dataset = strategy.distribute_datasets_from_function(self._dataset_of_host)

    def _dataset_of_host(self, context: tf.distribute.InputContext):
        """A dataset of the parts of this host's replicas, one after the other."""
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
        options = tf.data.Options()
        options.autotune.enabled = False
        # tf.data's graph rewriting would copy all images into the graph.
        options.experimental_optimization.apply_default_optimizations = False
        return dataset.map(self._read).prefetch(2 * each).with_options(options)

    def _read(self, indices, labels, uniforms):
        if self._pixels is not None:
            return tf.gather(self._pixels, indices), labels, uniforms
        images = tf.numpy_function(self._batch, [indices], tf.uint8)
        images.set_shape([self._part, self._store.size, self._store.size, 3])
        return images, labels, uniforms

    def _batch(self, indices: np.ndarray) -> np.ndarray:
        return self._recorded(self._store.batch, indices)

    def _recorded(self, function: Callable[[np.ndarray], Any], indices: np.ndarray) -> Any:
        try:
            return function(indices)
        except UserError as error:  # raised in `batches`; tf.data would bury its message
            self._error = error
            raise

    def batches(
        self, plan: np.ndarray, labels: np.ndarray, seed: list[int], start: int = 0
    ) -> Iterator[Any]:
        """Yields the rows of a plan [steps, batch] from row `start`.

        Args:
          plan: Image indices.
          labels: Label of every image of the store.
          seed: The augmentation depends on the seed and the number of the row only.
          start: First row.

        Raises:
          UserError: an image can no longer be read.
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
                self._recorded(self._fill, row[part])
                yield row[part], labels[row[part]], uniforms[part]


def _is_host(strategy: tf.distribute.Strategy) -> bool:
    """Whether the CPU is the only replica, so that batches need no copy to another device."""
    if strategy.num_replicas_in_sync > 1:
        return False
    mirrored = isinstance(strategy, tf.distribute.MirroredStrategy)
    return not mirrored or strategy.extended.worker_devices[0].endswith("CPU:0")


def _same_memory(pixels: np.ndarray) -> tf.Tensor:
    """The array as a tensor, without a copy if its memory is aligned."""
    if pixels.ctypes.data % ALIGNMENT:
        return tf.constant(pixels)
    return tf.experimental.dlpack.from_dlpack(pixels.__dlpack__())
