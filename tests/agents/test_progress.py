import io
import itertools
import json
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from rl_rms.agents import A2C, AdaptationCallback, EvalCallback
from rl_rms.agents.adaptation import Returns
from rl_rms.agents.progress import ProgressCallback, json_line, sparkline
from rl_rms.agents.rollout import Episode
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import PiecewiseConstant

SLOW = {
    "learning_rate": 7e-4,
    "n_steps": 5,
    "gae_lambda": 1.0,
    "normalize_observation": False,
    "normalize_reward": False,
}
STAIRS = PiecewiseConstant([(0, 1.0), (1_000, 5.0), (2_000, 2.0)])


def agent(changes=None, **options):
    options = {**SLOW, **options}
    return A2C(make_vec("CartPole-v1", 4, changes or {}, seed=0), seed=0, **options)


def console(width=100, **options):
    return Console(record=True, width=width, force_terminal=True, _environ={"TERM": "xterm"}, **options)


def test_sparkline_equals_hand_computed_bars():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([0.0, 0.99, 1.0, 8.0]) == "▁▁▂█"


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([3.0], "▄"),
        ([3.0, 3.0, 3.0], "▄▄▄"),
        ([math.nan, 1.0, math.inf, 2.0], " ▁ █"),
        ([math.nan, math.nan], "  "),
        ([-1e308, 1e308], "▁█"),  # the difference overflows
    ],
)
def test_sparkline_of_nonfinite_or_constant_values_draws_the_rest(values, drawn):
    assert sparkline(values) == drawn


def test_mean_returns_of_intervals_equal_hand_computed_values():
    returns = Returns(Episode(ret, 10, 0, step) for ret, step in [(1.0, 10), (3.0, 20), (math.nan, 20), (8.0, 30)])
    assert returns.mean(0, 30) == 4.0
    assert returns.mean(10, 20) == 3.0  # episodes that end after step 10, up to step 20
    assert returns.mean(0, 19) == 1.0
    assert math.isnan(returns.mean(30, 40))


def last_view(text):
    """The lines of the last refresh."""
    lines = text.splitlines()
    return lines[max(i for i, line in enumerate(lines) if " / 3,000 steps" in line) :]


def test_live_view_has_a_bar_the_return_and_a_row_for_each_regime():
    shown = console()
    agent({"reward.scale": STAIRS}).learn(3_000, ProgressCallback(shown))
    head, returns, titles, *rows = last_view(shown.export_text())
    assert re.search(r"━{12} 3,000 / 3,000 steps  [\d,]+ steps/s 00:00", head)
    assert re.match(r"return \d+\.\d  [▁-█ ]+  half-life 200 updates", returns)
    assert titles.split() == ["regime", "since", "step", "return", "first", "10%", "last", "10%", "half-life"]
    assert [row.replace("▸", "").split()[0] for row in rows] == ["0", "1", "2"]
    assert ["▸" in row for row in rows] == [False, False, True]
    assert len({len(line.rstrip()) for line in (titles, *rows)}) == 1


@pytest.mark.parametrize("width", [40, 64, 200])
def test_live_view_in_a_terminal_of_any_width_does_not_wrap_lines(width):
    shown = console(width)
    agent({"reward.scale": STAIRS}).learn(3_000, ProgressCallback(shown))
    text = shown.export_text()
    lines = text[text.rindex("\nreturn ") + 1 :].splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 5
    assert sum("▸" in line for line in lines) == 1


def test_live_view_before_the_first_episode_has_no_return():
    shown = console()
    agent().learn(20, ProgressCallback(shown))
    assert "return -  " in shown.export_text()


@pytest.mark.parametrize("no_color", [False, True])
def test_live_view_with_no_color_set_has_no_colors(no_color):
    environment = {"TERM": "xterm", **({"NO_COLOR": "1"} if no_color else {})}
    shown = Console(file=io.StringIO(), width=100, force_terminal=True, _environ=environment)
    agent({"reward.scale": STAIRS}).learn(3_000, ProgressCallback(shown))
    assert ("\x1b[32m" in shown.file.getvalue()) is not no_color
    assert re.search("\x1b\\[1m *▸", shown.file.getvalue())  # NO_COLOR keeps bold text


def test_progress_at_the_end_prints_the_regimes():
    adaptation, shown = AdaptationCallback(), console()
    agent({"reward.scale": STAIRS}, half_life="2_000 steps").learn(
        3_000, [ProgressCallback(shown), adaptation], log_interval=1_000
    )
    text = shown.export_text()
    last = text[text.rindex("regime  since step") :].splitlines()[1:]
    assert len(last) == 3
    for line, regime in zip(last, adaptation.regimes, strict=True):
        number, start, mean, first, final, half_life = line.replace("▸", "").replace(",", "").split()
        assert int(number) == adaptation.regimes.index(regime)
        assert int(start) == regime.start
        values = [float(mean), float(first), float(final)]
        assert values == pytest.approx([regime.mean, regime.first_tenth, regime.last_tenth], abs=0.05)
        assert 100 <= float(half_life) <= 110
    assert "half-life 100.0 updates = 2,000 env steps (20 env steps per update)" in text


def test_progress_of_a_regime_has_its_last_half_life():
    shown = console()
    options = {"half_life": 200, "on_change": "forget", "forget_half_life": 5.0, "forget_updates": 10_000}
    agent({"reward.scale": STAIRS}, **options).learn(3_000, ProgressCallback(shown))
    last = shown.export_text().splitlines()[-3:]
    assert [line.split()[-1] for line in last] == ["200", "5", "5"]


def test_live_view_shows_only_the_last_regimes():
    shown, stairs = console(), PiecewiseConstant([(100 * i, float(i + 1)) for i in range(9)])
    agent({"reward.scale": stairs}).learn(1_000, ProgressCallback(shown))
    last = [line.replace("▸", " ").split()[0] for line in shown.export_text().splitlines()[-5:]]
    assert last == ["4", "5", "6", "7", "8"]


def test_live_view_sparkline_covers_the_whole_training():
    shown = console()
    agent({"reward.scale": STAIRS}, learning_rate=1e-9).learn(3_000, ProgressCallback(shown))
    (line,) = [line for line in shown.export_text().splitlines() if line.startswith("return ")][-1:]
    blocks = line.split("  ")[1]
    assert len(blocks) == 60
    heights = ["▁▂▃▄▅▆▇█".find(block) for block in blocks]
    # A column spans 50 env steps: rewards are 1 for 20 columns, then 5, then 2.
    low, high, middle = (np.mean([one for one in part if one >= 0]) for part in np.split(np.array(heights), 3))
    assert low < middle < high


def test_live_view_limits_its_refresh_rate(monkeypatch):
    now = 0.0
    monkeypatch.setattr("rl_rms.agents.progress.time", SimpleNamespace(perf_counter=lambda: now))
    drawn = []
    monkeypatch.setattr("rich.live.Live.refresh", lambda _: drawn.append(now))

    def tick(_):
        nonlocal now
        now += 0.01

    agent().learn(4_000, [tick, ProgressCallback(console())])  # 200 updates in 2 seconds
    assert 8 <= len(drawn) <= 11


@pytest.mark.parametrize(
    ("terminal", "term", "form"), [(True, "dumb", "auto"), (False, "xterm", "auto"), (True, "xterm", "lines")]
)
def test_progress_without_a_terminal_prints_lines(terminal, term, form):
    shown = Console(record=True, width=40, force_terminal=terminal, _environ={"TERM": term})
    agent({"reward.scale": STAIRS}).learn(3_000, ProgressCallback(shown, form=form))
    half_life, line = shown.export_text().splitlines()
    assert half_life == "half-life 200.0 updates = 4,000 env steps (20 env steps per update)"
    assert " / 3,000 steps  " in line
    assert "  half-life 200 updates  regime 2 since 2,0" in line
    assert "━" not in line


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_an_evaluation_until_it_ends(terminal, monkeypatch):
    times = itertools.count(0.0, 10.0)
    monkeypatch.setattr("rl_rms.agents.progress.time", SimpleNamespace(perf_counter=lambda: next(times)))
    shown = Console(record=True, width=120, force_terminal=terminal, _environ={"TERM": "xterm"})
    evaluation = EvalCallback(every=200, episodes=3)
    agent().learn(200, [evaluation, ProgressCallback(shown, evaluations=[evaluation])])
    text = shown.export_text()
    assert "evaluation 1 / 3 episodes" in text
    assert "evaluation 2 / 3 episodes" in text
    assert "evaluation" not in text.splitlines()[-1]


def test_progress_json_prints_only_json_lines(tmp_path, capsys):
    adaptation = AdaptationCallback()
    progress = ProgressCallback(form="json", every=50)
    agent({"reward.scale": STAIRS}).learn(3_000, [progress, adaptation], log_dir=tmp_path)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    events = [one["event"] for one in records]
    assert events[0] == "start"
    assert events[-1] == "end"
    assert events.count("progress") == 3  # of about 155 updates
    assert all({"step", "total", "fps", "return", "half_life", "regime"} <= set(one) for one in records)
    assert records[0]["return"] is None
    assert records[0]["half_lives"] == "half-life 200.0 updates = 4,000 env steps (20 env steps per update)"
    assert records[0]["folder"] == records[-1]["folder"] == str(tmp_path)
    assert (records[-1]["total"], records[-1]["regime"], records[-1]["half_life"]) == (
        3_000,
        2,
        pytest.approx(200.0),
    )
    regimes = [one for one in records if one["event"] == "regime"]
    assert [one["regime"] for one in regimes] == [0, 1]
    for one, known in zip(regimes, adaptation.regimes, strict=False):
        assert (one["start"], one["step"]) == (known.start, known.end)
        returns = [one["return"], one["first_tenth"], one["last_tenth"]]
        assert returns == pytest.approx([known.mean, known.first_tenth, known.last_tenth])


def test_progress_json_nonfinite_values_are_null(tmp_path):
    line = json_line("progress", step=3, fps=math.inf, folder=tmp_path, half_life=None, **{"return": math.nan})
    assert json.loads(line) == {
        "event": "progress",
        "step": 3,
        "fps": None,
        "folder": str(tmp_path),
        "half_life": None,
        "return": None,
    }
    assert "NaN" not in line


def test_progress_without_half_life_or_regimes_leaves_them_out():
    shown = console()
    A2C("CartPole-v1", optimizer="torch.optim.Adam", seed=0).learn(500, ProgressCallback(shown))
    text = shown.export_text()
    assert "500 steps" in text
    assert "half-life" not in text
    assert "regime" not in text


def test_live_view_after_an_error_restores_the_cursor():
    file = io.StringIO()

    def fail(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        agent().learn(500, [ProgressCallback(console(file=file)), fail])
    hide, show = "\x1b[?25l", "\x1b[?25h"
    assert 0 <= file.getvalue().rfind(hide) < file.getvalue().rfind(show)
