"""Take pictures of a run in TensorBoard, and of its report.

Run: python docs/take_screenshots.py

Trains the quickstart with evaluations, and writes docs/images/tensorboard_*.png and docs/images/report.png.
Needs the extra ``dev`` and Chromium.
"""

import os
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from rl_rms.cli.main import main

IMAGES = Path(__file__).resolve().parent / "images"
sys.path.insert(0, str(IMAGES.parents[1]))
from tests.browser import chromium, tensorboard  # noqa: E402

# Tabs of TensorBoard, and the width and height of their pictures.
TABS = {"custom_scalars": (1_500, 2_220), "hparams": (2_300, 420), "images": (1_500, 1_000)}


def take(page: Page, path: Path) -> None:
    """Take a picture of the visible part of a page, in 256 colors to save space."""
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT).save(path, optimize=True)


def take_report(browser: Browser, run: Path, images: Path) -> None:
    """Write a run's report and take a picture of its beginning.

    Args:
        browser: The browser that renders the pages.
        run: The run's folder.
        images: Folder for the pictures.
    """
    main(["report", str(run)])
    page = browser.new_page(viewport={"width": 1_000, "height": 2_000})
    page.goto((run / "report.html").resolve().as_uri())
    take(page, images / "report.png")


def take_tensorboard(browser: Browser, runs: Path, images: Path) -> None:
    """Start TensorBoard and take a picture of each tab in ``TABS``.

    Args:
        browser: The browser that renders the pages.
        runs: Folder of runs.
        images: Folder for the pictures.
    """
    with tensorboard(runs) as address:
        for tab, (width, height) in TABS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(f"{address}#{tab}&_smoothingWeight=0")
            page.reload()
            page.get_by_text("drifting_cartpole").locator("visible=true").first.wait_for()
            page.wait_for_timeout(5_000)  # the charts appear some time after the text
            take(page, images / f"tensorboard_{tab}.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        os.chdir(folder)  # because TensorBoard shows the path of the log folder
        main(["train", "drifting_cartpole", "--eval_every=100000"])
        (trained,) = Path("runs/drifting_cartpole").iterdir()
        take_tensorboard(browser, Path("runs"), IMAGES)
        take_report(browser, trained, IMAGES)
