"""Plots of runs."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rl_rms.agents import files
from rl_rms.agents.metrics import RETURN
from rl_rms.cli.compare import FEWEST_SEEDS
from rl_rms.cli.groups import Group, common_steps
from rl_rms.cli.runs import Run
from rl_rms.cli.tracking import Tracking
from rl_rms.envs.drift import regime_changes, trace
from rl_rms.studies.drawing import COLORS, figure_bytes
from rl_rms.studies.intervals import interquartile_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRACE_POINTS = 2000
_GRID_POINTS = 200
# More lines at changes of regime would fill the figure and take minutes to draw.
_MOST_LINES = 200
# Width of a figure in inches.
_WIDTH = 8.0
# If a tick label of the x axis has more letters than this, all tick labels of the axis are slanted.
_LONG_TICK = 4
Floats = NDArray[np.float64]
# Seven colors and four line styles make 28 combinations.
_LINES = ("-", "--", ":", "-.")
_GREY = "#555555"
# Estimated width of a letter in the legend, in inches.
_LETTER = 0.075
# Log tags of estimated half-lives before they are clipped to their bounds, and the labels of their curves.
_FOUND = {
    "optim/match_unbounded": "matched, before its bounds",
    "optim/bank_unbounded": "estimated, before its bounds",
}


def learning_curve(
    groups: Sequence[Group], title: str | None = None, size: tuple[float, float] | None = None
) -> "Figure":
    """Draw return over env steps and, below, the changes of the environment.

    For a group of several seeds, the figure shows the interquartile mean up to the env step that all seeds
    reached, and its 95 % band if the group has at least three seeds. Only changes that all runs share are
    drawn; the title names the changes that differ. If the sub-environments of a run change differently, the
    changes of sub-environment 0 are drawn.

    Args:
        groups: Groups of runs in the same environment.
        title: First line of the title; by default the agent and the environment.
        size: Width and height in inches; by default the size that the panels and the legend need.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    runs = [run for group in groups for run in group.runs]
    end = max(log.steps[-1] for group in groups for log in group.logs)
    traces = _common_traces(runs, end) if runs else {}
    stages = runs[0].series("curriculum/stage") if len(runs) == 1 else ([], [])
    rows = len(traces) + bool(stages[0])
    figure = Figure(figsize=size or (_WIDTH, 3.2 + 1.1 * rows), layout="constrained")
    heights = [3.0] + [1.0] * rows
    axes: Any = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for index, group in enumerate(groups):
        _draw_returns(axes[0], group, index)
    axes[0].set_ylabel("mean return,\nlast 100 episodes")
    axes[0].set_title(_title(groups, title) + _left_out(runs, traces), loc="left", fontsize=10)
    for axis, (name, values) in zip(axes[1:], traces.items(), strict=False):
        axis.plot(np.linspace(0, end, _TRACE_POINTS), values, color=_GREY, linewidth=1.2)
        axis.set_ylabel(name, fontsize=9)
    if stages[0]:
        axes[-1].step(*stages, where="post", color=_GREY, linewidth=1.2)
        axes[-1].set_ylabel("curriculum\nstage", fontsize=9)
        axes[-1].yaxis.set_major_locator(MaxNLocator(integer=True))
    if runs:
        _mark_changes(axes, runs, end)
    if len(runs) == 1:
        _mark_jumps(axes, runs[0])
    if len(groups) > 1:
        _legend(figure, axes[0])
    if size is not None:
        figure.set_size_inches(size)
    _finish(axes)
    figure.align_ylabels()
    return figure


def memory_curves(run: Run, tracking: Tracking) -> "Figure":
    """Draw the second moment, the squared gradients, and the current and, if logged, the estimated half-life."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(_WIDTH, 5.0), layout="constrained")
    axes: Any = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1.0])
    axes[0].plot(tracking.steps, tracking.squares, ".", color=COLORS[1], markersize=3.5, label="squared gradients")
    axes[0].plot(tracking.steps, tracking.second_moment, color=COLORS[0], linewidth=1.8, label="second moment v")
    axes[0].set_yscale("log")
    axes[0].set_ylabel("mean over all\nparameters")
    axes[0].set_title("Second moment and squared gradients", loc="left", fontsize=10)
    axes[0].legend(frameon=False, fontsize=9, loc="best")
    axes[1].plot(*run.series("optim/half_life_updates"), color=COLORS[2], linewidth=1.8, label="current")
    found = next((tag for tag in _FOUND if run.series(tag)[0]), None)
    if found is not None:
        axes[1].plot(*run.series(found), color=COLORS[3], linewidth=1.2, linestyle="--", label=_FOUND[found])
        axes[1].set_yscale("log")
        axes[1].yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes[1].yaxis.set_major_formatter("{x:g}")
        axes[1].yaxis.set_minor_locator(NullLocator())
        axes[1].legend(frameon=False, fontsize=9)
    else:
        axes[1].set_ylim(0, 1.1 * axes[1].dataLim.y1)
    axes[1].set_ylabel("half-life,\nupdates")
    _mark_changes(axes, [run], run.steps[-1])
    _finish(axes)
    figure.align_ylabels()
    return figure


def effective_step(run: Run) -> "Figure":
    """Draw the root mean square of the optimizer's steps, and the learning rate.

    Args:
        run: A run that logged the effective step.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.plot(*run.series("optim/effective_step"), color=COLORS[0], linewidth=1.2, label="effective step")
    axis.plot(
        *run.series("train/learning_rate"), color=COLORS[1], linewidth=1.2, linestyle="--", label="learning rate"
    )
    axis.set_yscale("log")
    axis.set_ylabel("root mean square\nof a step")
    axis.set_title("Size of a step", loc="left", fontsize=10)
    axis.legend(frameon=False, fontsize=9, loc="best")
    _mark_changes([axis], [run], run.steps[-1])
    _finish([axis])
    return figure


def space_ticks(figure: "Figure") -> None:
    """Avoid overlapping tick labels: draw fewer ticks on logarithmic axes, and slant long labels of x axes."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(NullFormatter())
    figure.draw_without_rendering()
    for axes in figure.axes:
        if max((len(text.get_text()) for text in axes.get_xticklabels()), default=0) > _LONG_TICK:
            axes.tick_params(axis="x", labelrotation=30)


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, SVG or PDF, by the file's suffix."""
    files.write(path, figure_bytes(figure, path.suffix[1:], dpi=130))


def _left_out(runs: Sequence[Run], traces: dict[str, Floats]) -> str:
    """Return lines for the title that name the changes or sub-environments that are not drawn; empty if none."""
    is_one_of_several = any(run.config.env.sharing != "shared" and run.config.env.num_envs > 1 for run in runs)
    drawn = "\nbelow: changes of sub-environment 0" if traces and is_one_of_several else ""
    changing = dict.fromkeys(target for run in runs for target in run.config.env.schedules())
    different = [target for target in changing if target not in traces]
    if len(runs) > 1 and any(run.config.env.curriculum for run in runs):
        different.append("the curriculum")
    return drawn + (
        f"\nnot drawn, because they differ between the runs: changes of {', '.join(different)}"
        if different
        else ""
    )


def _title(groups: Sequence[Group], first_line: str | None) -> str:
    runs = [run for group in groups for run in group.runs]
    seeds = max(len(group.logs) for group in groups)
    what = f"{runs[0].config.agent.algorithm.upper()} on {runs[0].config.env.id}" if runs else "returns"
    if len({run.config.agent.algorithm for run in runs}) > 1 or len(runs) < sum(len(g.logs) for g in groups):
        what = f"returns on {runs[0].config.env.id}" if runs else what
    what = what if first_line is None else _drawable(first_line)
    if seeds == 1:
        return what
    return f"{what}\ninterquartile mean over seeds{', 95 % interval' if seeds >= FEWEST_SEEDS else ''}"


def _label(group: Group) -> str:
    name = _drawable(group.name)
    # matplotlib leaves labels that begin with _ out of legends.
    name = f" {name}" if name.startswith("_") else name
    return name if len(group.logs) == 1 else f"{name} ({len(group.logs)} seeds)"


def _drawable(text: str) -> str:
    """Escape the dollar signs of a text whose parts between dollar signs are not valid math."""
    from matplotlib.mathtext import MathTextParser

    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return text.replace("$", r"\$")
    return text


def _look(index: int) -> tuple[str, str]:
    return COLORS[index % len(COLORS)], _LINES[index // len(COLORS) % len(_LINES)]


def _legend(figure: "Figure", axis: "Axes") -> None:
    """Draw the legend under the axes, in as many columns as fit, and enlarge the figure by the legend's height."""
    handles, labels = axis.get_legend_handles_labels()
    width, height = figure.get_size_inches()
    columns = max(1, int(width / (_LETTER * (max(map(len, labels)) + 6))))
    figure.set_size_inches(width, height + 0.2 * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=9)


def _draw_returns(axis: "Axes", group: Group, index: int) -> None:
    color, line = _look(index)
    steps, returns = on_a_grid(group)
    if len(group.logs) > 1:
        middle, low, high = interquartile_curve(returns)
        if len(group.logs) >= FEWEST_SEEDS:
            axis.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
    else:
        middle = returns[0]
    axis.plot(steps, middle, color=color, linestyle=line, linewidth=1.8, label=_label(group))


def on_a_grid(group: Group) -> tuple[Floats, Floats]:
    """Return a group's returns on a common grid of env steps. A single run keeps its logged env steps.

    Returns:
        Env steps, shape ``(points,)``, and returns, shape ``(seeds, points)``.

    Raises:
        UserError: If the runs have no common env steps.
    """
    curves = [log.series(RETURN) for log in group.logs]
    if len(curves) == 1:
        return np.array(curves[0][0]), np.array([curves[0][1]])
    grid = np.linspace(*common_steps(group.logs), _GRID_POINTS)
    return grid, np.array([np.interp(grid, *curve) for curve in curves])


def _common_traces(runs: Sequence[Run], end: float) -> dict[str, Floats]:
    """Return the changes of the environment that all runs share."""
    clocks = np.linspace(0, end, _TRACE_POINTS).astype(np.int64)
    configs = [run.config for run in runs]
    first, *others = [trace(one.env.schedules(), clocks // one.pace, one.drift_seed) for one in configs]
    return {
        name: values
        for name, values in first.items()
        if all(name in other and np.array_equal(values, other[name]) for other in others)
    }


def _mark_changes(axes: Sequence["Axes"], runs: Sequence[Run], end: float) -> None:
    """Draw a line at each change of regime that all runs share, but none if there are more than `_MOST_LINES`."""
    events = [
        set((regime_changes(one.env.schedules(), 0, int(end) // one.pace, one.drift_seed) * one.pace).tolist())
        for one in (run.config for run in runs)
    ]
    common = set.intersection(*events)
    for event in common if len(common) <= _MOST_LINES else ():
        for axis in axes:
            axis.axvline(event, color="#888888", linewidth=0.8, linestyle=":", zorder=0)


def _mark_jumps(axes: Sequence["Axes"], run: Run) -> None:
    """Draw a line at the first log entry after each jump at which the observation normalizer restarted."""
    steps, counts = run.series("normalizer/jumps")
    for step, before, count in zip(steps, [0.0, *counts], counts, strict=False):
        if count > before:
            for axis in axes:
                axis.axvline(step, color=COLORS[1], linewidth=0.8, linestyle="--", zorder=0)


def _finish(axes: Sequence["Axes"]) -> None:
    from matplotlib.ticker import EngFormatter

    axes[-1].set_xlabel("env steps")
    axes[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.01)
