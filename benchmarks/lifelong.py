"""Returns of rl_rms, Stable-Baselines3 and TRAC in changing and in stationary environments.

Run: python benchmarks/lifelong.py run [--tasks NAME ...] [--contenders NAME ...] [--processes 2]
     python benchmarks/lifelong.py report

``run`` appends each finished training run to benchmarks/results/lifelong_runs.jsonl and skips training runs in
this file. You can stop and restart ``run``. ``report`` writes benchmarks/results/lifelong.md,
docs/images/lifelong.png and docs/images/returns.png. Both commands need the extra ``plots``. MiniGrid's tasks need
the extra ``minigrid``.

A training run has five regimes of equal length, also if the task is stationary. A regime has 20,000 env steps on
CartPole, FrozenLake and MiniGrid, 40,000 on Acrobot and 25,600 on Pendulum. A contender is an agent with its
arguments. All agents have 16 sub-environments. With the same seed, all contenders have the same drift. Scores do
not depend on normalizers or on changes of the reward scale:

- CartPole: the episode's length, at most 500.
- FrozenLake and MiniGrid: the percentage of episodes that reach the rewarded goal.
- Acrobot: 500 minus the episode's length.
- Pendulum: 2,000 plus the return.

Contenders named ``defaults`` have the default arguments of their library. The only exception is PPO of
Stable-Baselines3, which has ``n_steps=128``. A rollout of 16 sub-environments then has 2,048 env steps, as many as
a default rollout of one environment.

All other contenders are tuned, and use the task's entropy coefficient and discount. For each task, a hill climb by
factors of 3 finds the learning rate of each tuned contender. The hill climb uses three seeds that the tables do
not use. Ten training runs with other seeds then use this learning rate. The tuned agents of rl_rms have their own
values of arguments such as ``n_steps`` and ``half_life``, which are the same on all tasks. Two tuned contenders of
Stable-Baselines3 are named ``arguments of rl_rms``. The first is A2C with ``n_steps`` and ``gae_lambda`` of the
tuned A2C of rl_rms. The second is PPO with ``n_steps``, ``batch_size`` and ``n_epochs`` of the tuned PPO of
rl_rms. The scores of these two contenders show how much of the difference between the two libraries is due to
these arguments. The other tuned contenders of Stable-Baselines3 have the arguments of ``defaults``, except for the
optimizer of TRAC.

The names of the agents of rl_rms contain these settings:

- ``normalized``: normalizers of observations and rewards that never forget.
- ``10,000 steps``, ``5,000 steps``: the half-life of both normalizers.
- ``jumps``: an observation normalizer that forgets at jumps.
- ``rewards 5,000 steps``: the half-life of the reward normalizer.
- ``RMSprop 20``, ``RMSprop 1,000``: the half-life of RMSprop in updates.

For three parts of the training, the tables show the interquartile mean over seeds and its 95 % stratified
bootstrap interval, both computed by rliable:

- whole life: the whole training run
- after changes: the first quarter of every regime but the first
- late: the last quarter of every regime

A ratio divides two mean scores over seeds. The bootstrap interval of a ratio draws the same seeds for both
contenders. Ratios are relative to the reference of the task, or to a contender with default arguments. The
reference is the contender of Stable-Baselines3 with the highest mean on the reported seeds. The contenders named
``arguments of rl_rms`` cannot be the reference. Because the reference is chosen by the reported seeds, the ratios
favor the reference.
"""

import os
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from changing_tasks import REGIMES, Task, cart_pole, goals, lake, return_above_2_000, sinusoids, steps_saved
from numpy.typing import NDArray
from trac import TRAC
from trainings import (
    NUM_BINS,
    NUM_ENVS,
    SEEDS,
    STRETCHES,
    SWEEP_SEEDS,
    Records,
    best_rates,
    bin_scores,
    climb,
    ratio,
    run_or_report,
    stretches,
)

import rl_rms.agents
from rl_rms.agents.rollout import Episode
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Redraw, Sinusoid, Square
from rl_rms.studies.intervals import interquartile_curve, interquartile_mean

HERE = Path(__file__).parent
RUNS = HERE / "results" / "lifelong_runs.jsonl"
TABLE = HERE / "results" / "lifelong.md"
FIGURE = HERE.parent / "docs" / "images" / "lifelong.png"
README_FIGURE = HERE.parent / "docs" / "images" / "returns.png"
FACTOR = 3.0

Floats = NDArray[np.float64]
Measured = Mapping[str, Mapping[str, tuple[float, Floats]]]


# -- tasks ------------------------------------------------------------------------------------------------

REGIME, ACROBOT_REGIME, PENDULUM_REGIME = 20_000, 40_000, 25_600
_CART_POLE = cart_pole(REGIME)
_ACROBOT = Task("Acrobot-v1", ACROBOT_REGIME, {}, score=steps_saved, jumps=False)
# All episodes of Pendulum have 200 env steps, so each bin has one episode of each environment.
_PENDULUM = Task(
    "Pendulum-v1", PENDULUM_REGIME, {}, ent_coef=0.0, gamma=0.9, score=return_above_2_000, jumps=False
)
_LAKE = lake(REGIME)
_ROOM = Task("two_goals:TwoGoals-v0", REGIME, {}, ent_coef=0.02, score=goals, jumps=False)

FIRST_TASKS = ("action flips", "dynamics jumps", "observation offsets", "reward x100", "stationary")
TASKS: dict[str, Task] = {
    **{name: _CART_POLE[name] for name in FIRST_TASKS},
    **_CART_POLE,
    "slow drift": replace(_CART_POLE["sinusoidal drift"], changes=sinusoids(REGIME, 0.25)),
    "fast drift": replace(_CART_POLE["sinusoidal drift"], changes=sinusoids(REGIME, 4.0)),
    **_LAKE,
    "lake, stationary": replace(_LAKE["lake, ice"], changes={}, jumps=False),
    "acrobot, offsets": replace(
        _ACROBOT,
        changes={"observation.offset": Redraw(low=-1.0, high=1.0, every=ACROBOT_REGIME)},
        jumps=True,
    ),
    "acrobot, stationary": _ACROBOT,
    "pendulum, drift": replace(
        _PENDULUM,
        changes={
            "m": Sinusoid(mean=1.0, amplitude=0.5, period=2 * PENDULUM_REGIME),
            "g": Sinusoid(mean=10.0, amplitude=5.0, period=3 * PENDULUM_REGIME),
        },
    ),
    "pendulum, stationary": _PENDULUM,
    "minigrid, goals": replace(
        _ROOM, changes={"rewarded": Square(low=0.0, high=1.0, period=2 * REGIME)}, jumps=True
    ),
    "minigrid, stationary": _ROOM,
}


# -- contenders -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """An agent of a library.

    Attributes:
        algorithm: Name of the agent's class, in Stable-Baselines3 or in rl_rms.
        start: Learning rate at which the hill climb begins; without a hill climb, the learning rate.
        options: Arguments of the class.
        vec_normalize: Whether Stable-Baselines3's VecNormalize wraps the environments.
        tuned: Whether a hill climb finds the learning rate, and the task sets the entropy coefficient and the
            discount.
    """

    algorithm: str
    start: float
    options: Mapping[str, Any] = field(default_factory=dict)
    vec_normalize: bool = False
    tuned: bool = True


_A2C = {"n_steps": 8, "gae_lambda": 0.95}
_PPO = {"n_steps": 16, "batch_size": 64, "n_epochs": 4}
_SB3_PPO = {"n_steps": 128}
_TRAC = {**_SB3_PPO, "policy_kwargs": {"optimizer_class": TRAC, "optimizer_kwargs": {"eps": 1e-5}}}
THEIRS = {
    "SB3 A2C, defaults": Contender("A2C", 7e-4, tuned=False),
    "SB3 A2C": Contender("A2C", 2.1e-3),
    "SB3 A2C, VecNormalize": Contender("A2C", 2.1e-3, vec_normalize=True),
    "SB3 PPO, defaults": Contender("PPO", 3e-4, _SB3_PPO, tuned=False),
    "SB3 PPO, VecNormalize": Contender("PPO", 9e-4, _SB3_PPO, vec_normalize=True),
    "SB3 PPO": Contender("PPO", 9e-4, _SB3_PPO),
    "SB3 PPO, TRAC": Contender("PPO", 9e-4, _TRAC),
}


# A ratio to the best contender of Stable-Baselines3 needs the results of these two contenders on the task.
NEEDED = ("SB3 A2C, VecNormalize", "SB3 PPO, VecNormalize")

# Stable-Baselines3 with the rollout and minibatch arguments of the tuned agents of rl_rms.
MATCHED = {
    "SB3 A2C, VecNormalize, arguments of rl_rms": Contender("A2C", 2.1e-3, _A2C, vec_normalize=True),
    "SB3 PPO, VecNormalize, arguments of rl_rms": Contender("PPO", 9e-4, _PPO, vec_normalize=True),
}


def _normalized(half_life: str = "inf", on_jump: str = "keep", reward: bool | str = True) -> dict[str, Any]:
    observation = {"half_life": half_life, "on_jump": on_jump}
    return {"normalize_observation": observation, "normalize_reward": reward}


def _a2c(**options: Any) -> Contender:
    return Contender("A2C", 2e-3, {**_A2C, "half_life": 200, **options})


def _ppo(**options: Any) -> Contender:
    return Contender("PPO", 1e-3, {**_PPO, "half_life": 200, **options})


_NOT_NORMALIZED = {"normalize_observation": False, "normalize_reward": False}
_ADAM = {"half_life": None, "optimizer": "torch.optim.Adam", "optimizer_kwargs": {"eps": 1e-5}}
OURS = {
    "rl_rms A2C, defaults": Contender("A2C", 2e-3, tuned=False),
    "rl_rms PPO, defaults": Contender("PPO", 1e-3, tuned=False),
    "rl_rms A2C, not normalized": _a2c(**_NOT_NORMALIZED),
    "rl_rms A2C, normalized": _a2c(**_normalized()),
    "rl_rms A2C, 10,000 steps": _a2c(**_normalized("10_000 steps", reward="10_000 steps")),
    "rl_rms A2C, 5,000 steps": _a2c(**_normalized("5_000 steps", reward="5_000 steps")),
    "rl_rms A2C, jumps": _a2c(**_normalized(on_jump="forget")),
    "rl_rms A2C, jumps, rewards 5,000 steps": _a2c(**_normalized(on_jump="forget", reward="5_000 steps")),
    "rl_rms PPO, not normalized": _ppo(**_NOT_NORMALIZED),
    "rl_rms PPO, normalized": _ppo(**_normalized()),
    "rl_rms PPO, 10,000 steps": _ppo(**_normalized("10_000 steps", reward="10_000 steps")),
    "rl_rms PPO, 5,000 steps": _ppo(**_normalized("5_000 steps", reward="5_000 steps")),
    "rl_rms PPO, jumps": _ppo(**_normalized(on_jump="forget")),
    "rl_rms PPO, jumps, n_steps=64": _ppo(**_normalized(on_jump="forget"), n_steps=64),
    "rl_rms PPO, jumps, rewards 5,000 steps": _ppo(**_normalized(on_jump="forget", reward="5_000 steps")),
    "rl_rms PPO, normalized, RMSprop 20": _ppo(**_normalized(), half_life=20),
    "rl_rms PPO, normalized, RMSprop 1,000": _ppo(**_normalized(), half_life=1_000),
    "rl_rms PPO, normalized, Adam": _ppo(**_normalized(), **_ADAM),
}
CONTENDERS = {**THEIRS, **MATCHED, **OURS}
# The figures show these contenders and the reference of each task.
SHOWN = {
    "SB3 PPO, defaults": "#999999",
    "rl_rms PPO, defaults": "#56B4E9",
    "rl_rms PPO, jumps": "#0072B2",
}
BEST_OF_SB3 = "best tuned agent of SB3"
_ROLES = {"SB3 PPO, defaults": "", "rl_rms PPO, jumps": ", tuned"}
IN_README = ("dynamics jumps", "observation offsets", "reward x100")


# -- training ---------------------------------------------------------------------------------------------


def train(task: str, contender: str, rate: float, seed: int, life: int | None = None) -> list[float]:
    """Train an agent, and return its score in each bin.

    Args:
        task: Name of a task.
        contender: Name of a contender.
        rate: Learning rate.
        seed: Seed of the agent, its environments and the drift.
        life: Env steps of the training; None uses the env steps of the task.
    """
    torch.set_num_threads(1)
    which, chosen = TASKS[task], CONTENDERS[contender]
    life = life or which.life
    options: dict[str, Any] = {"learning_rate": rate, "seed": seed, "device": "cpu", **chosen.options}
    if chosen.tuned:
        options |= {"ent_coef": which.ent_coef, "gamma": which.gamma}
    learn = _learn_ours if contender in OURS else _learn_theirs
    bin = which.life // NUM_BINS
    return bin_scores(learn(which, chosen, options, seed, life), which.score, bin, life // bin)


def _learn_ours(task: Task, contender: Contender, options: dict[str, Any], seed: int, life: int) -> list[Episode]:
    env = make_vec(task.id, NUM_ENVS, dict(task.changes), curriculum=task.make_curriculum(), seed=seed)
    if isinstance(env.single_observation_space, gym.spaces.Discrete):
        options["normalize_observation"] = False
    agent = getattr(rl_rms.agents, contender.algorithm)(env, **options)
    episodes: list[Episode] = []
    agent.learn(life, callback=lambda trained: episodes.extend(trained.new_episodes), log_interval=life)
    env.close()
    return episodes


def _learn_theirs(
    task: Task, contender: Contender, options: dict[str, Any], seed: int, life: int
) -> list[Episode]:
    import stable_baselines3
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

    from rl_rms.sb3 import make_vec_env

    episodes: list[Episode] = []

    class Collect(BaseCallback):
        def _on_step(self) -> bool:
            for index, info in enumerate(self.locals["infos"]):
                if "episode" in info:
                    ended = info["episode"]
                    episodes.append(Episode(ended["r"], ended["l"], index, self.num_timesteps))
            return True

    # make_vec_env returns a VecMonitor. VecNormalize wraps the VecMonitor, so the VecMonitor records unnormalized
    # returns.
    env: VecEnv = make_vec_env(task.id, NUM_ENVS, task.changes, curriculum=task.make_curriculum(), seed=seed)
    if contender.vec_normalize:
        discrete = isinstance(env.observation_space, gym.spaces.Discrete)
        env = VecNormalize(env, norm_obs=not discrete, gamma=options.get("gamma", 0.99))
    model = getattr(stable_baselines3, contender.algorithm)("MlpPolicy", env, **options)
    model.learn(life, callback=Collect())
    env.close()
    return episodes


# -- running ----------------------------------------------------------------------------------------------


def duel(task: str, contender: str) -> str:
    """Do all training runs of a contender on a task. Return a line with the learning rate and the mean score."""
    records = Records(RUNS, train)
    chosen = CONTENDERS[contender]
    rate = chosen.start
    if chosen.tuned:
        rate = climb(lambda one: records.mean(task, contender, one, SWEEP_SEEDS), rate, FACTOR)
    return f"{task} | {contender} | {rate:.3g}: {records.mean(task, contender, rate, SEEDS):.1f}"


def ordered(tasks: list[str], contenders: list[str]) -> list[tuple[str, str]]:
    """Return the pairs of task and contender in the order in which they are trained.

    The tasks in `FIRST_TASKS` come first, contender by contender. The other tasks follow, task by task.
    """
    first = [task for task in FIRST_TASKS if task in tasks]
    others = [task for task in tasks if task not in first]
    return [
        *((task, one) for one in contenders for task in first),
        *((task, one) for task in others for one in contenders),
    ]


def run(tasks: list[str], contenders: list[str], processes: int) -> None:
    """Do all missing training runs in parallel processes."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes) as pool:
        for future in [pool.submit(duel, *pair) for pair in ordered(tasks, contenders)]:
            print(future.result(), flush=True)


# -- reporting --------------------------------------------------------------------------------------------


def reference(measured: Mapping[str, tuple[float, Floats]]) -> str | None:
    """Return the contender in `THEIRS` with the highest mean score.

    The result is None unless both contenders in `NEEDED` are trained, because one of these two is usually the
    best.
    """
    if not all(one in measured for one in NEEDED):
        return None
    return max((one for one in THEIRS if one in measured), key=lambda one: float(measured[one][1].mean()))


def _describe(task: str, other: str, measured: Mapping[str, tuple[float, Floats]]) -> str:
    missing = [one for one in THEIRS if one not in measured]
    return f"- {task}: {other}{' (not yet trained: ' + '; '.join(missing) + ')' if missing else ''}"


def _table(corner: str, columns: list[str], rows: Mapping[str, list[str]]) -> list[str]:
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]


def _scores(best: Measured, tasks: list[str], rows: list[str], stretch: str) -> list[str]:
    shown: dict[str, list[str]] = {row: [] for row in rows}
    for task in tasks:
        middles = {
            row: interquartile_mean(stretches(best[task][row][1])[stretch]) for row in rows if row in best[task]
        }
        top = max((one.middle for one in middles.values()), default=0.0)
        for row in rows:
            cell = ""
            if row in middles:
                middle, low, high = middles[row]
                cell = f"{middle:.0f} ({low:.0f} to {high:.0f})"
            shown[row].append(f"**{cell}**" if row in middles and middles[row].middle == top else cell)
    return _table("agent", tasks, shown)


def _ratios(best: Measured, references: Mapping[str, str], rows: list[str], stretch: str) -> list[str]:
    shown: dict[str, list[str]] = {}
    for row in rows:
        pairs = {
            task: (stretches(best[task][row][1])[stretch], stretches(best[task][other][1])[stretch])
            for task, other in references.items()
            if row in best[task]
        }
        cells = [_ratio_cell({task: pairs[task]}) if task in pairs else "" for task in references]
        whole = _ratio_cell(pairs) if len(pairs) == len(references) else ""
        shown[row] = [*cells, whole]
    return _table("agent", [*references, "all"], shown)


def _ratio_cell(pairs: Mapping[str, tuple[Floats, Floats]]) -> str:
    middle, low, high = ratio(pairs)
    cell = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    return f"**{cell}**" if low > 1 or high < 1 else cell


def report() -> None:
    """Write the tables and the figures."""
    records = Records(RUNS, train)
    best = best_rates(records)
    tasks = [task for task in TASKS if best.get(task)]
    rows = [row for row in CONTENDERS if any(row in best[task] for task in tasks)]
    compared = [row for row in rows if row not in THEIRS]
    chosen = {task: reference(best[task]) for task in tasks}
    references = {task: one for task, one in chosen.items() if one is not None}
    seconds: dict[str, list[float]] = defaultdict(list)
    for (_, contender, _, _), one in records.seconds.items():
        seconds[contender].append(one)
    lines = [
        "# Returns in environments that change",
        "",
        "`python benchmarks/lifelong.py run` trains the agents, and `python benchmarks/lifelong.py report` writes "
        "this page. The raw scores are in lifelong_runs.jsonl. Scores are interquartile means over "
        f"{len(SEEDS)} seeds with their 95 % intervals. Tuned agents have their best learning rates. The best "
        "score of a column is bold. The docstring of the benchmark explains scores and agents. If a cell "
        "is empty, its training runs are missing.",
    ]
    for stretch in STRETCHES:
        lines += ["", f"## {stretch.capitalize()}", "", *_scores(best, tasks, rows, stretch)]
    if references:
        for stretch in STRETCHES:
            lines += [
                "",
                f"## {stretch.capitalize()}, ratio to the best of Stable-Baselines3",
                "",
                "A ratio divides the mean score of the agent by the mean score of the task's reference. Brackets "
                "contain its 95 % interval. A ratio is bold if the interval excludes 1. The last column is the "
                "geometric mean over tasks. The references are:",
                "",
                *(_describe(task, other, best[task]) for task, other in references.items()),
                "",
                *_ratios(best, references, compared, stretch),
            ]
    both = ("SB3 PPO, defaults", "SB3 A2C, defaults")
    for one in both:
        defaults = {task: one for task in tasks if all(other in best[task] for other in both)}
        if defaults:
            lines += ["", f"## Whole life, ratio to {one}", ""]
            lines += _ratios(best, defaults, [row for row in rows if row != one], "whole life")
    rates = {row: [f"{best[task][row][0]:.2g}" if row in best[task] else "" for task in tasks] for row in rows}
    lines += ["", "## Learning rates", "", *_table("agent", tasks, rates)]
    lines += ["", "## Cost", ""]
    lines += ["Median CPU time of a training run on one core of a shared machine, whose speed varied:", ""]
    costs = {row: [f"{np.median(seconds[row]):.1f}", str(len(seconds[row]))] for row in rows}
    lines += _table("agent", ["CPU seconds", "training runs"], costs)
    TABLE.write_text("\n".join(lines) + "\n")
    if references:
        draw(best, references, FIGURE)
    if set(IN_README) <= set(references):
        draw(best, {task: references[task] for task in IN_README}, README_FIGURE)
    print(TABLE.read_text())


def draw(best: Measured, references: Mapping[str, str], path: Path) -> None:
    """Draw the scores and their 95 % intervals over env steps, in a panel for each task.

    Vertical lines mark jumps.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(references))
    rows = -(-len(references) // columns)
    size = (5 * columns, 3.4 * rows + 0.5)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    labelled: dict[str, Any] = {}
    for ax, (task, other) in zip(axes.flat, references.items(), strict=False):
        which = TASKS[task]
        env_steps = (np.arange(NUM_BINS) + 0.5) * which.life / NUM_BINS
        for contender, color in {other: "#D55E00", **SHOWN}.items():
            if contender not in best[task]:
                continue
            middle, low, high = interquartile_curve(best[task][contender][1])
            label = BEST_OF_SB3 if contender == other else contender + _ROLES.get(contender, "")
            (labelled[label],) = ax.plot(env_steps, middle, color=color, label=label)
            ax.fill_between(env_steps, low, high, color=color, alpha=0.2, linewidth=0)
        if which.jumps:
            for regime in range(1, REGIMES):
                ax.axvline(regime * which.regime, color="black", linewidth=0.6, linestyle=":")
        ax.set(title=f"{task}\nbest of SB3: {other.removeprefix('SB3 ')}", xlabel="env steps", ylabel="score")
        ax.title.set_fontsize("medium")
        ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.xaxis.set_major_formatter("{x:,.0f}")
    for ax in axes.flat[len(references) :]:
        ax.axis("off")
    figure.legend(list(labelled.values()), list(labelled), loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    run_or_report(__doc__, TASKS, CONTENDERS, run, report)
