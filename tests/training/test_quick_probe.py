"""The untrained net's agreement with the classes, on features whose agreement is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from small import config_of

from mgta_tf.training import quick_probe

CLASSES = np.arange(300) % 5


def agreement(features, classes=CLASSES, **flags):
    """The agreement if the net's features of image i are features[i]."""
    net = SimpleNamespace(encode=lambda feed, images, endpoint: [features[images]])
    config = config_of("w", **{"num_clusters": 5, **flags})
    return quick_probe._agreement_of_untrained(
        SimpleNamespace(config=config, nets=[net], feed=None), classes
    )


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)


def test_features_separated_by_class_score_100_and_random_ones_score_chance(random):
    separated = np.eye(8, dtype=np.float32)[CLASSES] * 50 + random
    found = agreement(separated)
    assert found == {
        "neighbors": 100,
        "nmi_truth": pytest.approx(1),
        "ari_truth": pytest.approx(1),
        "clustered": 300,
    }
    found = agreement(random)
    assert 10 < found["neighbors"] < 30  # 20 by chance
    assert abs(found["ari_truth"]) < 0.05


def test_images_without_a_class_are_not_counted(random):
    labels = np.where(np.arange(300) < 150, CLASSES, -1)
    features = np.eye(8, dtype=np.float32)[CLASSES] * 50 + random
    features[150:] = random[150:] + 900
    assert agreement(features, labels)["neighbors"] == 100
    assert agreement(features, np.where(np.arange(300) == 0, 0, -1)).keys() == {
        *("nmi_truth", "ari_truth", "clustered")
    }


def test_without_a_given_number_of_clusters_only_neighbors_are_compared(random):
    assert agreement(random, num_clusters="auto").keys() == {"neighbors"}
    views = dict(labels="none", decoder="none", iae_epochs=0, rounds=0, views_per_image=4)
    assert agreement(random, **views).keys() == {"neighbors"}


def test_features_that_cannot_be_clustered_are_no_error():
    assert agreement(np.zeros((300, 8), np.float32)).keys() == {"neighbors"}
