"""The SavedModel: outputs and refusals of its signatures, and the models loaded from it."""

import numpy as np
import pytest
import tensorflow as tf

import mgta_tf
from mgta_tf.data import pipeline
from mgta_tf.errors import UserError
from mgta_tf.models import artifact

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def signatures(saved_model):
    return tf.saved_model.load(saved_model).signatures


def test_outputs_of_the_signatures(signatures):
    assert set(signatures) == {"encode", "reconstruct", "serving_default"}
    found = {name: v.shape for name, v in signatures["encode"](images=tf.constant(IMAGES)).items()}
    assert set(found) == {"res2", "res3", "res4", "res5", "embedding"}
    assert found["res4"][:3] == (3, 3, 3)
    assert found["embedding"] == (3, 128)
    served = signatures["serving_default"](images=tf.constant(IMAGES))
    assert list(served) == ["embedding"]
    encoded = signatures["encode"](images=tf.constant(IMAGES))["embedding"]
    np.testing.assert_allclose(served["embedding"], encoded, rtol=1e-5)
    reconstruction = signatures["reconstruct"](images=tf.constant(IMAGES))["reconstruction"]
    assert reconstruction.shape == IMAGES.shape


@pytest.mark.parametrize("name", ["encode", "reconstruct", "serving_default"])
@pytest.mark.parametrize(
    "shape", [(64, 64, 3), (64, 3), (1, 1, 64, 64, 3), (1, 64, 64, 1), (1, 64, 64, 4)]
)
def test_another_shape_is_reported_as_an_error(signatures, name, shape):
    """Unchecked, an image without a batch axis would kill the process with SIGABRT."""
    shown = ",".join(map(str, shape))
    expected = (
        rf"Shape of tensor images \[{shown}\] is not compatible with expected shape \[\?,\?,\?,3\]"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
        signatures[name](images=tf.zeros(shape, tf.uint8))


@pytest.mark.parametrize("name", ["encode", "reconstruct", "serving_default"])
@pytest.mark.parametrize("shape", [(0, 64, 64, 3), (1, 0, 64, 3), (1, 64, 0, 3), (0, 0, 0, 3)])
def test_no_images_and_images_without_pixels_are_refused(signatures, name, shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="are empty: N, H and W must be at"):
        signatures[name](images=tf.zeros(shape, tf.uint8))


def test_another_type_is_reported_as_an_error(signatures):
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="a uint8 tensor but is a float tensor"
    ):
        signatures["encode"](images=tf.zeros((1, 64, 64, 3)))


def test_an_export_without_serving_default_loads(saved_model, tmp_path):
    """As earlier versions wrote it: `encode` and `reconstruct` only, without checks."""
    encoder, facts = artifact.load_encoder(saved_model)

    class Before(tf.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        @tf.function(input_signature=[artifact.IMAGES])
        def encode(self, images):
            return self.encoder(pipeline.normalize(images, facts.normalization), training=False)

    module, path = Before(), tmp_path / "before"
    tf.saved_model.save(module, str(path), signatures={"encode": module.encode})
    (path / artifact.FACTS).write_text(
        (tf.io.gfile.GFile(f"{saved_model}/{artifact.FACTS}")).read()
    )
    again, _ = artifact.load_encoder(str(path))
    np.testing.assert_array_equal(again.get_weights()[0], encoder.get_weights()[0])
    before, now = (mgta_tf.embed(p, IMAGES).vectors for p in (str(path), saved_model))
    np.testing.assert_allclose(before, now, rtol=1e-5)


def test_the_keras_model_takes_unnormalized_images(saved_model, signatures):
    model = mgta_tf.load_encoder(saved_model)
    assert model.facts.image_size == 32
    expected = signatures["encode"](images=tf.constant(IMAGES))
    for images in (IMAGES, IMAGES.astype(np.float32)):
        for name, values in model(images).items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-5)


def test_the_keras_model_can_be_fine_tuned_and_saved(saved_model, tmp_path):
    model = mgta_tf.load_encoder(saved_model)
    head = tf.keras.layers.Dense(2, "softmax")(model.output["embedding"])
    classifier = tf.keras.Model(model.input, head)
    classifier.compile("sgd", "sparse_categorical_crossentropy")
    before = model.get_weights()[0].copy()
    classifier.fit(IMAGES, np.array([0, 1, 0]), verbose=0)
    assert np.abs(model.get_weights()[0] - before).max() > 0
    classifier.save(tmp_path / "classifier.keras")
    again = tf.keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(again(IMAGES), classifier(IMAGES), rtol=1e-5)


def test_tflite_gives_the_same_features(saved_model, signatures):
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model, signature_keys=["encode"])
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    found = interpreter.get_signature_runner("encode")(images=IMAGES)
    for name, expected in signatures["encode"](images=tf.constant(IMAGES)).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"width": 1, "blocks": 3}',
        '{"width": 1, "blocks": [1, 1, 1, 1], "normalization": "x"}',
    ],
)
def test_damaged_facts_are_named(tmp_path, text):
    (tmp_path / artifact.FACTS).write_text(text)
    with pytest.raises(UserError, match=r"mgta_tf\.json: damaged"):
        artifact.read_facts(str(tmp_path))


def test_a_folder_without_facts_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no mgta_tf\.json"):
        mgta_tf.load_encoder(str(tmp_path))
