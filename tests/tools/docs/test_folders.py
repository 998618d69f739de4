"""The folders of the first hour: the choice of photographs, and how they are changed."""

import os

import numpy as np
import pytest
from PIL import Image

from mgta_tf.data import images
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.errors import UserError
from tools.docs import folders


def test_a_source_is_used_up_before_the_next():
    chosen = list(folders.choose([3, 50, 9], 20))
    assert sorted(row for source, row in chosen if source == 0) == [0, 1, 2]
    rest = [row for source, row in chosen if source == 1]
    assert len(rest) == len(set(rest)) == 17
    assert not any(source == 2 for source, _ in chosen)
    with pytest.raises(UserError, match="62 photographs are fewer than 63"):
        list(folders.choose([3, 50, 9], 63))


def test_a_photograph_changes_its_shape_and_size_but_not_its_proportions():
    """A grid of square cells, 8 px wide: after any change they are still square."""
    x = np.arange(160) // 8 % 2 * 255
    image = Image.fromarray(np.stack([x[None].repeat(120, 0), x[:120, None].repeat(160, 1)], 2)
                            .astype(np.uint8)[..., [0, 1, 1]])  # fmt: skip
    shapes = set()
    for seed in range(12):
        found = folders.changed(image, np.random.default_rng(seed))
        shapes.add(round(found.width / found.height, 1))
        pixels = np.asarray(found)
        across = np.abs(np.diff(pixels[found.height // 2, :, 0].astype(int) > 127)).sum()
        down = np.abs(np.diff(pixels[:, found.width // 2, 1].astype(int) > 127)).sum()
        assert found.width / (across + 1) == pytest.approx(found.height / (down + 1), rel=0.25)
    assert len(shapes) > 2


def test_a_folder_is_mixed_readable_and_reproducible(tmp_path):
    os.mkdir(tmp_path / "from")
    rng = np.random.default_rng(0)
    for number in range(40):
        pixels = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "from" / f"{number}.png")
    sources = [open_source(DataConfig(data_dir=str(tmp_path / "from")))]
    contents = []
    for name in ("one", "other"):
        folders.write_folder(sources, 40, str(tmp_path / name))
        made = open_source(DataConfig(data_dir=str(tmp_path / name)))
        assert len(made.names) == 40
        contents.append({one: made.read(row) for row, one in enumerate(made.names)})
    assert contents[0] == contents[1]
    suffixes = {os.path.splitext(name)[1] for name in contents[0]}
    assert len(suffixes) > 5
    sizes = {images.decode(content).shape for content in contents[0].values()}
    assert len(sizes) > 20
