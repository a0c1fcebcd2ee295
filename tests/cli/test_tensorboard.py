"""TensorBoard as people see it: in a browser."""

import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from rl_rms.cli.main import main

ROOT = Path(__file__).parents[2]
spec = spec_from_file_location("browser", ROOT / "tests" / "browser.py")
browser = module_from_spec(spec)
spec.loader.exec_module(browser)


@contextmanager
def tensorboard(folder):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    options = ["--logdir", str(folder), "--host", "127.0.0.1", "--port", str(port), "--load_fast", "false"]
    process = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *options], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(url + "data/runs") as answer:
                    if answer.read() != b"[]":
                        break
            except OSError:
                pass
            time.sleep(0.1)
        yield url + "?darkMode=false&smoothing=0"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    words = ["--total_timesteps=6000", "--log_interval=5", "--eval_every=3000", "--histogram_every=3000"]
    assert main(["train", "drifting_cartpole", *words, f"--runs_dir={folder}"]) == 0
    return folder


def shown(page, text):
    page.get_by_text(text).locator("visible=true").first.wait_for(timeout=30_000)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_run_arranges_itself(runs):
    with browser.chromium() as chromium, tensorboard(runs) as url:
        page = chromium.new_page(viewport={"width": 1500, "height": 1000})
        page.goto(url + "#custom_scalars")
        for title in (
            "mean return of the last 100 episodes",
            "env/gravity",
            "half-life in force and matched, updates",
            "second moment v and squared gradients",
            "squared gradients / v",
            "effective step",
        ):
            shown(page, title)
        page.wait_for_timeout(1_000)
        # Lines, not only their frames.
        paths = page.locator("vz-line-chart2 path").evaluate_all(
            "all => all.map(one => one.getAttribute('d') || '')"
        )
        assert sum(path.count("L") >= 3 for path in paths) >= 6, paths
        page.goto(url + "#hparams")
        page.reload()
        for column in ("rollout/ep_rew_mean", "eval/mean_reward"):
            shown(page, column)
        row = page.locator("vaadin-grid-cell-content").all_inner_texts()
        assert any(cell.startswith("drifting_ca") for cell in row)
        page.goto(url + "#images")
        page.reload()
        for name in ("world/schedule", "run/learning_curve"):
            shown(page, name)
        page.wait_for_load_state("networkidle")
        widths = page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
        assert len(widths) == 2
        assert min(widths) > 500
        page.goto(url + "#text")
        page.reload()
        shown(page, "total_timesteps: 6000")
        page.goto(url + "#histograms")
        page.reload()
        shown(page, "optim/log10_second_moment")
