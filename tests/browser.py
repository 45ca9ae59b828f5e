"""The system's Chromium, for tests that look at pages; the fixture is `browser`."""

import os

import pytest

CHROMIUM = "/usr/bin/chromium"
in_a_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.exists(CHROMIUM), reason=f"no browser at {CHROMIUM}"),
]
