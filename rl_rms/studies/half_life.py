"""Tests which running statistics of an agent should forget, and at which half-life.

In the first part, the variance of gradients jumps by a factor of 25 every T updates. The study finds the half-life
with the least tracking error. The second part trains A2C in three changing environments, with fixed, matched and
estimated half-lives of RMSprop. The third part, `rl_rms.studies.forgetting`, trains PPO with several half-lives of
each statistic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rl_rms.agents import A2C
from rl_rms.agents.agent import Agent
from rl_rms.envs import make_vec
from rl_rms.envs.drift import trace
from rl_rms.envs.schedules import Redraw, Schedule, Square
from rl_rms.studies import forgetting
from rl_rms.studies.drawing import COLORS, draw_estimates
from rl_rms.studies.episodes import NOT_NORMALIZED
from rl_rms.studies.frame import Cell, Floats, Results, Study, Table, Verdict, grid
from rl_rms.studies.intervals import Estimate, interquartile, interquartile_mean, listed, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRACKED = tuple(float(f"{2 ** (k / 2):.3g}") for k in range(0, 23))
TIMES = (10, 100, 500, 2_500)
JUMP = 25.0
COORDINATES = 64


@dataclass(frozen=True)
class World:
    """A changing environment and the arguments of a training run in it.

    Attributes:
        id: Gymnasium id of the environment.
        changes: Schedules by target.
        regime: Env steps between two changes.
        num_steps: Env steps of a training run.
        rates: Learning rates.
        agent: Arguments of A2C.
        kwargs: Arguments of the environment.
    """

    id: str
    changes: Mapping[str, Schedule]
    regime: int
    num_steps: int
    rates: Sequence[float]
    agent: Mapping[str, Any]
    kwargs: Mapping[str, Any]


ARMS = 5
TASKS = {
    "bandit": World(
        "rl_rms/Bandit-v0",
        {
            **{f"mean_{arm}": Redraw(low=0.0, high=1.0, every=8_000) for arm in range(ARMS)},
            "noise": Square(low=0.2, high=2.0, period=4_000),
        },
        2_000,
        24_000,
        (0.003, 0.01, 0.03),
        {"n_steps": 5, "gae_lambda": 1.0, "ent_coef": 0.03, "gamma": 0.0},
        {"num_arms": ARMS},
    ),
    "two states": World(
        "rl_rms/TwoStates-v0",
        {
            "reward_0": Square(low=0.0, high=1.0, period=8_000),
            "reward_1": Square(low=1.0, high=0.0, period=8_000),
        },
        4_000,
        24_000,
        (0.003, 0.01, 0.03),
        {"n_steps": 5, "gae_lambda": 1.0, "ent_coef": 0.03, "gamma": 0.9},
        {},
    ),
    "CartPole": World(
        "CartPole-v1",
        {"reward.scale": Square(low=1.0, high=30.0, period=20_000)},
        10_000,
        50_000,
        (0.001, 0.003),
        {"n_steps": 8, "gae_lambda": 0.95, "ent_coef": 0.01},
        {},
    ),
}
FIXED = ("7 updates", "69 updates", "700 updates")
FOUND = ("time between changes", "match", "auto")


def cells(quick: bool) -> Sequence[Cell]:
    """Return cells for streams of gradients, for A2C by task, half-life and rate, and for PPO's statistics."""
    if quick:
        return [
            *grid(jumps_every=[10, 100, 500]),
            *grid(task=["two states"], half_life=["69 updates", "match"], rate=[0.01], num_steps=[4_000]),
            *forgetting.cells(quick=True),
        ]
    trainings = [
        {"task": task, "half_life": half_life, "rate": rate}
        for task in TASKS
        for half_life in (*FIXED, *FOUND)
        for rate in TASKS[task].rates
    ]
    return [*grid(jumps_every=TIMES), *trainings, *forgetting.cells(quick=False)]


def measure(seed: int, **cell: Any) -> dict[str, Any]:
    """Measure a stream of gradients or a training run."""
    if "changes" in cell:
        return forgetting.training(seed, **cell)
    return _stream(seed, **cell) if "jumps_every" in cell else _training(seed, **cell)


def _stream(seed: int, jumps_every: int) -> dict[str, Any]:
    """Measure, by half-life, the mean of ``(s/v - 1 - ln(s/v)) / 2`` for the second moment v and the variance s.

    The mean leaves out the first quarter of the updates.
    """
    random = np.random.default_rng(seed)
    updates = max(4_000, 8 * jumps_every)
    gains = 1 - 2.0 ** (-1 / np.array(TRACKED))[:, None]
    v = np.full((len(TRACKED), COORDINATES), 1.0)
    error, counted = np.zeros(len(TRACKED)), 0
    for update in range(updates):
        variance = JUMP if (update // jumps_every) % 2 else 1.0
        v += gains * (variance * random.standard_normal(COORDINATES) ** 2 - v)
        if update >= updates // 4:
            ratio = variance / np.maximum(v, 1e-12)
            error += (ratio - 1 - np.log(ratio)).mean(1) / 2
            counted += 1
    return {"error": (error / counted).tolist()}


def _training(seed: int, task: str, half_life: str, rate: float, num_steps: int | None = None) -> dict[str, float]:
    """Train an agent, and return its mean score: episode length, reward per env step, or minus the regret."""
    of = TASKS[task]
    num_steps = num_steps or of.num_steps
    if half_life == "time between changes":
        half_life = f"{of.regime} steps"
    env = make_vec(of.id, 16, of.changes, seed=seed, **of.kwargs)
    agent = A2C(
        env, half_life=half_life, learning_rate=rate, seed=seed, device="cpu", **NOT_NORMALIZED, **of.agent
    )
    scores: list[float] = []

    def collect(trained: Agent) -> None:
        if task == "CartPole":
            scores.extend(one.length for one in trained.new_episodes)
        else:
            scores.append(expected_return(trained, of, seed))

    agent.learn(num_steps, collect, log_interval=num_steps)
    return {"score": float(np.mean(scores))}


def expected_return(agent: Agent, of: World, seed: int) -> float:
    """Expected score of the policy in the current environment: minus the regret, or the reward per env step."""
    traces = trace(of.changes, np.array([agent.num_timesteps]), seed)
    now = {name: float(values[0]) for name, values in traces.items()}
    observations = torch.eye(2) if of.id.startswith("rl_rms/Two") else torch.zeros(1, 1)
    with torch.no_grad():
        distribution, _ = agent.policy(observations)
    probs = distribution.log_probs.exp().double().numpy()
    if len(probs) == 1:
        means = np.array([now[f"mean_{arm}"] for arm in range(ARMS)])
        return float(probs[0] @ means - means.max())
    goes = probs[:, 1]
    in_one = goes[0] / max(goes.sum(), 1e-12)  # the stationary probability of state 1
    return float(in_one * now["reward_1"] + (1 - in_one) * now["reward_0"])


def best_half_lives(results: Results) -> dict[int, float]:
    """Return the half-life with the least tracking error, by the updates between jumps."""
    return {
        time: TRACKED[int(results.values("error", jumps_every=time).mean(0).argmin())]
        for time in results.levels("jumps_every")
    }


def exponent(results: Results) -> float:
    """Fit the best half-life as a power of T, the updates between jumps, for T >= 100, and return the exponent."""
    best = {time: h for time, h in best_half_lives(results).items() if time >= 100}
    return float(np.polyfit(np.log(list(best)), np.log(list(best.values())), 1)[0])


def scores(results: Results, task: str, half_life: str) -> Floats:
    """Return scores at the best learning rate, shape ``(seeds,)``."""
    of = {"task": task, "half_life": half_life}
    return results.values("score", rate=results.best("score", "rate", highest=True, **of), **of)


def gain(results: Results, task: str, half_life: str) -> Estimate:
    """Return the interquartile mean over seeds of the score minus the same seed's score at 69 updates."""
    return interquartile_mean(scores(results, task, half_life) - scores(results, task, "69 updates"))


def tables(results: Results) -> Sequence[Table]:
    """Tabulate tracking errors by the time between jumps, scores by environment, and PPO's episode lengths."""
    header = ["gradients", "best half-life in updates"]
    header += [f"error at {half_life}" for half_life in ("the best half-life", "T updates", "69 updates")]
    rows = []
    for time, best in best_half_lives(results).items():
        errors = results.values("error", jumps_every=time).mean(0)
        at = [int(np.argmin(np.abs(np.log(np.array(TRACKED) / h)))) for h in (best, time, 69)]
        rows.append([f"jumps every T = {time:,} updates", f"{best:g}", *(f"{errors[i]:.3f}" for i in at)])
    half_lives = results.levels("half_life")
    scored, gained = [], []
    for task in results.levels("task"):
        scored.append([task, *(short(interquartile(scores(results, task, h))) for h in half_lives)])
        gained.append([task, *(_signed(gain(results, task, h)) for h in half_lives)])
    return [
        Table(header, rows),
        Table(["score of A2C by half-life", *half_lives], scored),
        Table(["gain in score over 69 updates", *half_lives], gained),
        forgetting.table(results),
    ]


def _signed(one: Estimate) -> str:
    return f"{one.middle:+.3g} ({one.low:+.3g} to {one.high:+.3g})"


def verdict(results: Results) -> Verdict:
    """Judge the claim by the exponent of the best half-life, and by the agents' scores with each setting."""
    names = results.levels("task")
    power = exponent(results)
    won = {h: [w for w in names if gain(results, w, h).low > 0] for h in FOUND if h in results.levels("half_life")}
    lost = {h: [w for w in names if gain(results, w, h).high < 0] for h in won}
    texts = [
        f" Compared with 69 updates, the score of A2C with {h} is significantly higher in "
        f"{', '.join(won[h]) or 'no task'} and lower in {', '.join(lost[h]) or 'no task'}."
        for h in won
        if won[h] or lost[h]
    ]
    equal = [h for h in won if not won[h] and not lost[h]]
    if equal:
        texts.append(
            " In no task does the score of A2C with one of these half-lives differ significantly from the score "
            f"with 69 updates: {listed(equal)}."
        )
    effects, helpful = forgetting.summary(results)
    sentence = (
        "A power of T is fitted to the half-lives with the least error from T = 100 updates on. "
        f"The exponent of this power is {power:.2f}, and the claim implies an exponent of 1.{''.join(texts)} "
        f"{effects}"
    )
    if any(len(won[h]) == len(names) for h in won) and power > 0.8:
        return Verdict("holds", sentence)
    helped = [
        f"RMSprop with the half-life {h} (in {listed(won[h])})" for h in won if won[h] and not lost[h]
    ] + helpful
    if helped:
        return Verdict("conditional", sentence, f"only for {listed(helped)}")
    return Verdict("does not hold", sentence)


def draw(results: Results, figure: "Figure") -> None:
    """Draw tracking error over half-life, and scores in every task."""
    names, half_lives = results.levels("task"), results.levels("half_life")
    above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
    axes = above.subplots(1, 1 + len(names), squeeze=False, width_ratios=[2, *[1] * len(names)])[0]
    for color, time in zip(COLORS, results.levels("jumps_every"), strict=False):
        errors = results.values("error", jumps_every=time).mean(0)
        axes[0].plot(TRACKED, errors, color=color, label=f"jumps every {time:,}")
        axes[0].plot(TRACKED[int(errors.argmin())], errors.min(), "o", color=color)
    axes[0].set(xscale="log", yscale="log", xlabel="half-life in updates", ylabel="tracking error of v")
    axes[0].legend()
    for axis, task in zip(axes[1:], names, strict=True):
        estimates = [interquartile_mean(scores(results, task, h)) for h in half_lives]
        draw_estimates(axis, range(len(estimates)), estimates, color=COLORS[0])
        axis.set_xticks(range(len(estimates)), half_lives, rotation=60, ha="right", fontsize=7)
        axis.set_title(f"{task}: score of A2C")
    forgetting.draw(results, below.subplots(1, len(forgetting.SETTINGS)))


STUDY = Study(
    name="half_life",
    claim="Each running statistic of an agent should have a half-life that matches the timescale of the "
    "environment's changes. The running statistics are RMSprop's second moment, and the moments that normalize "
    "observations and rewards.",
    mechanism="`rl_rms.RMSprop` takes half-lives in updates and env steps. `half_life='match'` derives the "
    "half-life from the timescale of the environment and the noise of the gradients. `half_life='auto'` estimates "
    "the half-life from the gradients alone. `normalize_observation` and `normalize_reward` take half-lives in "
    "env steps. "
    "`normalize_observation={'half_life': 'inf', 'on_jump': 'forget'}` forgets the moments only when observations "
    "jump.",
    setup="The first experiment measures how well RMSprop's second moment v tracks the variance s of gradients. "
    f"The gradients of {COORDINATES} coordinates are normally distributed, and s alternates between 1 and "
    f"{JUMP:g} every T updates. The error is the mean of (s/v - 1 - ln(s/v)) / 2, the Kullback-Leibler "
    "divergence in nats. The half-lives are 1, 1.41, 2, 2.83, ... and 2,050 updates. The columns for "
    "T and 69 updates use the nearest of these half-lives. Errors are means over seeds."
    "\n\nThe second experiment trains A2C with 16 sub-environments in three tasks. Each half-life "
    "uses the best of two or three learning rates. The half-life `time between changes` is the number of env "
    "steps between two changes."
    "\n\n- In the bandit, the mean rewards of the arms change every 8,000 env steps. The standard "
    "deviation of the rewards changes by a factor of ten every 2,000 env steps, so the half-life `time "
    "between changes` is 2,000 env steps. The score is minus the policy's expected regret per env step."
    "\n\n- In the task with two states, the rewards of the states are swapped every 4,000 env steps. "
    "The score is the policy's expected reward per env step."
    "\n\n- In CartPole, the scale of the rewards changes between 1 and 30 every 10,000 env steps. The "
    "score is the mean episode length."
    f"\n\nThe third experiment trains PPO on 16 CartPoles for {forgetting.NUM_STEPS:,} env steps, with "
    "default arguments except for its running statistics."
    "\n\n- In half of the training runs, the observations get a new random offset every "
    f"{forgetting.NUM_STEPS // forgetting.NUM_REGIMES:,} env steps. In the other half of the training runs, the "
    f"scale of the rewards changes between 1 and 100 every {forgetting.NUM_STEPS // forgetting.NUM_REGIMES:,} env "
    "steps."
    "\n\n- In the reference, the moments of observations and rewards never forget, and RMSprop has a "
    "half-life of 200 updates. All other training runs differ from the reference in one of the three statistics."
    f"\n\n- The score is the mean episode length in each of {forgetting.NUM_WINDOWS} equal parts of the "
    "training, averaged over the parts. Gains over the reference are paired by seed.",
    caveat="The benchmarks in docs/half_life.md have more tasks and more env steps, and find learning rates by "
    "hill climbing. In this study, A2C's learning rate is the best of two or three, chosen with the same seeds as "
    "the scores in the table. PPO has its default learning rate with every setting. Of the 22 gains of PPO, one "
    "may be significant by chance.",
    cells=cells,
    measure=measure,
    tables=tables,
    verdict=verdict,
    draw=draw,
    size=(11.0, 8.0),
)
