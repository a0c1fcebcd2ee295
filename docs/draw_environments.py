"""Draw every schedule, every curriculum, and the parameters of every ready-made environment.

Run: python docs/draw_environments.py

Writes docs/images/schedules.png, docs/images/curricula.png and docs/images/tasks.png.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from rl_rms.envs import noise
from rl_rms.envs.curricula import (
    ALPGMM,
    Curriculum,
    DomainRandomization,
    ExpandingBox,
    Learnability,
    LearningProgress,
    LinearRamp,
    PrioritizedLevelReplay,
    Staged,
    SuccessGated,
    WilsonGate,
)
from rl_rms.envs.drift import trace
from rl_rms.envs.schedules import (
    AdversarialBurst,
    Burst,
    Constant,
    Cosine,
    Exponential,
    Function,
    Linear,
    Markov,
    OrnsteinUhlenbeck,
    PiecewiseConstant,
    PoissonJumps,
    RandomWalk,
    Redraw,
    Sawtooth,
    Schedule,
    Sigmoid,
    Sinusoid,
    Square,
    Step,
    Trace,
)
from rl_rms.envs.tasks import TASKS, task_config

IMAGES = Path(__file__).parent / "images"
SCHEDULES: dict[str, Schedule] = {
    "Constant": Constant(1.0),
    "Step": Step(before=1.0, after=2.0, at=4_000),
    "PiecewiseConstant": PiecewiseConstant([(0, 1.0), (2_000, 2.0), (5_000, 0.5), (7_000, 1.5)]),
    "Linear": Linear(start=1.0, end=2.0, over=6_000),
    "Cosine": Cosine(start=1.0, end=2.0, over=6_000),
    "Exponential": Exponential(start=2.0, end=1.0, tau=2_000),
    "Sigmoid": Sigmoid(start=1.0, end=2.0, at=5_000, over=3_000),
    "Sinusoid": Sinusoid(mean=1.0, amplitude=0.5, period=4_000),
    "Square": Square(low=1.0, high=2.0, period=4_000, duty=0.3),
    "Sawtooth": Sawtooth(low=1.0, high=2.0, period=3_000),
    "Redraw": Redraw(low=0.5, high=2.0, every=1_500),
    "PoissonJumps": PoissonJumps(low=0.5, high=2.0, mean_dwell=1_500),
    "Markov": Markov(values=[0.5, 1.0, 2.0], mean_dwell=1_000),
    "Burst": Burst(base=1.0, peak=3.0, every=2_500, duration=200),
    "AdversarialBurst": AdversarialBurst(
        base=1.0,
        low=0.5,
        high=2.0,
        threshold=100,
        duration=800,
        strikes=[(1_500, 0.5), (4_000, 2.0), (6_500, 2.0)],
    ),
    "OrnsteinUhlenbeck": OrnsteinUhlenbeck(mean=1.0, std=0.3, tau=1_000),
    "RandomWalk": RandomWalk(start=1.0, std=0.01, low=0.5, high=2.0),
    "Trace": Trace([1.0, 1.2, 0.7, 1.9, 1.5], every=2_000),
    "Function": Function(lambda clock: 1.0 + np.log1p(clock / 1_000) / 3, timescale=5_000, amplitude=0.4),
    "Linear then Sinusoid": Linear(start=1.0, end=2.0, over=4_000).then(
        Sinusoid(mean=2.0, amplitude=0.4, period=2_000), at=5_000
    ),
    "Sinusoid + Redraw": Sinusoid(mean=1.0, amplitude=0.3, period=2_500) + Redraw(low=0.0, high=1.0, every=2_000),
    "Linear * Redraw": Linear(start=1.0, end=2.0, over=8_000) * Redraw(low=0.5, high=1.0, every=1_000),
    "Sinusoid, reflected": Sinusoid(mean=1.0, amplitude=0.8, period=4_000).reflect(high=1.4),
    "Sawtooth, delayed": Sawtooth(low=1.0, high=2.0, period=3_000).delay(2_500),
    "Sinusoid, during": Sinusoid(mean=1.0, amplitude=0.5, period=2_000).during(3_000, 7_000),
    "RandomWalk, clipped": RandomWalk(start=1.0, std=0.01, low=0.0, high=2.0).clip(0.8, 1.3),
}

LEVELS = [{"difficulty": level / 10} for level in range(1, 11)]
CURRICULA: dict[str, Curriculum] = {
    "LinearRamp": LinearRamp({"difficulty": 0.1}, {"difficulty": 1.0}, over=2_000, unit="episodes"),
    "Staged": Staged(LEVELS, threshold=0.9, window=30),
    "SuccessGated": SuccessGated(LEVELS),
    "ExpandingBox": ExpandingBox({"difficulty": [0.1, 0.2]}, {"difficulty": [0.1, 1.0]}, WilsonGate(0.7), steps=9),
    "DomainRandomization": DomainRandomization({"difficulty": [0.1, 1.0]}),
    "LearningProgress": LearningProgress(LEVELS),
    "Learnability": Learnability(LEVELS),
    "PrioritizedLevelReplay": PrioritizedLevelReplay(LEVELS),
    "ALPGMM": ALPGMM({"difficulty": [0.1, 1.0]}),
}


def draw_curricula() -> None:
    """Draw the tasks that each curriculum gives a simulated learner, and the learner's skill."""
    figure, axes = plt.subplots(3, 3, figsize=(12, 6), layout="constrained", sharex=True, sharey=True)
    for ax, (name, curriculum) in zip(axes.flat, CURRICULA.items(), strict=True):
        random, skill = np.random.default_rng(0), 0.15
        given, skills = [], []
        for _ in range(3_000):
            difficulty = curriculum.task(0)["difficulty"]
            rate = 1 / (1 + np.exp(20 * (difficulty - skill - 0.1)))
            success = bool(random.random() < rate)
            # The skill grows most at tasks that the learner solves half of the time, and decays slowly.
            skill += 0.004 * rate * (1 - rate) - 0.00005
            curriculum.record(float(success), 10, 0, success)
            given.append(difficulty)
            skills.append(skill)
        ax.plot(given, ".", markersize=1.5, alpha=0.5, label="difficulty of the task")
        ax.plot(skills, linewidth=1.5, label="the learner's skill")
        ax.set_title(name, loc="left", fontsize=10)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.supxlabel("episodes", fontsize=10)
    figure.savefig(IMAGES / "curricula.png", dpi=110)


def draw_schedules() -> None:
    """Draw one panel for each schedule; random schedules with three seeds."""
    columns = 3
    rows = -(-len(SCHEDULES) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(12, 1.9 * rows), layout="constrained", sharex=True)
    for ax, (name, schedule) in zip(axes.flat, SCHEDULES.items(), strict=False):
        schedule.plot(ax, until=10_000, seeds=3)
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
        ax.set_title(name, loc="left", fontsize=10)
        ax.set(ylabel="", xlabel="")
    for ax in axes.flat[len(SCHEDULES) :]:
        ax.set_visible(False)
    figure.supxlabel("env steps", fontsize=10)
    figure.savefig(IMAGES / "schedules.png", dpi=110)


def draw_task(ax: Axes, name: str) -> None:
    """Draw the value of each target over time, or the stages of the curriculum."""
    config = task_config(name)
    schedules = config.schedules()
    span = int(max([600_000, *(2.5 * one.timescale for one in schedules.values())]))
    if name.endswith(("Bandit-v0", "TwoStates-v0")):
        span = 60_000
    clocks = np.arange(0, span, max(span // 3_000, 1))
    traces = trace(schedules, clocks, seed=0)
    if "observation.offsets_draw" in traces:
        # This target only selects which offsets are drawn. The panel shows the first offset instead.
        draws = traces.pop("observation.offsets_draw")
        first = [noise.vector("observation.offsets", 0, 0, int(draw), 1)[0] for draw in draws]
        traces["observation.offsets[0]"] = traces.pop("observation.offsets") * np.array(first)
    for target, values in traces.items():
        label = target if len(schedules) <= 3 else None
        ax.plot(clocks, values, linewidth=1.2, label=label, drawstyle="steps-post")
    curriculum = config.make_curriculum()
    if curriculum is not None:
        (target,) = curriculum.targets
        stages = curriculum.to_config()["staged"]["stages"]
        ax.step(
            range(len(stages) + 1), [stage[target] for stage in (*stages, stages[-1])], where="post", label=target
        )
        ax.set_xlabel("stage", fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        ax.set_xlabel("env steps", fontsize=8)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    if ax.get_legend_handles_labels()[0]:
        place = {"loc": "lower right", "bbox_to_anchor": (1.02, 0.97), "borderaxespad": 0.0}
        ax.legend(fontsize=7, frameon=False, ncols=2, columnspacing=1.0, handlelength=1.2, **place)
    ax.set_title(name, loc="left", fontsize=8.5)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


def draw_tasks() -> None:
    """Draw one panel for each ready-made environment."""
    columns = 4
    rows = -(-len(TASKS) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(14, 1.9 * rows), layout="constrained")
    for ax, name in zip(axes.flat, TASKS, strict=False):
        draw_task(ax, name)
    for ax in axes.flat[len(TASKS) :]:
        ax.set_visible(False)
    figure.savefig(IMAGES / "tasks.png", dpi=100)


if __name__ == "__main__":
    plt.rcParams["axes.prop_cycle"] = plt.cycler(color=["#0072B2", "#D55E00", "#009E73"])
    draw_schedules()
    draw_curricula()
    draw_tasks()
