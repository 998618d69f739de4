"""The transformer against the SavedModel itself, and against scikit-learn's own checks."""

import pickle

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from mgta_tf.data.shapes import label_of, single_object
from mgta_tf.errors import UserError
from mgta_tf.models import artifact
from mgta_tf.models.autoencoder import build_autoencoder
from mgta_tf.models.encoder import ModelConfig
from mgta_tf.sklearn import Encoder


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("encoder") / "m")
    tf.keras.utils.set_random_seed(1)
    model = ModelConfig(width=0.0625, blocks=(1, 1, 1, 1))
    facts = artifact.Facts(model, "unit", 32, "untrained")
    artifact.save(build_autoencoder(model), facts, directory)
    return directory


@pytest.fixture(scope="module")
def images():
    return np.stack([single_object(number, 0)[::2, ::2] for number in range(12)])


@pytest.mark.parametrize("endpoint", ["embedding", "res4"])
def test_it_is_the_signature_in_batches(saved_model, images, endpoint):
    found = Encoder(saved_model, endpoint=endpoint, batch_size=5).fit_transform(images)
    signature = tf.saved_model.load(saved_model).signatures["encode"]
    expected = signature(tf.constant(images))[endpoint].numpy()
    if endpoint == "res4":
        assert expected.shape[1:3] == (2, 2)
        expected = expected.mean((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_files_are_read_as_they_are_for_training(saved_model, images, tmp_path):
    paths = []
    for number, image in enumerate(images[:3]):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    encoder = Encoder(saved_model).fit()
    assert encoder.size_ == 32
    np.testing.assert_array_equal(encoder.transform(paths), encoder.transform(images[:3]))
    np.testing.assert_array_equal(encoder.transform(np.array(paths)), encoder.transform(images[:3]))


def test_it_stands_in_a_pipeline_is_cloned_and_pickled(saved_model, images):
    labels = [label_of(number, 0) for number in range(len(images))]
    pipeline = make_pipeline(Encoder(saved_model), LogisticRegression(C=1e4, max_iter=2000))
    predicted = pipeline.fit(images, labels).predict(images)
    again = pickle.loads(pickle.dumps(pipeline)).predict(images)
    np.testing.assert_array_equal(predicted, again)
    assert clone(pipeline[0]).get_params() == pipeline[0].get_params()


@pytest.mark.filterwarnings("error::sklearn.exceptions.EstimatorCheckFailedWarning")
def test_scikit_learn_has_no_complaint(saved_model):
    """Its checks of the interface; those that feed vectors of numbers do not apply to images."""
    with pytest.warns(SkipTestWarning, match="requires input"):
        check_estimator(Encoder(saved_model))


def test_what_it_refuses(saved_model, images, tmp_path):
    with pytest.raises(NotFittedError, match="fit first"):
        Encoder(saved_model).transform(images)
    with pytest.raises(UserError, match="not a SavedModel"):
        Encoder(str(tmp_path)).fit()
    with pytest.raises(UserError, match="must be one of"):
        Encoder(saved_model, endpoint="res6").fit()
    encoder = Encoder(saved_model).fit()
    with pytest.raises(UserError, match=r"uint8 \[n, H, W, 3\], not float64 \[12, 32, 32, 3\]"):
        encoder.transform(images / 255)
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"x\.png: "):
        encoder.transform([str(tmp_path / "x.png")])
