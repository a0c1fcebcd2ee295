"""Headless Chromium and TensorBoard, for tests and figures."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# TensorBoard's line charts stay blank without --disable-3d-apis.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-3d-apis", "--disable-dev-shm-usage", "--hide-scrollbars"]


@contextmanager
def chromium() -> "Iterator[Browser]":
    """Debian's Chromium under Playwright. Without Playwright or Chromium, the test is skipped.

    The browser is closed at the end of each test. Until then, Playwright's event loop runs in this thread, and
    other code cannot start an event loop there.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install 'rl_rms[dev]'")
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs Chromium: make test-slow tries to install Debian's package chromium with apt-get")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def tensorboard(runs: Path) -> Iterator[str]:
    """The address of a TensorBoard that has read a folder of runs.

    Raises:
        TimeoutError: If TensorBoard shows no run within a minute.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["--logdir", str(runs), "--host", "127.0.0.1", "--port", str(port), "--load_fast", "false"]
    process = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *options], stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + 60
    known = b"[]"
    try:
        while known == b"[]":
            if time.monotonic() > deadline:
                raise TimeoutError(f"TensorBoard shows no run of {runs}")
            time.sleep(0.1)
            with suppress(OSError), urllib.request.urlopen(f"{address}data/runs") as answer:  # not started yet
                known = answer.read()
        yield f"{address}?darkMode=false"
    finally:
        process.terminate()
        process.wait()
