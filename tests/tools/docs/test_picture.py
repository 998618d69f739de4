"""The picture of a run."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from mgta_tf.errors import UserError
from mgta_tf.reporting import record
from mgta_tf.runtime import pictures
from tools.docs import picture


def test_it_shows_reconstructions_and_clusters(finished, tmp_path):
    path = tmp_path / "new" / "run.jpg"
    picture.main(picture.PictureConfig(workdir=str(finished), output=str(path)))
    with Image.open(path) as image:
        assert image.width > 900
        assert len(image.getcolors(2**24)) > 1000


def test_a_run_without_clusters_shows_photographs_beside_their_nearest(finished):
    """Features that say the row of the sheet: the nearest of a query are the rows around it."""
    found = record.read(str(finished)).members
    count, side = len(found.label), 16
    gray = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(side, 1).repeat(side, 2)
    sheet = pictures.sheet(gray.repeat(3, 3))
    members = dataclasses.replace(
        found,
        coordinates=np.arange(count, dtype=np.float32)[:, None],
        sprites=pictures.jpeg(sheet, quality=95),
        thumbnail=side,
    )
    figure = picture.of_neighbors(members)
    assert len(figure.axes) == picture.QUERIES
    strip = figure.axes[2].get_images()[0].get_array()
    assert strip.shape == (side, side * (1 + picture.NEAREST) + pictures.GAP, 3)
    query, nearest = (
        int(strip[side // 2, side // 2, 0]),
        strip[side // 2, side + pictures.GAP + side // 2 :: side, 0],
    )
    wanted = [query + d for d in range(-6, 7) if d]
    np.testing.assert_allclose(np.sort(nearest.astype(int)), wanted, atol=2)


def test_missing_input_is_reported(finished, tmp_path):
    with pytest.raises(UserError, match="--output is required"):
        picture.main(picture.PictureConfig(workdir=str(finished)))
    with pytest.raises(UserError, match="no such picture"):
        picture.opened(str(tmp_path / "x.jpg"))
