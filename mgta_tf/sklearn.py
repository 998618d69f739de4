"""An exported encoder as a scikit-learn transformer.

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from mgta_tf.sklearn import Encoder

model = make_pipeline(Encoder("runs/mine/saved_model"), LogisticRegression())
model.fit(paths_of_images, labels)
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import NotFittedError

from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.embed import inputs, stream
from mgta_tf.embed.embedder import Embedder, open_embedder


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Images → features of a frozen encoder. `fit` only loads the SavedModel; nothing is trained.

    saved_model: folder written by mgta_tf.export. endpoint: 'embedding', or 'res2' … 'res5', which
    are averaged over pixels. image_size: pixels per side to which images are resized and cropped;
    None is the size of training. batch_size: images encoded at once.
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
          UserError: the SavedModel cannot be loaded, or has no such endpoint.
        """
        del X, y
        self._embedder = self._load()
        self.size_ = self._embedder.size
        self._n_features_out = self._embedder.dimensions  # of `get_feature_names_out`
        return self

    def _load(self) -> Embedder:
        embedder = open_embedder(self.saved_model, self.endpoint)
        return dataclasses.replace(embedder, size=self.image_size or embedder.size)

    def transform(self, X: Any) -> np.ndarray:
        """Features, float32 [n, D].

        Args:
          X: uint8 [n, H, W, 3], used as they are; or images, each resized and center-cropped to
            `image_size`: paths of files, PIL images or arrays [H, W, 3], in any iterable (a list, a
            generator, a Series, a DataFrame of one column); one path; or a folder, whose images
            are in the order of mgta_tf.embed.

        Raises:
          UserError: an item is not an image that can be read, or is an array of another shape.
        """
        if not hasattr(self, "size_"):
            raise NotFittedError("call fit first; it loads the SavedModel")
        if not hasattr(self, "_embedder"):  # an unpickled copy
            self._embedder = self._load()
        if inputs.is_folder(X):
            data = DataConfig(data_dir=inputs.path_of(X), max_bad_fraction=0.0)
            found = stream.collect(open_source(data), self._embedder, data, self.batch_size, False)
            return found[1]
        _, vectors = inputs.encode(self._embedder, X, self.batch_size)
        return vectors

    def __getstate__(self) -> dict[str, Any]:
        """The state without the graph, which `transform` loads again."""
        return {name: v for name, v in super().__getstate__().items() if name != "_embedder"}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # a row is an image, not a vector of features
        tags.input_tags.three_d_array = False
        tags.input_tags.string = True
        return tags
