"""A frame of a camera: Chromium brings one that shows a clock."""

import pytest

from diffusionmtl.serve.limits import Limits
from tests.browser import CHROMIUM, in_a_browser
from tests.serve.conftest import listening, served

pytestmark = in_a_browser
PATIENCE = 120_000
FAKE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture
def visitor(predictor, tiny_run, tmp_path):
    """Somebody with a camera; the server, too, allows for its pixels."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    limits = Limits(pixels=4_000_000, samples=2)
    with (
        served(predictor, tiny_run, tmp_path, limits) as (app, _),
        listening(app) as address,
        playwright.sync_playwright() as started,
    ):
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", *FAKE]
        )
        found = browser.new_context(permissions=["camera"]).new_page()
        found.set_default_timeout(PATIENCE)
        found.goto(address)
        yield found
        browser.close()


def test_a_frame_of_the_camera_is_answered(visitor, tmp_path):
    visitor.get_by_label("Capture from camera").click()
    visitor.get_by_text("Click to Access Webcam").click()
    visitor.get_by_label("capture photo").click()
    visitor.wait_for_selector("#dm-answer .dm-card[data-task=depth]")
    visitor.screenshot(path=tmp_path / "webcam.png", full_page=True)
    assert "960 × 1280 pixels" in visitor.locator("#dm-status").inner_text()
