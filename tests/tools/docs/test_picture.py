"""The picture of a run."""

import pytest
from PIL import Image

from mgta_tf.errors import UserError
from tools.docs import picture


def test_it_shows_reconstructions_and_clusters(finished, tmp_path):
    path = tmp_path / "new" / "run.jpg"
    picture.main(picture.PictureConfig(workdir=str(finished), output=str(path)))
    with Image.open(path) as image:
        assert image.width > 900
        assert len(image.getcolors(2**24)) > 1000


def test_missing_input_is_reported(finished, tmp_path):
    with pytest.raises(UserError, match="--output is required"):
        picture.main(picture.PictureConfig(workdir=str(finished)))
    with pytest.raises(UserError, match="no such picture"):
        picture.opened(str(tmp_path / "x.jpg"))
