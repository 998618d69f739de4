"""The command: order, skipped images, interruptions; and the same from Python."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import mgta_tf
from mgta_tf import config as config_lib
from mgta_tf.data.shapes import single_object
from mgta_tf.embed import __main__ as command
from mgta_tf.embed import stream
from mgta_tf.errors import UserError

pytestmark = pytest.mark.usefixtures("loaded_once")
COUNT = 11
SHORT = b"\x89PNG\r\n\x1a\n" + bytes(20)  # the signature of a PNG, without an image


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        Image.fromarray(single_object(number, 0)[::2, ::2]).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", 4)


def run(saved_model, photos, output, **flags):
    leaves = {"saved_model": saved_model, "data_dir": str(photos), "output": str(output), **flags}
    command.main(config_lib.from_dict(command.EmbedConfig, leaves))


def expected(saved_model, photos):
    pixels = [np.asarray(Image.open(path)) for path in sorted(photos.glob("*.png"))]
    signature = tf.saved_model.load(saved_model).signatures["encode"]
    return signature(images=tf.constant(np.stack(pixels)))["embedding"].numpy()


def test_names_and_vectors_in_the_order_of_the_data(saved_model, photos, tmp_path):
    run(saved_model, photos, tmp_path / "t.npz", batch_size=3)
    found = np.load(tmp_path / "t.npz")
    assert found["name"].tolist() == [f"{number:02d}.png" for number in range(COUNT)]
    np.testing.assert_allclose(
        found["embedding"], expected(saved_model, photos), rtol=1e-4, atol=1e-5
    )
    assert sorted(os.listdir(tmp_path)) == ["photos", "t.npz"]


def test_feature_maps_are_averaged(saved_model, photos, tmp_path):
    run(saved_model, photos, tmp_path / "t.npz", endpoint="res4")
    table = mgta_tf.embed(saved_model, photos, endpoint="res4", progress=False)
    np.testing.assert_array_equal(np.load(tmp_path / "t.npz")["embedding"], table.vectors)
    signature = tf.saved_model.load(saved_model).signatures["encode"]
    first = signature(images=tf.constant(np.asarray(Image.open(photos / "00.png"))[None]))["res4"]
    np.testing.assert_allclose(table.vectors[0], first[0].numpy().mean((0, 1)), rtol=1e-4)


def test_unreadable_images_are_skipped_and_listed(saved_model, photos, tmp_path):
    for number in range(4, 8):  # a whole block
        (photos / f"{number:02d}.png").write_bytes(SHORT)
    message = r"4 of 11 images cannot .*0\.01 allows; the first is 04\.png.*t\.npz\.skipped\.txt"
    with pytest.raises(UserError, match=message):
        run(saved_model, photos, tmp_path / "t.npz")
    run(saved_model, photos, tmp_path / "t.npz", max_bad_fraction=0.5)
    found = np.load(tmp_path / "t.npz")
    assert found["name"].tolist() == [f"{n:02d}.png" for n in (0, 1, 2, 3, 8, 9, 10)]
    assert found["embedding"].shape == (7, 128)
    lines = (tmp_path / "t.npz.skipped.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [f"{n:02d}.png" for n in (4, 5, 6, 7)]
    with pytest.warns(UserWarning, match=r"photos: 7 images encoded; 4 skipped \(4 "):
        table = mgta_tf.embed(saved_model, photos, progress=False)
    np.testing.assert_array_equal(table.vectors, found["embedding"])


class Killed(BaseException):
    pass


def interrupt(monkeypatch, saved_model, photos, output, after):
    """Runs the command until `after` blocks are saved and the next one is written in part."""
    add, count = stream.Partial.add, [0]

    def dying(self, state, block):
        if count[0] == after:
            self._file.write(b"half a block")
            self._file.flush()
            self._file.close()
            raise Killed
        count[0] += 1
        add(self, state, block)

    with monkeypatch.context() as patch:
        patch.setattr(stream.Partial, "add", dying)
        with pytest.raises(Killed):
            run(saved_model, photos, output, batch_size=3)
    assert not output.exists()


def encoded(monkeypatch):
    """Counts the images that are encoded from now on."""
    count, blocks = [0], stream.blocks

    def counting(*args):
        for block in blocks(*args):
            count[0] += block.last - block.first
            yield block

    monkeypatch.setattr(stream, "blocks", counting)
    return count


def test_an_interrupted_table_has_the_same_bytes_in_the_end(
    saved_model, photos, tmp_path, monkeypatch
):
    run(saved_model, photos, tmp_path / "whole.npz", batch_size=3)
    interrupt(monkeypatch, saved_model, photos, tmp_path / "t.npz", after=2)
    count = encoded(monkeypatch)
    run(saved_model, photos, tmp_path / "t.npz", batch_size=3)
    assert count == [COUNT - 8]
    assert (tmp_path / "t.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not (tmp_path / "t.npz.unfinished").exists()


@pytest.mark.parametrize("change", ["content", "name", "endpoint", "state", "vectors"])
def test_unfinished_work_on_other_inputs_is_redone(
    saved_model, photos, tmp_path, monkeypatch, change
):
    interrupt(monkeypatch, saved_model, photos, tmp_path / "t.npz", after=2)
    unfinished, flags = tmp_path / "t.npz.unfinished", {}
    if change == "content":  # another photograph under the same name
        Image.fromarray(single_object(99, 0)[::2, ::2]).save(photos / "01.png")
    elif change == "name":
        (photos / "10.png").rename(photos / "10a.png")
    elif change == "endpoint":
        flags["endpoint"] = "res5"
    elif change == "state":
        (unfinished / "state.json").write_text("{")
    else:
        (unfinished / "vectors.f32").write_bytes(b"")
    count = encoded(monkeypatch)
    run(saved_model, photos, tmp_path / "t.npz", batch_size=3, **flags)
    assert count == [COUNT]
    if change in ("content", "name"):
        found = np.load(tmp_path / "t.npz")["embedding"]
        np.testing.assert_allclose(found, expected(saved_model, photos), rtol=1e-4, atol=1e-5)


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_two_processes_do_not_write_one_table(saved_model, photos, tmp_path):
    folder = tmp_path / "t.npz.unfinished"
    folder.mkdir()
    command_line = [sys.executable, "-c", HOLD, str(folder / "vectors.f32")]
    with subprocess.Popen(command_line, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another process is writing it"):
            run(saved_model, photos, tmp_path / "t.npz")
        other.stdin.close()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"output": ""}, "--output is required"),
        ({"output": "x.json"}, "must end in"),
        ({"saved_model": ""}, "--saved_model is required"),
        ({"saved_model": "nowhere"}, "nowhere: no mgta_tf.json"),
        ({"data_dir": "nowhere"}, "--data_dir=nowhere"),
    ],
)
def test_flags_that_are_missing_or_wrong(saved_model, photos, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        run(**{"saved_model": saved_model, "photos": photos, "output": tmp_path / "t.npz", **flags})


ORDERS = """
import {first}
import mgta_tf
assert not [name for name in ("numpy", "tensorflow") if name in sys.modules], "not light"
{second}
assert callable(mgta_tf.embed), mgta_tf.embed
from mgta_tf.embed import table
import mgta_tf.embed.stream
from mgta_tf import embed
assert embed is mgta_tf.embed and callable(embed)
"""


@pytest.mark.parametrize("first", ["mgta_tf", "mgta_tf.embed"])
@pytest.mark.parametrize("second", ["import mgta_tf.embed", "import mgta_tf.embed.__main__"])
def test_function_and_command_share_a_name(first, second):
    code = "import sys\n" + ORDERS.format(first=first, second=second)
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_runs_as_a_module_without_other_output():
    done = subprocess.run(
        [sys.executable, "-m", "mgta_tf.embed", "--output=x.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == "mgta_tf: error: --saved_model is required: the folder that mgta_tf.export wrote\n"
    )
