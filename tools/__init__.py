"""Tools of this repository, by purpose: bench/, study/, faults/, docs/; the package installs none.

The scripts beside this file are entry points. The other tools run as modules, from the repository's
folder: `python -m tools.docs.check`.
"""

import mgta_tf  # noqa: F401  sets how TensorFlow starts, before a tool imports it
