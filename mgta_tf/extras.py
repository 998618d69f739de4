"""Optional parts of the installation: `pip install 'mgta_tf[detection]'` and the like."""

from __future__ import annotations

import importlib.util

from mgta_tf.errors import UserError


def require(module: str, name: str, extra: str, what: str) -> None:
    """Checks that an optional package is installed, without importing it.

    Args:
      module: Name by which it is imported.
      name: Name in the message.
      extra: The extra of this package that installs it.
      what: The command or flag that needs it.

    Raises:
      UserError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{what} needs {name}; run pip install 'mgta_tf[{extra}]'")
