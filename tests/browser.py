"""Chromium without a window, for the tests that look at what people look at."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Without --disable-3d-apis TensorBoard's line charts stay blank.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-3d-apis", "--disable-dev-shm-usage", "--hide-scrollbars"]


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Debian's Chromium under Playwright; a test that needs it is skipped where there is none.

    It is closed at the end of each test: while it is open, its event loop runs in this thread.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'rl_rms[dev]'")
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs a browser: make test installs Debian's package chromium where it is allowed to")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        yield browser
        browser.close()
