import math
import re
import sys
from html.parser import HTMLParser

import pytest

from rl_rms.cli.groups import find_groups
from rl_rms.cli.main import main
from rl_rms.cli.report import (
    describe_following,
    describe_half_life,
    describe_normalizers,
    describe_result,
    describe_tracking,
    page,
)
from rl_rms.cli.runs import read_run
from rl_rms.cli.tracking import Following
from tests.browser import chromium
from tests.cli.runs import regime, write_events, write_run
from tests.naming import mentions

# A name without a place for a line break.
NAME = "pole_whose_motor_is_wired_the_other_way_round_after_250_updates"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of a short training run in which the force changes its sign after 8,000 env steps."""
    base = tmp_path_factory.mktemp("reported")
    config = base / f"{NAME}.yaml"
    config.write_text(
        "env: {id: CartPole-v1, num_envs: 4, changes: {force_mag: {step: {before: 10, after: -10, at: 8000}}}}\n"
        "agent: {n_steps: 8, half_life: 100}\ntotal_timesteps: 16000\nlog_interval: 10\n"
    )
    for seed in ("0", "1"):
        assert main(["train", str(config), f"--seed={seed}", f"--runs_dir={base / 'runs'}"]) == 0
    return sorted((base / "runs" / NAME).iterdir())


@pytest.fixture(scope="module")
def of_both(trained, tmp_path_factory):
    """The report of both seeds."""
    output = tmp_path_factory.mktemp("page") / "new" / "both.html"
    assert main(["report", *map(str, trained), "--output", str(output)]) == 0
    return output


def sections(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


class Tags(HTMLParser):
    """Checks that every element is closed, and records the addresses of images and links."""

    VOID = frozenset({"meta", "img", "source", "br", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.images, self.addresses, self.names = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.names.add(tag)
        self.addresses += [values[name] for name in ("src", "srcset", "href") if name in values]
        if tag == "img":
            self.images.append(values)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_page_is_self_contained(trained, capsys):
    (folder, _) = trained
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.split()[-1] == str(folder / "report.html")
    page = (folder / "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert not tags.names & {"script", "link"}
    assert "url(" not in page
    assert len(tags.images) == 3
    assert all(image["alt"] for image in tags.images)
    assert all(address.startswith("data:image/svg+xml;base64,") for address in tags.addresses)
    assert "A2C on CartPole-v1 with changes in force_mag: 4 environments" in page
    assert "The half-life was 100 updates" in page
    assert "half_life: 100.0" in page  # the configuration is collapsed
    assert re.search(r"<td>1</td><td>8,0\d\d</td>.*<td>100</td><td>(lags|tracks)</td>", page)
    again = page
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text() == again


def test_report_of_several_seeds_has_the_group_and_each_seed(trained, of_both):
    page = of_both.read_text()
    assert sections(page) == [NAME]
    assert "This is the interquartile mean over 2 seeds.</p>" in page  # no interval for fewer than three seeds
    assert "enough entries for 4 regimes" in page
    assert [f"seed {seed}: {folder.name}" in page for seed, folder in enumerate(trained)] == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_report_in_a_browser_needs_no_javascript_or_network(width, height, of_both):
    with chromium() as browser:
        context = browser.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=False, offline=True
        )
        page = context.new_page()
        page.goto(of_both.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for summary in page.locator("summary").all():
            summary.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        images = page.locator("img")
        assert images.count() == 7
        for image in images.all():
            image.scroll_into_view_if_needed()
            assert image.evaluate("image => image.complete && image.naturalWidth > 0")
            box = image.bounding_box()
            assert box["x"] >= 0
            assert 0.8 * min(width, 896) < box["width"] <= width
        for words in ("The half-life was", "Regimes"):
            assert page.get_by_text(words).first.is_visible()
        assert page.get_by_text("half_life: 100.0").first.is_visible()
        assert page.locator(".scroll").first.bounding_box()["width"] <= width
        dark = browser.new_context(color_scheme="dark").new_page()
        dark.goto(of_both.as_uri())
        assert dark.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"


def test_report_of_a_seed_that_ended_early_compares_at_its_last_env_step(tmp_path):
    pytest.importorskip("rliable")
    write_run(tmp_path / "long", [float(number) for number in range(1, 11)], seed=0)
    write_run(tmp_path / "short", [3.0, 4.0], seed=1, total_timesteps=1000)
    text = page(find_groups([str(tmp_path)]))
    assert "at least 200 env steps of 1,000, 2 seeds" in text
    assert "At env step 200, which all seeds reached, the mean return of the last episodes was 3. This is" in text


def test_report_escapes_names(tmp_path):
    folder = write_run(tmp_path / "a<b>&c", [1.0])
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "a&lt;b&gt;&amp;c" in page
    assert "a<b>" not in page


def test_report_of_old_logs_or_other_libraries_leaves_out_unknown_values(tmp_path):
    rows = [{"time/total_timesteps": 50, "optim/half_life_updates": 20.0}]
    old = write_run(tmp_path / "old", [1.0], rows=rows)
    other = write_events(tmp_path / "PPO_1")
    output = tmp_path / "report.html"
    assert main(["report", str(old), str(other), "--output", str(output)]) == 0
    page = output.read_text()
    assert len(sections(page)) == 3
    assert "does not show how the second moment v tracked the squared gradients." in page
    assert "A training run of Stable-Baselines3, read from its TensorBoard events" in page
    assert "None" not in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)


def test_report_wrong_input_prints_one_sentence(tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run", [1.0])
    assert main(["report", str(run), "--output", "page.pdf"]) == 2
    assert mentions(capsys.readouterr().err, "--output", "'page.pdf'")
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert mentions(capsys.readouterr().err, "nowhere", "folder of a run")
    write_run(tmp_path / "other", [1.0], seed=1)
    monkeypatch.setitem(sys.modules, "rliable", None)
    assert main(["report", str(tmp_path)]) == 2
    assert mentions(capsys.readouterr().err, "rliable", "pip install 'rl_rms[plots]'")


# -- sentences --------------------------------------------------------------------------------------------

FOLLOWED = Following(half_life=69, worst=math.log(16), share_off=0.4, swing=0.0, state="lags", limit=41.2)


def test_describe_following_names_the_error_and_the_half_life_that_tracks():
    assert describe_following(FOLLOWED) == ["16.0 times too large", "40%", "69", "lags", "at most 41"]
    short = FOLLOWED._replace(worst=-0.1, share_off=0.0, state="fluctuates", limit=120.4)
    assert describe_following(short) == ["1.1 times too small", "0%", "69", "fluctuates", "at least 120"]
    tracks = FOLLOWED._replace(state="tracks", limit=math.nan)
    assert describe_following(tracks)[2:] == ["69", "tracks", "69"]
    assert describe_following(None) == ["-"] * 5


def test_describe_tracking_counts_the_regimes_of_each_state():
    tracks = FOLLOWED._replace(state="tracks")
    assert mentions(describe_tracking([FOLLOWED, tracks, tracks]), "lags in 1", "tracks in 2")
    assert "does not show" in describe_tracking([])


def logged(tmp_path, agent=None, **series):
    """A run with logged tags, given with ``_`` instead of the first ``/``."""
    length = max((len(values) for values in series.values()), default=1)
    rows = [
        {"time/total_timesteps": 100 * (i + 1) + 1}
        | {name.replace("_", "/", 1): values[i] for name, values in series.items()}
        for i in range(length)
    ]
    return read_run(write_run(tmp_path / "run", [1.0, 3.0, 2.0], rows=rows, agent=agent or {}))


def test_describe_result_has_mean_return_and_steps(tmp_path):
    assert mentions(describe_result(logged(tmp_path)), "300 env steps", "2.0", "3.0", "env step 200")


def test_describe_half_life_has_the_current_value(tmp_path):
    steady = logged(tmp_path / "a", optim_half_life_updates=[69.0] * 9, optim_half_life_steps=[690.0] * 9)
    assert mentions(describe_half_life(steady), "69 updates", "690 env steps")
    found = logged(tmp_path / "b", {"half_life": "auto"}, optim_half_life_updates=[100.0, 400.0, 200.0])
    assert mentions(describe_half_life(found), "200 updates", "100", "400 updates")
    assert mentions(describe_half_life(logged(tmp_path / "c")), "rl_rms.RMSprop", "no half-life")


@pytest.mark.parametrize("is_logged", [True, False])
def test_report_of_a_run_with_jumps_explains_their_marks(tmp_path, is_logged):
    rows = [{"time/total_timesteps": 101, "normalizer/jumps": 1.0}] if is_logged else []
    run = write_run(tmp_path / "a", [1.0], rows=rows, agent={"normalize_observation": {"on_jump": "forget"}})
    assert main(["report", str(run)]) == 0
    assert ("Dashed lines mark jumps" in (run / "report.html").read_text()) == is_logged


def test_normalizers_are_described_by_their_half_lives(tmp_path):
    agent = {"normalize_observation": "690 steps", "normalize_reward": True}
    rows = [{"time/total_timesteps": 101, "half_life/observation": 690.0, "normalizer/jumps": 3.0}]
    run = write_run(tmp_path / "a", [1.0], rows=rows, agent=agent)
    observations, rewards = describe_normalizers(read_run(run)).split(". ")
    assert mentions(observations, "Observations", "690 env steps", "3 jumps")
    assert mentions(rewards, "Rewards", "without a half-life")
    jumping = logged(tmp_path / "b", normalizer_jumps=[0.0, 1.0])
    observations, _ = describe_normalizers(jumping).split(". ")
    assert mentions(observations, "Observations", "without a half-life", "1 jumps")
    none = {"normalize_observation": False, "normalize_reward": False}
    assert describe_normalizers(logged(tmp_path / "c", none)) == ""


def test_describe_normalizers_of_categories_leaves_observations_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--env.id=FrozenLake-v1", "--total_timesteps=500", "--log_interval=1"]
    assert main(["train", "cartpole_a2c", *words]) == 0
    (run,) = (tmp_path / "runs" / "cartpole_a2c").iterdir()
    described = describe_normalizers(read_run(run))
    assert "Rewards" in described
    assert "Observations" not in described


def test_regime_table_has_a_row_for_each_regime(tmp_path):
    rows = [regime(0, 1000, 1.0, 200.0), regime(1, 2000, 50.0, 150.0, 300.0), regime(2, 3000, 5.0, 6.0)]
    rows.append(regime(3, 4000, 6.0, 7.0, 0.0))
    folder = write_run(tmp_path / "run", [1.0], rows=rows)
    assert main(["report", str(folder)]) == 0
    cells = re.findall(r"<tr><td>(.*?)</td></tr>", (folder / "report.html").read_text())
    assert [row.split("</td><td>")[:5] for row in cells] == [
        ["0", "0", "1.0", "200.0", "-"],
        ["1", "1,000", "50.0", "150.0", "300"],
        ["2", "2,000", "5.0", "6.0", "never"],
        ["3", "3,000", "6.0", "7.0", "held"],
    ]
