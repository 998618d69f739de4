"""Names in little memory, against a list of them."""

import array
import random
import tracemalloc

import numpy as np
import pytest

from mgta_tf.data.names import Names

ODD = ["", "a", "b/ä.jpg", "\udcff\udcfe.png", "a", "x" * 1000, "日本/\n\x1b.png", ""]


@pytest.mark.parametrize("given", [[], [""], ODD, [f"{n}.jpg" for n in range(300)]])
def test_they_are_a_list_of_the_same_strings(given):
    names = Names(given)
    assert len(names) == len(given)
    assert names == given
    assert names == tuple(given)
    assert tuple(given) == names
    assert names == Names(iter(given))
    assert [*names] == given
    assert names[1:5] == given[1:5]
    assert names[::-2] == given[::-2]
    for number in range(-len(given), len(given)):
        assert names[number] == given[number]
    for number in (len(given), -len(given) - 1):
        with pytest.raises(IndexError):
            names[number]
    assert sorted(names) == sorted(given)


def test_other_names_are_not_equal():
    names = Names(ODD)
    shuffled = random.Random(0).sample(ODD, len(ODD))
    for other in (shuffled, ODD[:-1], [*ODD, ""], Names(["".join(ODD)]), None, 3):
        assert names != other
    assert Names(["ab", "c"]) != Names(["a", "bc"])


def test_more_text_than_fits_32_bits():
    names = Names(ODD)
    names._ends = array.array("B", names._ends[:4])  # as "I", which holds no more than 255
    names._text = names._text[: names._ends[-1]]
    for name in ODD[4:]:
        names.append(name)
    assert names == ODD


@pytest.mark.parametrize("given", [[], [""], ODD, [f"{n}.jpg" for n in range(300)]])
@pytest.mark.parametrize("at_once", [1, 7, 2**20])  # characters end anywhere
def test_they_survive_a_file(tmp_path, monkeypatch, given, at_once):
    monkeypatch.setattr("mgta_tf.data.names.DECODED_AT_ONCE", at_once)
    np.savez(tmp_path / "names.npz", *Names(given).arrays())
    with np.load(tmp_path / "names.npz") as stored:
        names = Names.from_arrays(*stored.values())
    assert names == given
    names.append("new")
    assert names == [*given, "new"]


TEXT, ENDS = np.frombuffer("aéb".encode(), np.uint8), np.array([1, 3, 4], np.uint32)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (TEXT, ENDS.astype(np.int32)),
        (TEXT.view(np.int8), ENDS),
        (TEXT, ENDS[:2]),
        (TEXT, np.zeros(0, np.uint32)),
        (TEXT[:3], ENDS),
        (TEXT.reshape(2, 2), ENDS),
        (TEXT, ENDS.reshape(3, 1)),
        (TEXT, np.array([3, 1, 4], np.uint32)),
        (TEXT, np.array([1, 9, 4], np.uint32)),
        (TEXT, np.array([2, 3, 4], np.uint32)),  # within a character
        (np.frombuffer(b"a\xff\xe9b", np.uint8), ENDS),
        (TEXT[:2], np.array([1, 2], np.uint64)),  # a character that is cut off
    ],
)
def test_damaged_names_are_refused(text, ends):
    assert Names.from_arrays(TEXT, ENDS) == ["a", "é", "b"]
    with pytest.raises(ValueError, match=r"its names|codec can't decode"):
        Names.from_arrays(text, ends)


def test_a_name_takes_four_bytes_beside_its_text():
    tracemalloc.start()
    names = Names(f"class {n % 1000:04d}/image {n:08d}.jpg" for n in range(50_000))
    held = tracemalloc.get_traced_memory()[0] / len(names)
    tracemalloc.stop()
    assert held < 1.25 * (29 + 4)  # both grow in steps
