"""The transformer against the SavedModel itself, and against scikit-learn's own checks."""

import pickle

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from mgta_tf.data.shapes import label_of, single_object
from mgta_tf.errors import UserError
from mgta_tf.sklearn import Encoder


@pytest.fixture(scope="module")
def images():
    return np.stack([single_object(number, 0)[::2, ::2] for number in range(12)])


@pytest.mark.parametrize("endpoint", ["embedding", "res4"])
def test_it_matches_the_signature_in_batches(saved_model, images, endpoint):
    found = Encoder(saved_model, endpoint=endpoint, batch_size=5).fit_transform(images)
    signature = tf.saved_model.load(saved_model).signatures["encode"]
    expected = signature(tf.constant(images))[endpoint].numpy()
    if endpoint == "res4":
        assert expected.shape[1:3] == (2, 2)
        expected = expected.mean((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_files_are_read_as_they_are_for_training(encoder, images, tmp_path):
    paths = []
    for number, image in enumerate(images[:3]):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    assert encoder.size_ == 32
    np.testing.assert_array_equal(encoder.transform(paths), encoder.transform(images[:3]))
    np.testing.assert_array_equal(encoder.transform(np.array(paths)), encoder.transform(images[:3]))


@pytest.fixture(scope="module")
def encoder(saved_model):
    return Encoder(saved_model, batch_size=5).fit()


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(images):
        Image.fromarray(image).save(path / f"{number:02d}.png")
    return path


@pytest.mark.parametrize(
    "form",
    [
        lambda paths: paths,
        lambda paths: [str(path) for path in paths],
        lambda paths: np.array([str(path) for path in paths]),
        lambda paths: np.array([[str(path)] for path in paths], object),
        lambda paths: (path for path in paths),
        lambda paths: paths[0].parent,
        lambda paths: str(paths[0].parent),
        lambda paths: [np.asarray(Image.open(path)) for path in paths],
        lambda paths: [Image.open(path) for path in paths],
        lambda paths: (Image.open(path).convert("RGBA") for path in paths),
        lambda paths: pd.Series([str(path) for path in paths], index=range(90, 90 + len(paths))),
        lambda paths: pd.Series(paths, index=[f"row {i}" for i in range(len(paths))]),
        lambda paths: pd.DataFrame({"path": [str(path) for path in paths]}),
        lambda paths: pd.DataFrame({"path": paths, "label": 0})["path"],
        lambda paths: tf.data.Dataset.from_tensor_slices(
            (np.stack([np.asarray(Image.open(path)) for path in paths]), np.zeros(len(paths)))
        ),
    ],
)
def test_all_forms_of_images_are_accepted(encoder, images, folder, form):
    found = encoder.transform(form(sorted(folder.glob("*.png"))))
    np.testing.assert_array_equal(found, encoder.transform(images))


def test_a_single_image_and_no_images(encoder, images, folder):
    expected = encoder.transform(images[:1])
    for one in (folder / "00.png", str(folder / "00.png"), Image.fromarray(images[0]), images[0]):
        np.testing.assert_array_equal(encoder.transform(one), expected)
    for none in ([], (), np.array([]), images[:0], iter([]), pd.Series([], dtype=str)):
        assert encoder.transform(none).shape == (0, expected.shape[1])


def test_pil_images_are_read_as_files_are(encoder, tmp_path):
    """Transparency, EXIF orientation and CMYK are treated in the same way."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (32, 48, 3)).astype(np.uint8))
    clear = rgb.copy()
    clear.putalpha(Image.fromarray(rng.integers(0, 256, (32, 48)).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6
    saved = [("clear.png", clear, {}), ("turned.png", rgb, {"exif": exif})]
    saved += [("palette.png", rgb.quantize(16), {}), ("gray.png", rgb.convert("L"), {})]
    saved += [("cmyk.jpg", rgb.convert("CMYK"), {})]
    for name, image, options in saved:
        image.save(tmp_path / name, **options)
        found = encoder.transform([Image.open(tmp_path / name)])
        expected = encoder.transform([tmp_path / name])
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_names_of_features_and_pandas_output(saved_model, folder):
    paths = pd.DataFrame({"path": [str(p) for p in sorted(folder.glob("*.png"))]})
    paths.index += 50
    encoder = Encoder(saved_model).set_output(transform="pandas")
    found = encoder.fit_transform(paths)
    assert list(found.columns) == list(encoder.get_feature_names_out())
    assert (found.columns[0], found.columns[-1]) == ("encoder0", "encoder127")
    assert list(found.index) == list(paths.index)
    columns = make_column_transformer((Encoder(saved_model), "path"), ("passthrough", ["size"]))
    assert columns.fit_transform(paths.assign(size=1)).shape == (len(paths), 129)
    assert columns.get_feature_names_out()[0] == "encoder__encoder0"


def test_it_works_in_a_pipeline_and_can_be_cloned_and_pickled(saved_model, images):
    labels = [label_of(number, 0) for number in range(len(images))]
    pipeline = make_pipeline(Encoder(saved_model), LogisticRegression(C=1e4, max_iter=2000))
    predicted = pipeline.fit(images, labels).predict(images)
    again = pickle.loads(pickle.dumps(pipeline)).predict(images)
    np.testing.assert_array_equal(predicted, again)
    assert clone(pipeline[0]).get_params() == pipeline[0].get_params()


@pytest.mark.filterwarnings("error::sklearn.exceptions.EstimatorCheckFailedWarning")
def test_it_passes_scikit_learns_estimator_checks(saved_model):
    """The checks of the interface; those that feed numeric vectors do not apply to images."""
    with pytest.warns(SkipTestWarning, match="requires input"):
        check_estimator(Encoder(saved_model))


def test_refusals(saved_model, encoder, images, tmp_path):
    with pytest.raises(NotFittedError, match="fit first"):
        Encoder(saved_model).transform(images)
    with pytest.raises(UserError, match=r"no mgta_tf\.json"):
        Encoder(str(tmp_path)).fit()
    with pytest.raises(UserError, match="must be one of res2"):
        Encoder(saved_model, endpoint="res6").fit()
    with pytest.raises(UserError, match=r"uint8 \[n, H, W, 3\], not float64 \[12, 32, 32, 3\]"):
        encoder.transform(images / 255)
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"x\.png: "):
        encoder.transform([str(tmp_path / "x.png")])
    with pytest.raises(UserError, match=r"1 of 1 images .*x\.png: "):
        encoder.transform(tmp_path)
    with pytest.raises(UserError, match=r"nowhere\.png: No such file"):
        encoder.transform("nowhere.png")
    with pytest.raises(UserError, match="image 1: float is neither an image nor a path of one"):
        encoder.transform([images[0], 0.5])
    with pytest.raises(UserError, match="a table of several columns; give the one of the images"):
        encoder.transform(pd.DataFrame({"path": ["a"], "label": [1]}))
    with pytest.raises(UserError, match="int: neither images nor paths of images"):
        encoder.transform(5)
