"""The report of finished, interrupted and unlabelled runs, also in a real browser."""

import importlib.resources
import json
import os
import re
import shutil

import browser
import pytest
from PIL import Image
from small import config_of

from mgta_tf import report, train
from mgta_tf.data.shapes import single_object
from mgta_tf.errors import UserError
from mgta_tf.runtime import checkpoints

HOSTILE = "<img src=x onerror=document.title='hacked'>&\"'.png"
PROBE = {"map": 12.5, "per_class": {"a": 12.5}, "top1": 3.0, "knn": {"20": 4.25}}
DETECTION = {"ap50_voc07": 41.5, "ap50_area": 42.0, "coco_ap": 20.25, "per_class": {"a": 41.5}}


def report_of(workdir, **flags):
    report.main(report.ReportConfig(workdir=str(workdir), **flags))
    return workdir / "report.html"


@pytest.fixture(scope="module")
def whole(finished, tmp_path_factory):
    """A finished run with a probe and a detection, and its report beside another run's."""
    folder = tmp_path_factory.mktemp("reports")
    for name in ("mine", "other"):
        ignored = shutil.ignore_patterns("checkpoints", "saved_model")
        shutil.copytree(finished, folder / name, ignore=ignored)
    (folder / "mine" / "probe.json").write_text(json.dumps({**PROBE, "endpoint": "res4"}))
    (folder / "mine" / "detection.json").write_text(json.dumps(DETECTION))
    (folder / "mine" / "k.json").write_text("[1]")  # of another tool; ignored
    flagfile = folder / "other" / "flags.flagfile"
    text = flagfile.read_text().replace("--margin=0.3", "--margin=0.5")
    flagfile.write_text(text.replace("--image_size=32", "--image_size=64"))
    alone = shutil.copy(report_of(folder / "mine"), folder / "alone.html")
    return alone, report_of(folder / "mine", compare=str(folder / "other"))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """Reports of a run on a flat folder, interrupted in its first round and finished."""
    folder = tmp_path_factory.mktemp("unlabelled")
    images = folder / "photos"
    images.mkdir()
    for number in range(64):
        name = HOSTILE if number == 5 else f"{number}.png"
        Image.fromarray(single_object(number, 0)).save(images / name)
    batches = dict(num_clusters=6, clusters_per_batch=2, images_per_cluster=8)
    config = config_of(
        folder / "w", data_source="", data_dir=str(images), probe_every_rounds=0, **batches
    )
    saves = checkpoints.Checkpoints.save

    def save_and_die(self, position):
        saves(self, position)
        if position.turn == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as killing:
        killing.setattr(checkpoints.Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train.train(config)
    interrupted = shutil.copy(report_of(folder / "w"), folder / "interrupted.html")
    train.train(config)
    return interrupted, report_of(folder / "w")


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The report of a run as by default, of two views alone, on a flat folder."""
    folder = tmp_path_factory.mktemp("default")
    (folder / "photos").mkdir()
    for number in range(64):
        Image.fromarray(single_object(number, 0)).save(folder / "photos" / f"{number}.png")
    views = dict(labels="none", decoder="none", iae_epochs=0, rounds=0, views_per_image=2)
    batches = dict(num_clusters=300, clusters_per_batch=8, images_per_cluster=2, final_epochs=4)
    images = dict(data_source="", data_dir=str(folder / "photos"), probe_every_rounds=0)
    train.train(config_of(folder / "w", **views, **batches, **images))
    return report_of(folder / "w")


def test_it_is_one_small_file_that_loads_nothing(whole, default):
    for path in (*whole, default):
        assert path.stat().st_size < 15 * 2**20
        page = path.read_text(encoding="utf-8")
        scripts = re.compile(r"<script.*?</script>|<style>.*?</style>", re.DOTALL)
        assert not re.search(r"(src|href)=.?(https?:)?//", scripts.sub("", page))
        assert "default-src 'none'" in page


def test_a_folder_that_is_no_workdir_is_refused(tmp_path):
    for workdir, message in (("", "--workdir is required"), (str(tmp_path), "no such file")):
        with pytest.raises(UserError, match=message):
            report.main(report.ReportConfig(workdir=workdir))


@pytest.mark.parametrize(
    "name", ["summary.json", "pictures/members.npz", "labels/round_01_net1.npz"]
)
def test_a_damaged_file_is_named(finished, tmp_path, name):
    shutil.copytree(finished, tmp_path / "w", ignore=shutil.ignore_patterns("checkpoints"))
    path = tmp_path / "w" / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged") as error:
        report_of(tmp_path / "w")
    assert str(path) in str(error.value)


# ----------------------------------------------------------------------------------- In a browser

needs_chromium = pytest.mark.skipif(
    bool(browser.MISSING),
    reason=f"no {' and no '.join(browser.MISSING)}: apt-get install chromium chromium-driver",
)
WIDTHS = {"desktop": (1400, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def driver():
    with browser.chromium() as driver:
        yield driver


def visit(driver, path, size="desktop", scheme="light"):
    browser.resize(driver, *WIDTHS[size], scheme)
    driver.get(f"file://{path}")
    driver.get_log("browser")  # drops messages of earlier pages


def text_of(driver):
    return driver.execute_script("return document.body.innerText")


def headings(driver):
    found = driver.find_elements("css selector", "h2")
    return [heading.text for heading in found if heading.text]


@needs_chromium
@pytest.mark.parametrize("size", WIDTHS)
def test_all_parts_are_there_at_both_widths(driver, whole, size):
    browser.resize(driver, *WIDTHS[size])
    driver.get(f"file://{whole[0]}")
    errors = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    assert errors == []
    assert headings(driver) == [
        "In short",
        "Losses",
        "Reconstructions, turn by turn",
        "Clusters",
        "Map of the embedding",
        "Flows between clusters",
        "How good is the encoder?",
        "Settings and time",
    ]
    drawn = "return [...document.querySelectorAll('.plot')].map(p => !!p.querySelector('svg'))"
    assert driver.execute_script(drawn) == [True] * 6
    broken = "return [...document.images].filter(i => !i.naturalWidth).length"
    assert driver.execute_script(broken) == 0
    width = driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= WIDTHS[size][0]
    assert {"12.5", "4.25", "41.5", "20.2"} <= set(re.findall(r"[\d.]+", text_of(driver)))
    tiles = "return [...document.querySelectorAll('.tiles img')].map(i => i.clientWidth)"
    seen = [wide for wide in driver.execute_script(tiles) if wide]  # only visible tiles
    assert len(seen) > 50
    assert min(seen) >= 50


@needs_chromium
@pytest.mark.parametrize("size", WIDTHS)
def test_no_legend_covers_a_curve(driver, whole, size):
    visit(driver, whole[1], size)
    apart = """const box = e => e.getBoundingClientRect();
        return [...document.querySelectorAll('.plot .legend')].map(one => {
            const areas = [...one.closest('.plot').querySelectorAll('.nsewdrag')].map(box);
            const {top, bottom} = box(one);
            return areas.length && areas.every(a => bottom <= a.top || a.bottom <= top);
        })"""
    assert driver.execute_script(apart) == [True] * 3  # losses, agreement, evaluation


@needs_chromium
@pytest.mark.parametrize("size", WIDTHS)
def test_a_click_on_a_cluster_shows_its_members(driver, whole, size):
    visit(driver, whole[0], size)
    button = driver.find_elements("css selector", "#cluster-list button")[0]
    number, images = re.match(r"Cluster (\d+)\s+(\d+) images", button.text).groups()
    driver.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button
    )
    button.click()
    dialog = driver.find_element("id", "members")
    assert dialog.is_displayed()
    assert driver.find_element("id", "members-title").text == f"Cluster {number}"
    assert f"All {images} images" in dialog.text
    assert len(dialog.find_elements("css selector", "li .photo")) == int(images)
    painted = "return getComputedStyle(document.querySelector('#members .thumb')).backgroundImage"
    assert driver.execute_script(painted).startswith('url("data:image/jpeg')
    dialog.find_element("css selector", "button").click()
    assert not dialog.is_displayed()


def click(driver, element):
    center = "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})"
    driver.execute_script(center, element)
    element.click()


def members_data(page, key):
    """A value of the members' data in the page."""
    text = re.search(r'id="data-members">(.*?)</script>', page.read_text(), re.DOTALL).group(1)
    return json.loads(text)[key]


@needs_chromium
@pytest.mark.parametrize("size", WIDTHS)
def test_a_click_on_a_photograph_shows_its_nearest_neighbors(driver, whole, size):
    visit(driver, whole[0], size)
    names, near = members_data(whole[0], "name"), members_data(whole[0], "neighbors")
    queries = driver.find_elements("css selector", "#queries .query")
    assert len(queries) == 5
    photo = queries[2].find_elements("css selector", "button")[1]  # a neighbor of the third
    row = int(photo.get_attribute("data-row"))
    assert row == near[members_data(whole[0], "queries")[2]][0]
    click(driver, photo)
    dialog = driver.find_element("id", "members")
    shown = [item.text.splitlines()[0] for item in dialog.find_elements("css selector", "li")]
    assert shown == [names[i] for i in (row, *near[row])]
    another = dialog.find_elements("css selector", "li button")[3]
    click(driver, another)
    shown = [item.text.splitlines()[0] for item in dialog.find_elements("css selector", "li")]
    assert shown[0] == names[near[row][2]]
    click(driver, dialog.find_element("css selector", "#members-about button"))
    assert driver.find_element("id", "members-title").text.startswith("Cluster")


@needs_chromium
def test_it_begins_with_the_users_questions(driver, whole):
    visit(driver, whole[0])
    asked = [h.text for h in driver.find_elements("css selector", "#short h3")]
    assert asked == ["Did it learn?", "What did it find?", "What next?"]
    rows = driver.find_elements("css selector", "#short table tr")
    cells = [[c.text for c in row.find_elements("css selector", "th, td")] for row in rows]
    assert cells[0] == ["figure", "now", "before training", "by chance", "better if"]
    evaluated = {row[0]: row[1:4] for row in cells[1:]}
    assert all(re.match(r"[\d.]+ %", value) for value in evaluated["20-NN accuracy, own images"])
    commands = driver.find_element("css selector", "#short .next").text
    assert "mgta_tf.search" in commands


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_table_has_an_empty_column(driver, whole, scheme):
    visit(driver, whole[1], "phone", scheme)
    driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    for table in driver.find_elements("css selector", "table.numbers"):
        rows = table.find_elements("css selector", "tbody tr")
        cells = [[c.text for c in row.find_elements("css selector", "th, td")] for row in rows]
        assert all(set(column) != {"–"} for column in zip(*cells))


@needs_chromium
def test_it_can_be_used_from_the_keyboard(driver, whole):
    from selenium.webdriver.common.keys import Keys

    visit(driver, whole[0])
    driver.switch_to.active_element.send_keys(Keys.TAB)
    assert driver.switch_to.active_element.text == "Skip to the report"
    for _ in range(60):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        if driver.switch_to.active_element.get_attribute("data-cluster"):
            break
    button = driver.switch_to.active_element
    button.send_keys(Keys.ENTER)
    assert driver.find_element("id", "members").is_displayed()
    driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not driver.find_element("id", "members").is_displayed()
    assert driver.switch_to.active_element == button


@needs_chromium
def test_the_map_shows_the_image_under_the_pointer(driver, whole):
    from selenium.webdriver import ActionChains

    visit(driver, whole[0])
    points = driver.find_elements("css selector", "#plot-map .point")
    driver.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", points[0]
    )
    ActionChains(driver).move_to_element(points[0]).pause(0.3).perform()
    hover = driver.find_element("id", "hover")
    assert hover.is_displayed()
    assert re.match(r"cluster \d+\n\w+\n", hover.text)


@needs_chromium
def test_a_round_of_labels_can_be_chosen(driver, whole):
    from selenium.webdriver.support.ui import Select

    visit(driver, whole[0])
    shown = "return [...document.querySelectorAll('.gallery')].map(g => g.checkVisibility())"
    assert driver.execute_script(shown) == [False, False, True]
    Select(driver.find_element("id", "labelling")).select_by_visible_text("round 1 · N1")
    assert driver.execute_script(shown) == [True, False, False]


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("clusters", [True, False])
def test_it_passes_axes_accessibility_rules(driver, whole, default, clusters, size, scheme):
    visit(driver, whole[1] if clusters else default, size, scheme)
    axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text()
    driver.execute_script(axe)
    run = "axe.run({exclude: [['.plot > *']]}).then(arguments[0])"  # a plot is one image
    found = driver.execute_async_script(run)
    assert len(found["passes"]) > 20
    faults = [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found["violations"]]
    assert faults == []


@needs_chromium
def test_compared_runs_are_side_by_side(driver, whole):
    visit(driver, whole[1])
    rows = driver.find_elements("css selector", "#compare tr")
    cells = [[c.text for c in row.find_elements("css selector", "th, td")] for row in rows]
    assert cells[0] == ["", "mine", "other"]
    assert ["--margin", "0.3", "0.5"] in cells
    assert not any(row[0] in ("--width", "--workdir") for row in cells)
    legend = driver.find_element("css selector", "#plot-losses .legend").text
    assert set(legend.splitlines()) == {"mine N1", "mine N2", "other N1", "other N2"}
    assert "Compare neither their losses nor their figures" in text_of(driver)  # 32 and 64 px


@needs_chromium
def test_without_labels_it_mentions_no_classes_and_has_no_empty_panel(driver, unlabelled):
    for path in unlabelled:
        visit(driver, path)
        driver.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
        text = text_of(driver).lower()
        assert text.count("class") == text.count("image folder, no class labels") == 1
        assert "How good is the encoder?" not in headings(driver)
        empty = """return [...document.querySelectorAll('section, figure, table, ul, .plot')]
            .filter(e => e.checkVisibility() && !e.innerText.trim())
            .filter(e => !e.querySelector('img, svg, .thumb'))
            .map(e => e.outerHTML.slice(0, 200))"""
        assert driver.execute_script(empty) == []
        for link in driver.find_elements("css selector", "nav a"):
            assert driver.find_elements("css selector", link.get_dom_attribute("href"))


@needs_chromium
def test_a_run_without_clusters_shows_groups_and_has_no_stages(driver, default):
    visit(driver, default)
    titles = [
        *("In short", "Losses", "Groups of similar images", "Map of the embedding"),
        "Settings and time",
    ]
    assert headings(driver) == titles
    groups = driver.find_elements("css selector", "#cluster-list strong")
    assert {re.sub(r"\d+", "N", group.text) for group in groups} == {"Group N"}
    driver.execute_script("arguments[0].click()", groups[0].find_element("xpath", ".."))
    assert re.fullmatch(r"Group \d+", driver.find_element("id", "members-title").text)
    text = text_of(driver).replace("the training has used no clusters", "")
    above = text.partition("Settings and time")[0]
    assert not re.findall(r"(?i)cluster|mgta pre|stage|final|\bN[12]\b", above)
    times = driver.find_elements("css selector", "#run .columns table th[scope=row]")
    assert times[0].text == "training"


@needs_chromium
def test_an_interrupted_run_is_reported_up_to_its_last_turn(driver, unlabelled):
    interrupted, finished = unlabelled
    visit(driver, interrupted)
    assert "not finished: 2 of 7 turns are done" in text_of(driver)
    assert "the last training was IAE" in text_of(driver)
    strips = "return document.querySelectorAll('#reconstructions .tiles').length"
    assert driver.execute_script(strips) == 1 + 1  # originals, IAE
    visit(driver, finished)
    assert "finished" in text_of(driver)
    assert driver.execute_script(strips) == 1 + 4


@needs_chromium
def test_file_names_are_escaped(driver, unlabelled):
    visit(driver, unlabelled[1])
    title = driver.title
    for button in driver.find_elements("css selector", "#cluster-list button"):
        driver.execute_script("arguments[0].click()", button)
        if HOSTILE in driver.find_element("id", "members").text:
            break
        driver.find_element("css selector", "#members button").click()
    else:
        pytest.fail("the image with the hostile name is nowhere")
    assert driver.title == title != "hacked"
    assert not driver.find_elements("css selector", "#members img")


@needs_chromium
@pytest.mark.skipif(
    "MGTA_TINY_IMAGENET" not in os.environ,
    reason="MGTA_TINY_IMAGENET does not name Tiny ImageNet's folder (make report-check)",
)
def test_a_report_of_photographs_with_all_its_parts(driver, tmp_path):
    config = config_of(
        tmp_path / "w",
        data_source="",
        data_dir=os.environ["MGTA_TINY_IMAGENET"],
        num_clusters=100,
        clusters_per_batch=32,
        images_per_cluster=8,
    )
    train.train(config)
    (tmp_path / "w" / "probe.json").write_text(json.dumps(PROBE))
    (tmp_path / "w" / "detection.json").write_text(json.dumps(DETECTION))
    path = report_of(tmp_path / "w")
    assert path.stat().st_size < 15 * 2**20
    for size in WIDTHS:
        test_all_parts_are_there_at_both_widths(driver, (path,), size)
        visit(driver, path, size)
        driver.find_element("id", "more").click()
        buttons = driver.find_elements("css selector", "#cluster-list button")
        assert len(buttons) == 100
        driver.execute_script("arguments[0].click()", buttons[50])
        shown = driver.find_elements("css selector", "#members li .photo")
        assert 0 < len(shown) <= 20  # of 2,000 for 100 clusters
