"""The page in a real browser: real clicks, real files. Screenshots are kept with the test's other files."""

import io
import math
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import in_a_browser
from tests.serve.completed import completed_folder
from tests.serve.conftest import LIMITS, listening, photograph, served

pytestmark = in_a_browser
PATIENCE = 60_000


@pytest.fixture(scope="module")
def site(predictor, tiny_run, tmp_path_factory):
    review = completed_folder(tmp_path_factory.mktemp("review") / "completed")
    scratch = tmp_path_factory.mktemp("site")
    with served(predictor, tiny_run, scratch, review=review) as (app, engine), listening(app) as address:
        # The guard knows the names of this machine whatever the port.
        yield address, engine, review


@pytest.fixture
def page(browser, site):
    """A fresh visitor; whatever the page asked for and whatever went wrong in it is kept on it."""
    found = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    found.set_default_timeout(PATIENCE)
    found.asked, found.errors = [], []
    found.on("request", lambda request: found.asked.append(request.url))
    found.on("pageerror", lambda error: found.errors.append(str(error)))
    found.goto(site[0])
    found.wait_for_selector("#dm-predict")
    yield found
    found.close()


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "room.png"
    path.write_bytes(photograph(96, 128))
    return path


def upload(page, path: Path) -> None:
    page.set_input_files("input[type=file]", str(path))


def answered(page) -> None:
    page.wait_for_selector("#dm-answer .dm-card[data-task=depth]")


def test_a_visitor_predicts_looks_and_downloads(page, site, picture, tmp_path):
    upload(page, picture)
    answered(page)
    assert page.locator("#dm-answer .dm-card").count() == 7
    page.screenshot(path=tmp_path / "desktop.png", full_page=True)

    stack = page.locator(".dm-card[data-task=depth] .dm-stack")
    stack.scroll_into_view_if_needed()
    box = stack.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    assert " m" in page.locator(".dm-card[data-task=depth] .dm-value").inner_text()
    assert "°" in page.locator(".dm-card[data-task=normals] .dm-value").inner_text()
    assert page.locator(".dm-card[data-task=semseg] .dm-value").inner_text().strip()
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.5)
    page.mouse.up()
    assert page.locator(".dm").first.evaluate("e => parseFloat(e.style.getPropertyValue('--cut'))") == pytest.approx(
        80, abs=1
    )

    page.locator(".dm-stage").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".dm-stage-name").inner_text() == "step 1"
    assert page.locator(".dm-card[data-task=depth] .dm-before:not([hidden])").get_attribute("data-stage") == "1"
    page.locator(".dm-doubt-strength").focus()
    page.keyboard.press("End")
    assert page.locator(".dm-card[data-task=depth] .dm-doubt").evaluate("e => getComputedStyle(e).opacity") == "1"
    page.screenshot(path=tmp_path / "moved.png", full_page=True)

    read = page.locator(".dm-card[data-task=depth] .dm-value")
    page.locator(".dm-stack[tabindex]").focus()
    places = set()
    for key in ("ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
        assert " m" in read.inner_text()
        places.add(page.locator(".dm-spot").first.get_attribute("style"))
    assert len(places) == 2

    with page.expect_download() as download:
        page.click("#dm-zip")
    archive = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert {"about.json", "depth/room.npy", "steps/semseg/initial.png"} <= set(archive.namelist())
    assert not page.errors
    assert {url for url in page.asked if not url.startswith((site[0], "data:", "blob:"))} == set()


def test_what_is_read_under_the_pointer_is_what_was_predicted(page, picture, predictor):
    upload(page, picture)
    answered(page)
    page.locator(".dm-stack[tabindex]").focus()
    page.keyboard.press("ArrowRight")  # from the middle, by a fiftieth
    said = {
        name: page.locator(f".dm-card[data-task={name}] .dm-value").inner_text()
        for name in ("semseg", "depth", "normals", "edge")
    }
    found = predictor(np.asarray(Image.open(picture)), 4, 0)
    row, column = 48, int(0.52 * 128)

    def at(task):
        return found[task].value[..., row, column].double()

    assert said["semseg"].split(",")[0] == found["semseg"].task.classes[int(at("semseg"))]
    assert re.match(r"([\d.]+) m ± ([\d.]+) m", said["depth"])[1] == f"{float(at('depth')):.2f}"
    x, y, z = at("normals").tolist()
    right, up = (abs(round(math.degrees(angle))) for angle in (math.atan2(x, z), math.asin(y)))
    assert said["normals"].startswith(f"{right}° {'right' if x > 0 else 'left'}, {up}° {'up' if y > 0 else 'down'}")
    assert said["edge"].startswith(f"{float(at('edge')):.2f} ± ")


def test_an_example_is_one_click_away_on_a_phone(page, tmp_path):
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("button.gallery-item, .gallery button, .gallery-item").first.click()
    answered(page)
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    with Image.open(tmp_path / "phone.png") as shot:
        assert shot.width == 390


def test_labels_and_scores_have_a_tab(page, tmp_path):
    page.get_by_role("tab", name="Labels and scores").click()
    page.get_by_text("Labels that training saw").wait_for()
    page.screenshot(path=tmp_path / "scores.png", full_page=True)
    assert page.get_by_role("rowheader", name="depth").first.is_visible()


def test_a_person_reviews_with_buttons_and_keys(page, site, tmp_path):
    review = site[2]
    page.get_by_role("tab", name="Review").click()
    page.get_by_text("1 of 3").wait_for()
    page.screenshot(path=tmp_path / "review.png", full_page=True)
    page.click("#dm-accept")
    page.get_by_text("2 of 3").wait_for()
    page.keyboard.press("r")
    page.get_by_text("1 rejected").wait_for()
    assert (review / "rejected" / "depth" / "image 1.npy").is_file()
    assert (review / "review.json").read_text().count('"decision"') == 2
    page.click("#dm-back")
    page.get_by_text("2 of 3").wait_for()
    page.click("#dm-undo")
    page.get_by_text("0 rejected").wait_for()
    assert not (review / "rejected" / "depth" / "image 1.npy").exists()
    assert not page.errors


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"Dear all,\n", "not a readable image"), (photograph(500, 500, "jpeg"), "the limit is 200,000 pixels")],
    ids=["a letter", "too many pixels"],
)
def test_a_wrong_file_is_explained_and_the_page_goes_on(page, tmp_path, picture, content, words):
    wrong = tmp_path / "wrong.jpg"
    wrong.write_bytes(content)
    upload(page, wrong)
    page.locator("#dm-status").get_by_text(words).wait_for()
    page.screenshot(path=tmp_path / "wrong.png")
    page.get_by_label("Clear").or_(page.get_by_label("Remove Image")).first.click()
    upload(page, picture)
    answered(page)


def test_a_file_of_100_megabytes_does_not_reach_the_network(page, site, tmp_path):
    large = tmp_path / "large.png"
    with large.open("wb") as stream:
        stream.truncate(100_000_000)
    upload(page, large)
    page.get_by_text("maximum", exact=False).or_(page.get_by_text("MB", exact=False)).first.wait_for()
    assert site[1].inside == 0


def test_work_for_a_closed_tab_ends(browser, site, predictor, picture, monkeypatch):
    predict = type(predictor).__call__
    rounds = []

    def long(self, *args, **words):
        for number in range(10_000):
            rounds.append(number)
            predict(self, *args, **words)

    monkeypatch.setattr(type(predictor), "__call__", long)
    visitor = browser.new_page()
    visitor.set_default_timeout(PATIENCE)
    visitor.goto(site[0])
    upload(visitor, picture)
    visitor.locator("#dm-status").get_by_text("predicting").wait_for()
    visitor.close()
    end = time.monotonic() + LIMITS.seconds / 2
    while site[1].inside and time.monotonic() < end:
        time.sleep(0.1)
    assert site[1].inside == 0
