"""``rl-rms report``: what it says of runs, and how it looks in a browser at two widths."""

import dataclasses
import math
import re
import sys
from html.parser import HTMLParser

import pytest

from rl_rms.cli.main import main
from rl_rms.cli.regimes import RegimeReturns
from rl_rms.cli.runs import read_run
from rl_rms.cli.tracking import Following
from rl_rms.cli.words import (
    describe_following,
    describe_memory,
    describe_result,
    describe_return,
    describe_training,
    describe_verdicts,
)
from tests.browser import chromium
from tests.cli.runs import regime, write_run

# Without a place where a line may break.
NAME = "pole_whose_motor_is_wired_the_other_way_round_after_250_updates"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of a short training, in whose world the motor is wired the other way round after 250 updates."""
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
    """Sees that every element is closed, and keeps what has an address."""

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


def test_a_page_is_whole_and_needs_nothing_beside_it(trained, capsys):
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
    assert "A2C on CartPole-v1 in a world where force_mag changed: 4 environments" in page
    assert "The half-life in force was 100 updates" in page
    assert "half_life: 100.0" in page  # the configuration, folded
    assert "At env step 8,0" in page
    assert re.search(r"After the change at env step 8,0\d\d the second moment .* updates was <b>", page)
    again = page
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").read_text() == again


def test_seeds_are_told_together_and_each_by_itself(trained, of_both):
    page = of_both.read_text()
    assert sections(page) == [NAME]
    assert "over 2 seeds: interquartile mean and 95 % interval" in page
    assert "For the 4 regimes that can be judged it was" in page
    assert [f"seed {seed}: {folder.name}" in page for seed, folder in enumerate(trained)] == [True, True]


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_it_reads_well_in_a_browser_without_javascript_and_network(width, height, of_both):
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
        assert images.count() == 8
        for image in images.all():
            image.scroll_into_view_if_needed()
            assert image.evaluate("image => image.complete && image.naturalWidth > 0")
            box = image.bounding_box()
            assert box["x"] >= 0
            assert 0.8 * min(width, 896) < box["width"] <= width
            # The narrow drawing is for the narrow screen.
            assert (image.evaluate("image => image.naturalWidth") < 500) == (width < 600)
        for words in ("What the half-life did", "How the return took the changes", "What else the log says"):
            assert page.get_by_text(words).first.is_visible()
        assert page.get_by_text("half_life: 100.0").first.is_visible()
        assert page.locator("table").first.bounding_box()["width"] <= width
        dark = browser.new_context(color_scheme="dark").new_page()
        dark.goto(of_both.as_uri())
        assert dark.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light dark"


def test_names_are_escaped(tmp_path):
    folder = write_run(tmp_path / "a<b>&c", [1.0])
    assert main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "a&lt;b&gt;&amp;c" in page
    assert "a<b>" not in page


def test_an_old_log_and_other_libraries_leave_out_what_is_not_known(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    rows = [{"time/total_timesteps": 50, "optim/half_life_updates": 20.0}]
    old = write_run(tmp_path / "old", [1.0], rows=rows)
    with SummaryWriter(tmp_path / "PPO_1") as writer:
        writer.add_scalar("rollout/ep_rew_mean", 1.0, 100)
    output = tmp_path / "report.html"
    assert main(["report", str(old), str(tmp_path / "PPO_1"), "--output", str(output)]) == 0
    page = output.read_text()
    assert len(sections(page)) == 3
    assert "The log does not tell how the second moment followed the squared gradients." in page
    assert "is not known: the log has too few entries, or lacks train/n_updates" in page
    assert "A training of Stable-Baselines3, read from its TensorBoard events" in page
    assert "None" not in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)


def test_errors_are_sentences(tmp_path, monkeypatch, capsys):
    run = write_run(tmp_path / "run", [1.0])
    assert main(["report", str(run), "--output", "page.pdf"]) == 2
    assert "--output must end in .html, got 'page.pdf'" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "nowhere is not the folder of a run: there is nothing" in capsys.readouterr().err
    write_run(tmp_path / "other", [1.0], seed=1)
    monkeypatch.setitem(sys.modules, "rliable", None)
    assert main(["report", str(tmp_path)]) == 2
    assert "reports of several runs need rliable for intervals; install it with" in capsys.readouterr().err


# -- sentences --------------------------------------------------------------------------------------------

CHANGED = RegimeReturns(
    start=40_000,
    end=80_000,
    begins_with_change=True,
    first_tenth=30.0,
    last_tenth=190.0,
    before=200.0,
    recovery=5e3,
)
FOLLOWED = Following(
    half_life=69, worst=math.log(16), worst_after=50, halved_after=310, left=900, share_off=0.4, swing=0.0,
    verdict="too long", better=41.2,
)  # fmt: skip


def test_a_half_life_that_was_too_long():
    assert describe_following(FOLLOWED, CHANGED) == (
        "After the change at env step 40,000 the second moment was up to 16 times too large, 50 updates into the "
        "regime, and took 310 updates to halve that error; it was off by more than a factor of 2 for 40 % of the "
        "regime, more than a quarter: the half-life of 69 updates was too long; at most about 41 updates would "
        "have done. Meanwhile v made steps up to 4.0 times smaller."
    )


def test_a_half_life_that_never_caught_up():
    following = FOLLOWED._replace(halved_after=math.inf, worst=-math.log(4))
    told = describe_following(following, dataclasses.replace(CHANGED, start=0, begins_with_change=False))
    assert told.startswith("From the start on the second moment was up to 4.0 times too small")
    assert "and had not halved that error 900 updates later, when the regime ended" in told
    assert "too short" not in told
    assert "and was so when it ended" in describe_following(FOLLOWED._replace(left=0), CHANGED)


def test_half_lives_that_were_too_short_and_right():
    short = FOLLOWED._replace(worst=0.1, share_off=0.0, swing=math.log(3), verdict="too short", better=120.4)
    assert describe_following(short, CHANGED) == (
        "After the change at env step 40,000 the second moment stayed within a factor of 2 of the squared "
        "gradients: the half-life of 69 updates was too short, since v swung up and down by a factor of 3.0 from "
        "one reading to the next; about 121 updates would have been steady."
    )
    right = FOLLOWED._replace(verdict="right", share_off=0.1)
    assert describe_following(right, CHANGED).endswith(
        "10 % of the regime, no more than a quarter: the half-life of 69 updates was right."
    )
    assert describe_verdicts([FOLLOWED, right, right]) == (
        "For the 3 regimes that can be judged it was too long in 1, right in 2."
    )
    assert describe_verdicts([short]) == "For the one regime that can be judged it was too short."


@pytest.mark.parametrize(
    ("regime", "told"),
    [
        ({}, "the return fell from 200.0 to 30.0; it was back at 90 % of it after 5,000 env steps."),
        ({"recovery": math.inf}, "it was not back at 90 % of it by env step 80,000, when the regime ended."),
        ({"first_tenth": 185.0}, "and the return held: 200.0 before, 185.0 right after."),
        ({"first_tenth": math.nan}, "too few episodes ended around it to say what that did to the return."),
        ({"before": -100.0, "first_tenth": -105.0}, "held: -100.0 before, -105.0 right after."),
        ({"before": -100.0, "first_tenth": -120.0}, "fell from -100.0 to -120.0;"),
    ],
)
def test_what_a_change_did_to_the_return(regime, told):
    assert told in describe_return(dataclasses.replace(CHANGED, **regime))


def logged(tmp_path, agent=None, **series):
    """A run that logged some tags, given with ``_`` for ``/``'s first place."""
    length = max((len(values) for values in series.values()), default=1)
    rows = [
        {"time/total_timesteps": 100 * (i + 1) + 1}
        | {name.replace("_", "/", 1): values[i] for name, values in series.items()}
        for i in range(length)
    ]
    return read_run(write_run(tmp_path / "run", [1.0, 3.0, 2.0], rows=rows, agent=agent or {}))


def test_the_result(tmp_path):
    assert describe_result(logged(tmp_path)) == (
        "After 300 env steps the mean return of the last episodes was 2.0; the best was 3.0, first at env step "
        "200."
    )


def test_the_half_life_in_force(tmp_path):
    steady = logged(tmp_path / "a", optim_half_life_updates=[69.0] * 9, optim_half_life_steps=[690.0] * 9)
    assert describe_memory(steady) == "The half-life in force was 69 updates (690 env steps)."
    found = logged(tmp_path / "b", {"half_life": "auto"}, optim_half_life_updates=[100.0, 400.0, 200.0])
    assert describe_memory(found).startswith("The half-life, stated as 'auto', was between ")
    assert describe_memory(found).endswith("200 at env step 301.")
    assert describe_memory(logged(tmp_path / "c")) == "The optimizer, rl_rms.RMSprop, logged no half-life."


def test_clipping_guard_critic_exploration_and_eps(tmp_path):
    bad = logged(
        tmp_path / "bad", optim_clip_share=[1.0] * 20, optim_num_nonfinite=[0.0] * 19 + [3.0],
        train_explained_variance=[0.9] * 10 + [-0.2] * 10, train_entropy_loss=[-0.69] * 10 + [-0.01] * 10,
        optim_eps_dominance=[0.5] * 20,
    )  # fmt: skip
    clipped, guard, critic, entropy, eps = describe_training(bad)
    assert clipped.startswith("Gradients were clipped to norm 0.5 in nearly every update (100 %).")
    assert guard.startswith("The guard skipped 3 updates")
    assert "no better than their mean does (explained variance -0.20" in critic
    assert entropy.startswith("The policy's entropy collapsed to 1 % of what it began with")
    assert eps.startswith("In 50 % of the parameters eps rather than v")
    good = logged(
        tmp_path / "good", optim_clip_share=[0.3] * 20, optim_num_nonfinite=[0.0] * 20,
        train_explained_variance=[0.9] * 20, train_entropy_loss=[-0.6] * 10 + [-0.3] * 10,
        optim_eps_dominance=[0.01] * 20,
    )  # fmt: skip
    assert describe_training(good) == [
        "Gradients were clipped to norm 0.5 in 30 % of the updates, before v saw them.",
        "The guard skipped no update: all gradients were finite.",
        "At the end the critic foretold returns well (explained variance 0.90; 1 is perfect, 0 is useless).",
        "The policy's entropy is at 50 % of what it began with, so it still explores.",
    ]
    assert describe_training(logged(tmp_path / "none")) == []
    normal = logged(tmp_path / "normal", {"max_grad_norm": None}, train_entropy_loss=[-1.4, 0.5])
    assert describe_training(normal) == [
        "The policy's entropy went from 1.40 to -0.50: the lower, the less it explores."
    ]


def test_of_many_changes_the_first_ten_are_told_and_the_others_folded(tmp_path):
    rows = [regime(1000 * number, 1.0, 2.0, 3.0) for number in range(1, 32)]
    folder = write_run(tmp_path / "run", [1.0], rows=rows)
    assert main(["report", str(folder)]) == 0
    told, folded = (folder / "report.html").read_text().split("<summary>20 more</summary>")
    assert (told.count("the world changed"), folded.count("the world changed")) == (10, 20)


def test_a_table_tells_of_each_regime(tmp_path):
    rows = [regime(1000, 1.0, 200.0), regime(2000, 50.0, 150.0, 300.0), regime(3000, 5.0, 6.0)]
    rows.append(regime(4000, 6.0, 7.0, 80.0))
    folder = write_run(tmp_path / "run", [1.0], rows=rows)
    assert main(["report", str(folder)]) == 0
    cells = re.findall(r"<tr><td>(.*?)</td></tr>", (folder / "report.html").read_text())
    assert [row.split("</td><td>") for row in cells] == [
        ["1", "0", "1.0", "200.0", "-"],
        ["2", "1,000", "50.0", "150.0", "300"],
        ["3", "2,000", "5.0", "6.0", "never"],
        ["4", "3,000", "6.0", "7.0", "held"],
    ]
