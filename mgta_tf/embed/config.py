"""Flags shared by the commands that encode images."""

from __future__ import annotations

import dataclasses

from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.evaluation.features import ENDPOINTS


@dataclasses.dataclass(frozen=True)
class EncodeConfig:
    """The encoder."""

    saved_model: str = flag("", "Folder of the encoder, as mgta_tf.export wrote it.")
    endpoint: str = flag(
        "embedding", "Layer that is read; maps are averaged over their pixels.", choices=ENDPOINTS
    )
    batch_size: int = flag(64, "Images encoded at once.", minimum=1)

    def require(self) -> None:
        """Checks that --saved_model is given.

        Raises:
          UserError: it is not.
        """
        if not self.saved_model:
            raise UserError("--saved_model is required: the folder that mgta_tf.export wrote")
