"""Tools for this repository, which the package does not install: bench/, study/, faults/, docs/.

The scripts next to this file are entry points. The other tools are run as modules in the folder of
the repository: `python -m tools.docs.check`.
"""

import mgta_tf  # noqa: F401  sets how TensorFlow starts, before a tool imports it
