"""The only place that imports tensorflow-addons.

tensorflow-addons was discontinued in May 2024, prints that at import, and does not support
TensorFlow above 2.15. So it is imported only for `--triplet_impl=tfa`.
"""

from __future__ import annotations

import importlib.util
import warnings

from mgta_tf.errors import UserError


def require() -> None:
    """Checks that tensorflow-addons is installed.

    Raises:
      UserError: it is not.
    """
    if importlib.util.find_spec("tensorflow_addons") is None:
        raise UserError(
            "--triplet_impl=tfa: tensorflow-addons is not installed, and has no release for Python "
            "3.12 or later; remove the flag (the default computes the same loss), or use Python "
            "3.11 and pip install 'mgta_tf[addons]'"
        )


def triplet_hard_loss(labels, embeddings, margin: float, soft_margin: bool):
    """Eq. 6 by tensorflow-addons: mean over all anchors of labels [N] and embeddings [N, D]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons as tfa
    return tfa.losses.triplet_hard_loss(labels, embeddings, margin=margin, soft=soft_margin)
