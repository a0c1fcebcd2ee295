"""Pictures of runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rl_rms.cli.runs import Run
from rl_rms.envs.drift import regime_changes, trace
from rl_rms.studies.frame import COLORS

_TRACE_POINTS = 2000


def learning_curve(runs: Sequence[Run], path: Path) -> None:
    """Draw mean episode return over env steps and, under it, what changed in the first run's world.

    Args:
        runs: The runs; the world of the first is drawn.
        path: The file to write, PNG or SVG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    world = runs[0].config.env
    seed = runs[0].config.seed if world.drift_seed is None else world.drift_seed
    end = max(step for run in runs for step in run.steps)
    clocks = np.linspace(0, end, _TRACE_POINTS).astype(np.int64)
    changes = world.schedules()
    # With independent clocks each sub-environment has lived its share of the env steps.
    pace = world.num_envs if world.sharing == "independent" else 1
    traces = trace(changes, clocks // pace, seed)
    stages = runs[0].series("curriculum/stage")
    lower = list(traces) + (["curriculum stage"] if stages[0] else [])

    heights = [3.0] + [1.0] * len(lower)
    figure = Figure(figsize=(8, 3.2 + 1.1 * len(lower)), layout="constrained")
    axes: Any = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for index, run in enumerate(runs):
        steps, returns = run.series("rollout/ep_rew_mean")
        axes[0].plot(steps, returns, color=COLORS[index % len(COLORS)], linewidth=1.8, label=run.folder.name)
    axes[0].set_ylabel("mean return,\nlast 100 episodes")
    if len(runs) > 1:
        axes[0].legend(loc="upper left", bbox_to_anchor=(0.0, -0.02), frameon=False, fontsize=8)
    axes[0].set_title(f"{runs[0].config.agent.algorithm} on {world.id}", loc="left", fontsize=10)
    for axis, (name, values) in zip(axes[1:], traces.items(), strict=False):
        axis.plot(clocks, values, color="#555555", linewidth=1.2)
        axis.set_ylabel(name, fontsize=8)
    if stages[0]:
        axes[-1].step(*stages, where="post", color="#555555", linewidth=1.2)
        axes[-1].set_ylabel("curriculum\nstage", fontsize=8)
        axes[-1].yaxis.set_major_locator(MaxNLocator(integer=True))
    for event in regime_changes(changes, 0, int(end) // pace, seed) * pace:
        for axis in axes:
            axis.axvline(event, color="#AAAAAA", linewidth=0.8, linestyle=":", zorder=0)
    axes[-1].set_xlabel("env steps")
    axes[-1].xaxis.set_major_formatter(EngFormatter(sep=""))
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.01)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
