import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from rl_rms.cli.errors import UserError
from rl_rms.cli.groups import find_groups
from rl_rms.cli.main import main
from rl_rms.cli.plots import learning_curve, memory_curves, on_a_grid, space_ticks
from rl_rms.cli.runs import read_run
from rl_rms.cli.tracking import read_tracking
from rl_rms.envs.drift import trace
from tests.cli.runs import write_run
from tests.naming import naming


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_plot_grid_ends_at_the_shortest_seed(tmp_path):
    # The first log has the env steps 100, 200 and 300, the second 150 and 300.
    write_run(tmp_path / "0", [0.0, 10.0, 20.0], seed=0)
    write_run(tmp_path / "1", [10.0, 20.0], seed=1, every=150, total_timesteps=300)
    (group,) = find_groups([str(tmp_path)])
    steps, returns = on_a_grid(group)
    assert (steps[0], steps[-1]) == (150.0, 300.0)
    np.testing.assert_allclose(returns[0], (steps - 100) / 10)
    np.testing.assert_allclose(returns[1], 10 + (steps - 150) / 15)


def test_plot_of_seeds_without_common_env_steps_names_both(tmp_path):
    write_run(tmp_path / "short", [1.0], seed=0, total_timesteps=1000)
    write_run(tmp_path / "late", [1.0], seed=1, every=500, total_timesteps=1000)
    with pytest.raises(UserError, match=naming("short", "late", "500")):
        learning_curve(find_groups([str(tmp_path)]))


def test_plot_line_is_the_interquartile_mean_with_its_band(tmp_path):
    for seed, value in enumerate([0.0, 2.0, 3.0, 100.0]):
        write_run(tmp_path / str(seed), [value, value + 1.0], seed=seed)
    figure = learning_curve(find_groups([str(tmp_path)]))
    (line,), (band,) = figure.axes[0].lines[:1], figure.axes[0].collections
    np.testing.assert_allclose(line.get_ydata()[[0, -1]], [2.5, 3.5])
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(0.0)
    assert edges.max() == pytest.approx(101.0)
    assert [axis.get_ylabel() for axis in figure.axes[1:]] == ["force_mag"]
    assert "force_mag" not in figure.axes[0].get_title(loc="left")


def test_plot_of_two_seeds_has_no_band(tmp_path):
    for seed in range(2):
        write_run(tmp_path / str(seed), [1.0 * seed, 2.0], seed=seed)
    axis = learning_curve(find_groups([str(tmp_path)])).axes[0]
    np.testing.assert_allclose(axis.lines[0].get_ydata()[[0, -1]], [0.5, 2.0])
    assert not axis.collections
    assert "interval" not in axis.get_title(loc="left")


def test_plot_of_several_environments_draws_common_parameters(tmp_path):
    swing = {"sinusoid": {"mean": 9.8, "amplitude": 4.0, "period": 100}}
    for at in (150, 250):
        jump = {"step": {"before": 10.0, "after": -10.0, "at": at}}
        write_run(tmp_path / str(at), [1.0] * 3, env={"changes": {"gravity": swing, "force_mag": jump}})
    figure = learning_curve(find_groups([str(tmp_path)]))
    assert [axis.get_ylabel() for axis in figure.axes[1:]] == ["gravity"]
    assert "force_mag" in figure.axes[0].get_title(loc="left")
    assert len(figure.axes[0].lines) == 2


def test_plot_of_sub_environments_that_change_differently_says_which_is_drawn(tmp_path):
    for sharing in ("shared", "phase"):
        env = {"changes": {"gravity": {"sinusoid": {"mean": 9.8, "amplitude": 4.0, "period": 100}}}}
        write_run(tmp_path / sharing, [1.0], env={**env, "num_envs": 4, "sharing": sharing})
        figure = learning_curve(find_groups([str(tmp_path / sharing)]))
        assert ("sub-environment 0" in figure.axes[0].get_title(loc="left")) == (sharing == "phase")


def test_plot_of_several_runs_with_a_curriculum_says_that_it_is_not_drawn(tmp_path):
    stages = {"staged": {"stages": [{"length": 1.0}, {"length": 0.5}], "threshold": 400, "window": 20}}
    for seed in (0, 1):
        write_run(tmp_path / str(seed), [1.0] * 3, seed=seed, env={"curriculum": stages})
    assert "curriculum" in learning_curve(find_groups([str(tmp_path)])).axes[0].get_title(loc="left")
    assert "curriculum" not in learning_curve(find_groups([str(tmp_path / "0")])).axes[0].get_title(loc="left")


def test_plot_of_one_run_marks_the_jumps_of_its_normalizer(tmp_path):
    counts = {100: 0.0, 200: 1.0, 300: 1.0}
    rows = [{"time/total_timesteps": step + 1, "normalizer/jumps": n} for step, n in counts.items()]
    write_run(tmp_path / "0", [1.0] * 3, rows=rows, env={})
    figure = learning_curve(find_groups([str(tmp_path)]))
    dashed = [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert dashed == [201]


def test_space_ticks_keeps_labels_apart():
    figure = Figure(figsize=(5, 3), layout="constrained")
    logarithmic, words = figure.subplots(1, 2)
    logarithmic.plot([2e-4, 3e-3], [0.0, 1.0])
    logarithmic.set_xscale("log")
    words.plot(["20", "69", "200", "20_000 steps"], range(4))
    space_ticks(figure)
    figure.draw_without_rendering()
    for axes in (logarithmic, words):
        shown = [text for text in axes.get_xticklabels(which="both") if text.get_text()]
        inside = [text for text in shown if axes.bbox.x0 <= text.get_window_extent().x1 <= axes.bbox.x1 + 30]
        assert len(inside) >= 2
        if axes is logarithmic:
            boxes = [text.get_window_extent() for text in inside]
            assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        assert {text.get_rotation() for text in inside} == {30.0}


def test_plot_many_groups_have_distinct_styles_and_an_outside_legend(tmp_path):
    for number in range(20):
        write_run(tmp_path / f"r{number}", [1.0, 2.0], agent={"half_life": number + 1})
    figure = learning_curve(find_groups([str(tmp_path)]))
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[:20]}
    assert len(looks) == len(labels(figure)) == 20
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 < figure.axes[-1].get_window_extent().y0
    assert legend.x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("tag", "label"),
    [
        ("optim/match_unbounded", "matched, before its bounds"),
        ("optim/bank_unbounded", "estimated, before its bounds"),
    ],
)
def test_plot_shows_the_current_and_the_estimated_half_life(tag, label, tmp_path):
    rows = [
        {
            "time/total_timesteps": 100 * number + 1,
            "train/n_updates": 50 * number,
            "optim/second_moment": 1.0,
            "optim/rho": 0.5,
            "optim/half_life_updates": 32.0,
            tag: 10.0 * number,
        }
        for number in range(1, 4)
    ]
    run = read_run(write_run(tmp_path / "run", [1.0], rows=rows))
    _, half_lives = memory_curves(run, read_tracking(run)).axes
    lines = {line.get_label(): line.get_ydata() for line in half_lives.lines}
    assert list(lines["current"]) == [32.0, 32.0, 32.0]
    assert list(lines[label]) == [10.0, 20.0, 30.0]


def test_plot_names_with_dollar_signs_or_a_first_underscore_are_in_the_legend(tmp_path):
    for name in ("one", "two"):
        write_run(tmp_path / name, [1.0])
    figure = learning_curve(find_groups([f"_old={tmp_path}/one", f"a$b_$c={tmp_path}/two"]))
    figure.draw_without_rendering()
    assert [text.strip() for text in labels(figure)] == ["_old", r"a\$b_\$c"]


@pytest.mark.parametrize(("every", "marked"), [(5, 200), (4, 0)])
def test_plot_marks_changes_of_regime_unless_the_lines_would_fill_it(every, marked, tmp_path):
    redraw = {"redraw": {"low": 5.0, "high": 15.0, "every": every}}
    write_run(tmp_path / "run", [1.0] * 10, env={"changes": {"gravity": redraw}})
    (returns, _) = learning_curve(find_groups([str(tmp_path)])).axes
    assert len(returns.lines) - 1 == marked


def test_plot_of_independent_clocks_uses_their_own_steps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = []

    def spy(changes, clocks, seed):
        drawn.append(clocks.max())
        return trace(changes, clocks, seed)

    monkeypatch.setattr("rl_rms.cli.plots.trace", spy)
    four = ["--total_timesteps=4000", "--env.num_envs=4"]
    for sharing in ("shared", "independent"):
        assert main(["train", "drifting_cartpole", *four, f"--env.sharing={sharing}"]) == 0
    assert drawn == [pytest.approx(4000, abs=40), pytest.approx(1000, abs=10)]
