import pytest

from rl_rms.cli.main import main
from rl_rms.cli.runs import read_run
from tests.browser import chromium, tensorboard

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    words = ["--total_timesteps=6000", "--log_interval=5", "--eval_every=3000", "--histogram_every=3000"]
    assert main(["train", "drifting_cartpole", *words, f"--runs_dir={folder}"]) == 0
    other = ["--agent.half_life=match", "--seed=1", "--env.changes.masspole=0.2"]
    assert main(["train", "drifting_cartpole", *words, *other, f"--runs_dir={folder}"]) == 0
    return folder


def shown(page, text):
    page.get_by_text(text).locator("visible=true").first.wait_for(timeout=30_000)


def drawn(page, within):
    """SVG paths with at least three line segments, in the elements that match the selector ``within``."""
    paths = page.locator(f"{within} path").evaluate_all("all => all.map(one => one.getAttribute('d') || '')")
    return [path for path in paths if path.count("L") >= 3]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_tensorboard_shows_the_charts_of_a_run(runs):
    with chromium() as browser, tensorboard(runs) as url:
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.goto(url + "#custom_scalars")
        for title in (
            "mean return of the last 100 episodes",
            "mean return of evaluations",
            "env/gravity",
            "env/masspole",
            "present and matched half-life, updates",
            "second moment v and squared gradients",
            "squared gradients / v",
            "log10 of v: median, 10 % and 90 %",
            "effective step and learning rate",
            "learning rate / root of v, median",
        ):
            shown(page, title)
            assert page.get_by_text(title, exact=True).locator("visible=true").count() == 1, title
        page.wait_for_timeout(1_000)
        assert len(drawn(page, "vz-line-chart2")) >= 20
        assert len([path for path in drawn(page, "tf-custom-scalar-margin-chart-card") if path.endswith("Z")]) == 2
        page.goto(url + "#hparams")
        page.reload()
        for column in ("env", "half_life", "learning_rate", "seed", "rollout/ep_rew_mean", "eval/mean_reward"):
            shown(page, column)
        page.get_by_text("20000 steps").locator("visible=true").first.wait_for(timeout=30_000)
        cells = [cell.strip() for cell in page.locator("vaadin-grid-cell-content").all_inner_texts()]
        assert cells[2:6] == ["env", "half_life", "learning_rate", "seed"]
        for folder, half_life in zip(sorted(runs.glob("*/*")), ("20000 steps", "match"), strict=True):
            row = cells[cells.index(f"{folder.parent.name}/{folder.name}") :]
            assert row[2:4] == ["CartPole-v1", half_life]
            for tag in ("rollout/ep_rew_mean", "eval/mean_reward"):
                assert f"{read_run(folder).series(tag)[1][-1]:#.5g}" in row[7:9]
        page.goto(url + "#images")
        page.reload()
        for name in ("env/schedule", "run/learning_curve"):
            shown(page, name)
        page.wait_for_load_state("networkidle")
        widths = page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
        assert len(widths) == 4
        assert min(widths) > 500
        page.goto(url + "#text")
        page.reload()
        shown(page, "total_timesteps: 6000")
        page.goto(url + "#histograms")
        page.reload()
        shown(page, "optim/log10_second_moment")
