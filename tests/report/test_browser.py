"""The page in a real browser, from a file: quick, silent, without the network, by keyboard, at desk and on the phone.

Screenshots are kept with the test's other files.
"""

from pathlib import Path

import pytest

from diffusionmtl.report.collect import PictureSettings, report_of_run
from diffusionmtl.report.page import write
from tests.browser import in_a_browser
from tests.report.test_collect import make_run
from tests.toy import ToyDataset

pytestmark = in_a_browser
PATIENCE = 120_000
LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    run = make_run(tmp_path_factory.mktemp("run") / "feature", "feature", 50.0)
    pictures = PictureSettings(training=1, unseen=1, surveyed=2, samples=2)
    return write(report_of_run(run, ToyDataset(), ToyDataset(3), pictures=pictures), run / "report.html")


@pytest.fixture(params=[("light", 1280), ("dark", 1280), ("light", 390)], ids=["day", "night", "phone"])
def page(browser, report, request, record_testsuite_property):
    """Opened at one width by day or night; closed only if it was silent and asked nobody for anything."""
    scheme, width = request.param
    found = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    found.set_default_timeout(PATIENCE)
    asked, said = [], []
    found.on("request", lambda sent: asked.append(sent.url))
    found.on("console", lambda message: said.append(message.text))
    found.on("pageerror", lambda error: said.append(str(error)))
    found.goto(report.as_uri())
    record_testsuite_property(f"milliseconds to load: {request.node.name}", found.evaluate(LOADED))
    yield found
    assert not said
    assert not [url for url in asked if not url.startswith((report.as_uri(), "data:"))]
    found.close()


def test_everything_is_there_and_fits_the_width(page, tmp_path):
    assert page.evaluate(f"{LOADED} > 0")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pictures = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    assert page.evaluate(pictures)
    for title in ("Confusion matrix", "Predicted beside labelled", "Reliability", "Whether doubt finds errors"):
        assert page.locator("figcaption", has_text=title).first.is_visible()
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    night = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (paper == "rgb(21, 24, 27)") == night


def test_a_slider_moves_by_keyboard(page):
    slider = page.locator('input[type="range"]').first
    slider.focus()
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "100 % initial"
    page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "99 % initial"
    shown = "document.querySelector('.stack').style.getPropertyValue('--share')"
    assert page.evaluate(shown) == "99%"


def test_a_fold_and_the_choice_of_a_task_open_by_keyboard(page):
    folds = page.locator("details.steps")
    assert folds.first.evaluate("fold => fold.open")
    folds.last.locator("summary").focus()
    page.keyboard.press("Enter")
    assert folds.last.evaluate("fold => fold.open")
    page.locator('.choose input[value="t0"]').focus()
    page.keyboard.press("ArrowRight")
    assert page.locator('.task[data-task="t1"]').first.is_visible()
    assert not page.locator('.task[data-task="t0"]').first.is_visible()
    page.locator(".skip").focus()
    assert page.locator(".skip").bounding_box()["x"] >= 0
