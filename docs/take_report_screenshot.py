"""Take pictures of a run's report, as a screen and a phone show it.

Run: python docs/take_report_screenshot.py

Trains the quickstart anew and writes docs/images/report.png and docs/images/report_phone.png.
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from rl_rms.cli.main import main

IMAGES = Path(__file__).resolve().parent / "images"
# Name, width and height of what is seen, and whether it is a phone.
SHOWN = (("report.png", 1000, 2000, False), ("report_phone.png", 390, 1900, True))


def take_report(browser: Browser, run: Path, images: Path) -> None:
    """Write a run's report and take the pictures of its beginning.

    Args:
        browser: To look with.
        run: The run's folder.
        images: Folder for the pictures.
    """
    main(["report", str(run)])
    for name, width, height, is_phone in SHOWN:
        context = browser.new_context(viewport={"width": width, "height": height}, is_mobile=is_phone)
        page = context.new_page()
        page.goto((run / "report.html").resolve().as_uri())
        page.screenshot(path=images / name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        main(["train", "drifting_cartpole", f"--runs_dir={folder}"])
        (trained,) = (Path(folder) / "drifting_cartpole").iterdir()
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        take_report(chromium, trained, IMAGES)
        chromium.close()
