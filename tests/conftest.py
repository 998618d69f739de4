"""Shared fixtures, and two logical CPU devices, set before anything else uses TensorFlow."""

import functools
import os
import pathlib

import pytest
import tensorflow as tf
from small import config_of

import mgta_tf  # noqa: F401  (sets TensorFlow's environment before it loads)
from mgta_tf import train

# Commands that tests start find the package as this process does.
os.environ["PYTHONPATH"] = str(pathlib.Path(__file__).parent.parent)

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(scope="session")
def two_replicas():
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The workdir of an uninterrupted run on labelled images."""
    workdir = tmp_path_factory.mktemp("run") / "w"
    train.train(config_of(workdir))
    return workdir


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    """The folder of a tiny untrained encoder of 32 px."""
    from mgta_tf.models import artifact
    from mgta_tf.models.autoencoder import build_autoencoder
    from mgta_tf.models.encoder import ModelConfig

    directory = str(tmp_path_factory.mktemp("encoder") / "saved_model")
    tf.keras.utils.set_random_seed(1)
    model = ModelConfig(width=0.0625, blocks=(1, 1, 1, 1), decoder="mirror")
    facts = artifact.Facts(model, "centered", 32, "untrained")
    artifact.save(build_autoencoder(model), facts, directory)
    return directory


@pytest.fixture
def loaded_once(monkeypatch):
    """Makes commands share one loaded encoder, because loading takes seconds."""
    from mgta_tf import search
    from mgta_tf.embed import __main__ as embed

    monkeypatch.setattr(embed, "open_embedder", _open_embedder)
    monkeypatch.setattr(search, "open_embedder", _open_embedder)


@functools.cache
def _open_embedder(saved_model, endpoint):
    from mgta_tf.embed.embedder import open_embedder

    return open_embedder(saved_model, endpoint)
