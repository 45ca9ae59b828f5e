"""Suggestions of what to annotate next, judged in a browser."""

import json

import pytest

from tests.browser import in_a_browser
from tests.serve.conftest import listening, served

pytestmark = in_a_browser
WISHES = [("room-00002", "depth"), ("room-00000", "semseg"), ("room-00001", "edge")]


@pytest.fixture
def folder(tmp_path):
    """As `diffusionmtl suggest` writes it."""
    images = [{"id": number, "file_name": f"{name}.png"} for number, (name, _) in enumerate(WISHES, start=1)]
    words = {"price": 1.0, "gain": 0.25, "reason": "1.5x the usual uncertainty"}
    tasks = [{"id": i, "image_id": i, "task": task, **words} for i, (_, task) in enumerate(WISHES, start=1)]
    root = tmp_path / "next"
    root.mkdir()
    (root / "tasks.json").write_text(json.dumps({"images": images, "tasks": tasks}))
    return root


@pytest.fixture
def page(browser, predictor, tiny_run, folder, tmp_path):
    with served(predictor, tiny_run, tmp_path, review=folder) as (app, _), listening(app) as address:
        found = browser.new_page()
        found.set_default_timeout(60_000)
        found.goto(address)
        found.get_by_role("tab", name="Review").click()
        yield found
        found.close()


def decisions(folder):
    said = json.loads((folder / "review.json").read_text())["decisions"]
    return {(row["image"], row["task"]): row["decision"] for row in said}


def test_wishes_are_judged_and_each_decision_is_on_disk_before_the_next(page, folder, tmp_path):
    page.get_by_text("depth of room-00002").wait_for()
    assert "1.5x the usual uncertainty" in page.locator("#dm-review").inner_text()
    assert page.locator("#dm-review figcaption").all_inner_texts() == [
        "image",
        "depth: answer now",
        "doubt: bright is unsure",
    ]
    page.screenshot(path=tmp_path / "wishes.png", full_page=True)
    page.click("#dm-accept")
    page.get_by_text("semseg of room-00000").wait_for()
    assert decisions(folder) == {WISHES[0]: "accept"}
    page.keyboard.press("r")
    page.get_by_text("edge of room-00001").wait_for()
    assert decisions(folder) == {WISHES[0]: "accept", WISHES[1]: "reject"}

    page.reload()
    page.get_by_role("tab", name="Review").click()
    page.get_by_text("edge of room-00001").wait_for()
    page.click("#dm-skip")
    page.get_by_text("1 skipped, 0 left").wait_for()
    assert decisions(folder) == dict(zip(WISHES, ("accept", "reject", "skip"), strict=True))
    assert {path.name for path in folder.iterdir()} == {"tasks.json", "review.json"}
