"""The search: its hits, its output, its table, and its page, also in a browser."""

import importlib.resources
import re
import shutil

import browser
import pytest
from PIL import Image

from mgta_tf import config as config_lib
from mgta_tf import search
from mgta_tf.data.shapes import single_object
from mgta_tf.embed import __main__ as embed
from mgta_tf.errors import UserError
from mgta_tf.runtime.progress import counting

pytestmark = pytest.mark.usefixtures("loaded_once")
ODD = 'a, "b" <i>&.png'


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """12 images, and two copies of 03.png: one exact, one smaller."""
    folder = tmp_path_factory.mktemp("search") / "photos"
    folder.mkdir()
    for number in range(12):
        Image.fromarray(single_object(number, 0)).save(folder / f"{number:02d}.png")
    shutil.copy(folder / "03.png", folder / ODD)
    Image.open(folder / "03.png").resize((48, 48)).save(folder / "small.png")
    return folder


def run(saved_model, photos, **flags):
    leaves = {"saved_model": saved_model, "data_dir": str(photos), **flags}
    search.main(config_lib.from_dict(search.SearchConfig, leaves))


def test_the_query_is_not_its_own_hit_and_its_copy_is_the_first(saved_model, photos, capsys):
    run(saved_model, photos, query=str(photos / "03.png"), top=3)
    lines = capsys.readouterr().out.splitlines()
    start = lines.index(f"nearest to {photos / '03.png'}:")
    found = [line.split(maxsplit=1) for line in lines[start + 1 :]]
    assert len(found) == 3
    assert found[0] == ["0.000", ODD]
    assert found[1][1] == "small.png"
    assert "03.png" not in [name for _, name in found]
    distances = [float(distance) for distance, _ in found]
    assert distances == sorted(distances)


def test_several_queries_and_a_name_with_a_comma(saved_model, photos, capsys):
    run(saved_model, photos, query=f"{photos / '00.png'},{photos / '01.png'}", top=1)
    run(saved_model, photos, query=str(photos / ODD), top=1)
    found = re.findall(r"nearest to (.*):\n  \d\.\d{3}  (.*)", capsys.readouterr().out)
    assert [query for query, _ in found] == [str(photos / n) for n in ("00.png", "01.png", ODD)]
    assert found[2][1] == "03.png"


def test_duplicates_are_the_copies(saved_model, photos, capsys, tmp_path, monkeypatch):
    """An untrained encoder puts most images close together; only copies are duplicates."""
    page, flags = tmp_path / "d.html", {"duplicates": True, "duplicate_distance": 1.5}
    bars = []
    with monkeypatch.context() as patch:
        patch.setattr(search, "counting", lambda *of: bars.append(counting(*of)) or bars[-1])
        run(saved_model, photos, output=str(page), **flags)
    assert [bar.share() for bar in bars] == [1.0, 1.0]  # neighbors, then their thumbnails
    out = capsys.readouterr().out
    assert "groups of near-duplicates (distance ≤ 1.5): 1; copies: 2" in out
    assert f"  03.png, {ODD}, small.png\n" in out
    assert page.read_text().count("data:image/jpeg") == 3
    assert "3 photographs" in page.read_text()
    run(saved_model, photos, duplicates=True, duplicate_distance=1e-5)
    assert f"  03.png, {ODD}\n" in capsys.readouterr().out


def test_a_folder_without_duplicates(saved_model, photos, capsys, tmp_path):
    for name in ("00.png", "01.png", "02.png"):
        shutil.copy(photos / name, tmp_path / name)
    run(saved_model, tmp_path, duplicates=True, duplicate_distance=0.0)
    assert "groups of near-duplicates (distance ≤ 0): 0; copies: 0" in capsys.readouterr().out


def test_a_table_is_reused_and_refused_for_other_photographs(
    saved_model, photos, tmp_path, capsys, monkeypatch
):
    copy, table = tmp_path / "copy", str(tmp_path / "t.npz")
    shutil.copytree(photos, copy)
    leaves = {"saved_model": saved_model, "data_dir": str(copy), "output": table}
    embed.main(config_lib.from_dict(embed.EmbedConfig, leaves))
    query = str(copy / "05.png")
    run(saved_model, copy, query=query, embeddings=str(tmp_path / "new.npz"))
    assert (tmp_path / "new.npz").read_bytes() == (tmp_path / "t.npz").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(search.stream, "blocks", None)  # nothing is encoded
        run(saved_model, copy, query=query, embeddings=table)
    run(saved_model, copy, query=query)
    by_table, by_encoding = re.findall(r"nearest to (.*\n(?:  .*\n)+)", capsys.readouterr().out)[1:]
    assert by_table == by_encoding
    Image.fromarray(single_object(77, 0)).save(copy / "05.png")
    with pytest.raises(UserError, match=r"t\.npz: made from another encoder, or the photographs"):
        run(saved_model, copy, query=query, embeddings=table)
    with pytest.raises(UserError, match="made from another encoder"):
        run(saved_model, photos, query=query, embeddings=table, endpoint="res5")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "--query=PHOTO or --duplicates is required"),
        ({"query": "nowhere.jpg"}, "--query=nowhere.jpg: no such file"),
        ({"duplicates": True, "saved_model": ""}, "--saved_model is required"),
        ({"duplicates": True, "embeddings": "t.csv"}, r"--embeddings=t\.csv: must end in \.npz"),
    ],
)
def test_flags_that_are_missing_or_wrong(saved_model, photos, flags, message):
    with pytest.raises(UserError, match=message):
        run(**{"saved_model": saved_model, "photos": photos, **flags})


@pytest.fixture(scope="module")
def page(saved_model, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "hits.html"
    query = f"{photos / '03.png'},{photos / '07.png'}"
    run(saved_model, photos, query=query, duplicates=True, output=str(path))
    return path


def test_the_page_is_self_contained_and_its_names_are_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert "<i>" not in text
    assert "a, &#34;b&#34; &lt;i&gt;&amp;.png" in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert text.count("data:image/jpeg") >= 2 * (1 + 12) + 2
    assert len(text) < 600_000


@pytest.mark.skipif(
    bool(browser.MISSING),
    reason=f"no {' and no '.join(browser.MISSING)}: apt-get install chromium chromium-driver",
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_the_page_in_a_browser(page, width, scheme):
    with browser.chromium() as driver:
        browser.resize(driver, width, 900, scheme)
        driver.get(page.as_uri())
        assert not [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
        wide = driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width
        sizes = driver.execute_script(
            "return [...document.images].map(i => [i.naturalWidth, i.clientWidth, i.clientHeight])"
        )
        assert min(min(size) for size in sizes) >= 90
        axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text()
        driver.execute_script(axe)
        found = driver.execute_async_script("axe.run().then(arguments[0])")
        assert [violation["id"] for violation in found["violations"]] == []
        assert len(found["passes"]) > 10
