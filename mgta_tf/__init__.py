"""Mutual Guidance to Train Auto-Encoder (MGTA): self-supervised pre-training in TensorFlow.

Importing this package sets two environment variables before TensorFlow loads, each only where the
user has not set it:

* ``TF_ENABLE_ONEDNN_OPTS=1``: on a CPU without AVX-512 TensorFlow leaves oneDNN off, and a training
  step of the auto-encoder is then 2.7 (64 px) to 5 (32 px) times slower.
* ``TF_CPP_MIN_LOG_LEVEL=3``: TensorFlow 2.15 prints "Unable to register cuDNN factory" and the like
  at error level at every start. Errors that matter are raised as exceptions.
"""

import os
import warnings

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# A dependency of Model Garden announces at import which Pythons it will drop.
warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")

__version__ = "0.1.0"
