"""An exported encoder as a scikit-learn transformer.

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from mgta_tf.sklearn import Encoder

model = make_pipeline(Encoder("runs/mine/saved_model"), LogisticRegression())
model.fit(paths_of_images, labels)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError

from mgta_tf.data import images
from mgta_tf.errors import UserError
from mgta_tf.evaluation import features
from mgta_tf.models import artifact


class Encoder(TransformerMixin, BaseEstimator):
    """Images → features of a frozen encoder. It learns nothing: `fit` only looks at `saved_model`.

    saved_model: folder that mgta_tf.export wrote. endpoint: 'embedding', or 'res2' … 'res5',
    averaged over their pixels. image_size: pixels per side to which files are brought, by their
    centre; None is what the encoder was trained on. batch_size: images encoded at once.
    """

    def __init__(
        self,
        saved_model: str,
        endpoint: str = "embedding",
        image_size: int | None = None,
        batch_size: int = 32,
    ):
        self.saved_model = saved_model
        self.endpoint = endpoint
        self.image_size = image_size
        self.batch_size = batch_size

    def fit(self, X: Any = None, y: Any = None) -> Encoder:
        """Loads the SavedModel.

        Raises:
          UserError: it cannot be loaded, or has no such endpoint.
        """
        del X, y
        self._encode = self._load()
        self.size_ = self.image_size or artifact.read_facts(self.saved_model).image_size
        return self

    def _load(self) -> features.Encode:
        if self.endpoint not in features.ENDPOINTS:
            raise UserError(f"endpoint={self.endpoint!r}: must be one of {features.ENDPOINTS}")
        return features.load_encode(self.saved_model, self.endpoint)

    def transform(self, X: Any) -> np.ndarray:
        """Features, float32 [n, D].

        Args:
          X: uint8 [n, H, W, 3], used as they are; or n paths of image files.

        Raises:
          UserError: a file is no image that can be read, or the array is of another shape.
        """
        if not hasattr(self, "size_"):
            raise NotFittedError("call fit first; it loads the SavedModel")
        if not hasattr(self, "_encode"):  # a copy that was unpickled
            self._encode = self._load()
        found = []
        for batch in self._batches(X):
            values = self._encode(images=tf.constant(batch))[self.endpoint].numpy()
            found.append(values if values.ndim == 2 else values.mean((1, 2)))
        return np.concatenate(found)

    def _batches(self, X: Any) -> Iterator[np.ndarray]:
        """uint8 [≤ batch_size, H, W, 3]."""
        load: Callable[[Any], np.ndarray] = np.asarray
        if isinstance(X, np.ndarray) and X.ndim > 1:
            if X.dtype != np.uint8 or X.ndim != 4 or X.shape[3] != 3:
                raise UserError(f"images are uint8 [n, H, W, 3], not {X.dtype} {list(X.shape)}")
        else:
            load = self._read
        for start in range(0, len(X), self.batch_size):
            yield load(X[start : start + self.batch_size])

    def _read(self, paths: Sequence[str]) -> np.ndarray:
        found = []
        for path in paths:
            try:
                with open(path, "rb") as file:
                    found.append(
                        images.load_square(file.read(), self.size_, "crop", images.MAX_PIXELS)
                    )
            except (OSError, images.BadImage) as error:
                raise UserError(f"{path}: {error}") from None
        return np.stack(found)

    def __getstate__(self) -> dict[str, Any]:
        """Without the graph, which `transform` loads again."""
        return {name: v for name, v in super().__getstate__().items() if name != "_encode"}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # a row is an image, not a vector of features
        tags.input_tags.three_d_array = False
        tags.input_tags.string = True
        return tags
