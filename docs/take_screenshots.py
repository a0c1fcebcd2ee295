"""Take pictures of a run in TensorBoard, and of its report as a screen and a phone show it.

Run: python docs/take_screenshots.py

Trains the quickstart anew, with evaluations, and writes docs/images/tensorboard_*.png and docs/images/report*.png.
Needs the extra ``dev`` and Chromium.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Error, Page, sync_playwright

from rl_rms.cli.main import main

IMAGES = Path(__file__).resolve().parent / "images"
# Without --disable-3d-apis TensorBoard's line charts stay blank.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-3d-apis", "--disable-dev-shm-usage", "--hide-scrollbars"]
# Tab, and width and height of what is seen of it.
TABS = {"custom_scalars": (1_500, 2_220), "hparams": (2_300, 420), "images": (1_500, 1_000)}
# Name, width and height of what is seen, and whether it is a phone.
REPORTS = (("report.png", 1000, 2000, False), ("report_phone.png", 390, 1900, True))


def take(page: Page, path: Path) -> None:
    """Take a picture of what is seen of a page, in 256 colors, which are a third of the bytes."""
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT).save(path, optimize=True)


def take_report(browser: Browser, run: Path, images: Path) -> None:
    """Write a run's report and take the pictures of its beginning.

    Args:
        browser: To look with.
        run: The run's folder.
        images: Folder for the pictures.
    """
    main(["report", str(run)])
    for name, width, height, is_phone in REPORTS:
        context = browser.new_context(viewport={"width": width, "height": height}, is_mobile=is_phone)
        page = context.new_page()
        page.goto((run / "report.html").resolve().as_uri())
        take(page, images / name)


def take_tensorboard(browser: Browser, runs: Path, images: Path) -> None:
    """Start TensorBoard and take a picture of each of its tabs.

    Args:
        browser: To look with.
        runs: Folder of runs.
        images: Folder for the pictures.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["--logdir", str(runs), "--host", "127.0.0.1", "--port", str(port), "--load_fast", "false"]
    process = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *options], stderr=subprocess.DEVNULL)
    try:
        for tab, (width, height) in TABS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            for _ in range(100):
                try:
                    page.goto(f"http://127.0.0.1:{port}/?darkMode=false#{tab}&_smoothingWeight=0")
                    break
                except Error:  # not up yet
                    time.sleep(0.2)
            page.reload()
            page.get_by_text("drifting_cartpole").locator("visible=true").first.wait_for()
            page.wait_for_timeout(5_000)  # until the charts are drawn
            take(page, images / f"tensorboard_{tab}.png")
    finally:
        process.terminate()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        main(["train", "drifting_cartpole", "--eval_every=100000", f"--runs_dir={folder}"])
        (trained,) = (Path(folder) / "drifting_cartpole").iterdir()
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        take_tensorboard(chromium, Path(folder), IMAGES)
        take_report(chromium, trained, IMAGES)
        chromium.close()
