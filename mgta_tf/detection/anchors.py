"""Anchors of arbitrary sizes; Model Garden's are fractions of an octave apart (64, 76, 91, 108)."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from official.vision.ops import anchor

from mgta_tf.detection.config import STRIDE

LEVEL = 4  # 2⁴ = STRIDE
RATIOS = (0.5, 1.0, 2.0)  # width / height


class OctaveAnchor:
    """Anchors of the given sizes and of RATIOS, centered on every cell of res4.

    boxes: float32 [h·w·A, 4], (ymin, xmin, ymax, xmax) in pixels. A = 3 · len(sizes) anchors per
    cell, ordered by size, then by ratio.
    """

    def __init__(self, sizes: tuple[int, ...], image_size: tuple[int, int]):
        sides = np.array(
            [(size * ratio**-0.5, size * ratio**0.5) for size in sizes for ratio in RATIOS]
        )
        y, x = (np.arange(STRIDE / 2, side, STRIDE) for side in image_size)
        centers = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 1, 2)
        corners = np.concatenate([centers - sides / 2, centers + sides / 2], axis=-1)
        self._cells = [len(y), len(x)]
        self.boxes = tf.constant(corners.reshape(-1, 4), tf.float32)

    @property
    def multilevel_boxes(self) -> dict[str, tf.Tensor]:
        """The boxes in the form of Model Garden's `Anchor`: {'4': [h, w, 4·A]}."""
        return self.of_level(self.boxes)

    def of_level(self, boxes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Boxes [h·w·A, 4] in the form of `multilevel_boxes`."""
        return {str(LEVEL): tf.reshape(boxes, [*self._cells, -1])}


class InsideLabeler(anchor.RpnAnchorLabeler):
    """Targets of the RPN. Anchors that extend beyond the image are ignored (straddle 0).

    They match no object, are not sampled, and have no box target.
    """

    def __init__(self, samples: int, anchors: OctaveAnchor, shape: tf.Tensor):
        """shape: [2], height and width of the image inside the padded square of the anchors."""
        super().__init__(rpn_batch_size_per_im=samples)
        self._anchors = anchors
        top, left, bottom, right = tf.unstack(anchors.boxes, axis=1)
        self._inside = (top >= 0) & (left >= 0) & (bottom <= shape[0]) & (right <= shape[1])

    def label(self, objects: tf.Tensor):
        """Targets of the image.

        Args:
          objects: [n, 4] in pixels of the scaled image.

        Returns:
          scores: {'4': int32 [h, w, A]}: 1, 0, or -1 where an anchor is not sampled.
          boxes: {'4': float32 [h, w, 4·A]}: encoded, 0 where the score is not 1.
        """
        # Anchors beyond the image are moved away, so that none is the best one of an object.
        moved = tf.where(self._inside[:, None], self._anchors.boxes, [[-2.0, -2.0, -1.0, -1.0]])
        classes = tf.ones([tf.shape(objects)[0], 1])
        scores, boxes = self.label_anchors(self._anchors.of_level(moved), objects, classes)
        chosen = {k: tf.repeat(score == 1, 4, axis=-1) for k, score in scores.items()}
        return scores, {k: tf.where(chosen[k], box, 0.0) for k, box in boxes.items()}

    def _get_rpn_samples(self, match_results):
        return super()._get_rpn_samples(tf.where(self._inside, match_results, -2))
