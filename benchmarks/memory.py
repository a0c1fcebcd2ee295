"""Measures the half-life of v in env steps in training runs with rho = 0.99 and with a half-life in env steps.

Run: python benchmarks/memory.py [--output benchmarks/results/memory.json]

The benchmark adds an observation to CartPole that is always 0, so the gradients of the first layer's weights for
this observation are 0. After 100 updates, the benchmark sets v of one of these weights to 1. The new value of v
does not affect the run, because the weight does not change. The benchmark then counts the env steps until v has
halved. The benchmark interpolates v exponentially between two updates. PPO makes several updates on a rollout. The
benchmark divides the env steps of the rollout equally among these updates.

The runs with rho = 0.99 are Stable-Baselines3's A2C with its default optimizer ``torch.optim.RMSprop``,
Stable-Baselines3's PPO with ``torch.optim.RMSprop`` (alpha=0.99) instead of Adam, and rl_rms's A2C. The runs with
a half-life of 4,000 env steps use `rl_rms.RMSprop` and, in Stable-Baselines3, `rl_rms.sb3.HalfLifeCallback`. A2C
has rollouts of 5 steps. PPO has Stable-Baselines3's defaults, or the rollout length (128 steps), batch size and
number of epochs of RL Baselines3 Zoo for Atari.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import Tensor
from torch.optim import Optimizer

import rl_rms
from rl_rms.agents import A2C
from rl_rms.agents.agent import Agent
from rl_rms.sb3 import HalfLifeCallback

RHO = 0.99
HALF_LIFE = 4_000
MARK_AT = 100
STATED = {"rho": f"rho = {RHO}", "half_life": f'half_life = "{HALF_LIFE:_} steps"'}
# Maximum number of env steps of a run. Each run ends earlier.
_GIVE_UP = 100_000
PPO = {
    "SB3 PPO, defaults": {"n_steps": 2048, "batch_size": 64, "n_epochs": 10},
    "SB3 PPO, as for Atari": {"n_steps": 128, "batch_size": 256, "n_epochs": 4},
}
COLORS = {"rho": "#D55E00", "half_life": "#0072B2"}  # Okabe and Ito


@dataclass(frozen=True)
class Case:
    """An algorithm and its number of environments."""

    algorithm: str
    num_envs: int


CASES = (
    *(Case("SB3 A2C", num_envs) for num_envs in (1, 4, 16)),
    *(Case("SB3 PPO, defaults", num_envs) for num_envs in (1, 8)),
    Case("SB3 PPO, as for Atari", 8),
    *(Case("rl_rms A2C", num_envs) for num_envs in (1, 4, 16)),
)


def with_dead_input(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """CartPole with a fifth observation that is always 0."""
    space = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)
    return gym.wrappers.TransformObservation(
        env, lambda observation: np.append(observation, np.float32(0.0)).astype(np.float32), space
    )


class Marker:
    """The coordinate of v for a weight whose gradient is always 0.

    `after_update` sets the coordinate to 1 after 100 updates, and then reads the coordinate after every update
    until its value has halved.

    Args:
        optimizer: The optimizer, whose state has v under ``"square_avg"``.
        weight: Weight of a first layer, shape ``(units, observations)``. The last observation must always be 0.
    """

    def __init__(self, optimizer: Optimizer, weight: Tensor) -> None:
        self.optimizer = optimizer
        self.weight = weight
        self.num_updates = 0
        self.values: list[float] = []

    def after_update(self) -> None:
        """Set or read the coordinate."""
        self.num_updates += 1
        if self.num_updates < MARK_AT or self.has_halved:
            return
        v = self.optimizer.state[self.weight]["square_avg"]
        if not self.values:
            v[0, -1] = 1.0
        self.values.append(float(v[0, -1]))

    @property
    def has_halved(self) -> bool:
        """True if the last value is at most half of the first value."""
        return bool(self.values) and self.values[-1] <= self.values[0] / 2

    def half_life(self, clocks: Sequence[float]) -> float:
        """Compute the env steps until the value has halved.

        Args:
            clocks: Env steps after each update of the run, beginning with the first update.
        """
        return env_steps_to_halve(clocks[MARK_AT - 1 :][: len(self.values)], self.values)


def env_steps_to_halve(clocks: Sequence[float], values: Sequence[float]) -> float:
    """Compute the env steps until a decaying value has halved, by exponential interpolation between updates.

    Args:
        clocks: Env steps after each update.
        values: Values after each update. Only the last value may be at most half of the first value.

    Raises:
        ValueError: If the last value is above half of the first value.
    """
    half = values[0] / 2
    if values[-1] > half:
        raise ValueError(
            f"values must fall to half of the first value, {half:g}, got {values[-1]:g} as the last value; train "
            "longer"
        )
    share = math.log(values[-2] / half) / math.log(values[-2] / values[-1])
    return clocks[-2] + share * (clocks[-1] - clocks[-2]) - clocks[0]


class MarkerCallback(BaseCallback):
    """Read a marker in a model of Stable-Baselines3 and record the env steps of each update."""

    def __init__(self) -> None:
        super().__init__()
        self.clocks: list[float] = []
        self._rollout = (0, 0)

    def _on_training_start(self) -> None:
        policy = self.model.policy
        self.marker = Marker(policy.optimizer, policy.mlp_extractor.policy_net[0].weight)
        policy.optimizer.register_step_post_hook(lambda *_: self.marker.after_update())

    def _on_rollout_start(self) -> None:
        # Spread the env steps of the last rollout evenly over the updates that used it.
        start, stop = self._rollout
        num_updates = self.marker.num_updates - len(self.clocks)
        self.clocks += [start + (stop - start) * (i + 1) / num_updates for i in range(num_updates)]

    def _on_step(self) -> bool:
        return not self.marker.has_halved

    def _on_rollout_end(self) -> None:
        self._rollout = (self._rollout[1], self.num_timesteps)


def measure_sb3(case: Case, stated: str, seed: int) -> float:
    """Measure the half-life in env steps of a Stable-Baselines3 run.

    Args:
        case: Algorithm and number of environments.
        stated: The form of the half-life, a key of `STATED`.
        seed: Seed of the run.
    """
    env = make_vec_env("CartPole-v1", case.num_envs, seed=seed, wrapper_class=with_dead_input)
    policy_kwargs: dict[str, Any] = {}
    marking = MarkerCallback()
    callbacks: list[BaseCallback] = [marking]
    if stated == "half_life":
        policy_kwargs = {"optimizer_class": rl_rms.RMSprop}
        callbacks.append(HalfLifeCallback(f"{HALF_LIFE} steps"))
    elif case.algorithm in PPO:
        policy_kwargs = {"optimizer_class": torch.optim.RMSprop, "optimizer_kwargs": {"alpha": RHO}}
    arguments: dict[str, Any] = {"policy_kwargs": policy_kwargs, "seed": seed, "device": "cpu"}
    model: OnPolicyAlgorithm
    if case.algorithm in PPO:
        model = stable_baselines3.PPO("MlpPolicy", env, **PPO[case.algorithm], **arguments)
    else:
        model = stable_baselines3.A2C("MlpPolicy", env, **arguments)
    model.learn(_GIVE_UP, callback=CallbackList(callbacks))
    env.close()
    return marking.marker.half_life(marking.clocks)


def measure_own(case: Case, stated: str, seed: int) -> float:
    """Measure the half-life in env steps of a run of rl_rms's A2C. See `measure_sb3` for the arguments."""
    env = gym.make_vec("CartPole-v1", case.num_envs, vectorization_mode="sync", wrappers=[with_dead_input])
    options: dict[str, Any] = {"optimizer_kwargs": {"rho": RHO}, "n_steps": 5}
    if stated == "half_life":
        options = {"half_life": f"{HALF_LIFE} steps", "n_steps": 5}
    agent = A2C(env, seed=seed, device="cpu", **options)
    marker = Marker(agent.optimizer, agent.policy.actor_network[0].weight)
    clocks: list[float] = []

    def after_update(agent: Agent) -> bool:
        clocks.append(agent.num_timesteps)
        marker.after_update()
        return not marker.has_halved

    agent.learn(_GIVE_UP, callback=after_update)
    env.close()
    return marker.half_life(clocks)


def measure(case: Case, stated: str, seed: int = 0) -> float:
    """Measure the half-life in env steps of a run. See `measure_sb3` for the arguments."""
    return (measure_own if case.algorithm == "rl_rms A2C" else measure_sb3)(case, stated, seed)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Format the measurements as Markdown."""
    lines = [
        "The table has measured half-lives: the number of env steps until v of a weight with the gradient 0 "
        "halves.",
        "",
        f"| algorithm | environments | {' | '.join(STATED.values())} |",
        "|---|---|---|---|",
    ]
    for row in rows:
        measured = " | ".join(f"{row['memory_in_env_steps'][stated]:,.0f}" for stated in STATED)
        lines.append(f"| {row['algorithm']} | {row['num_envs']} | {measured} |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw each algorithm's measured half-life with rho = 0.99, and with a half-life in env steps."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(8, 0.42 * len(rows) + 1.5), layout="constrained")
    axis = figure.subplots()
    markers = {"rho": "o", "half_life": "D"}
    for place, row in enumerate(rows):
        found = row["memory_in_env_steps"]
        axis.plot([found[stated] for stated in STATED], [place] * len(STATED), color="#CCCCCC", zorder=1)
        # The label of a point is on the side away from the other point of the same run.
        outward = -1 if found["rho"] < found["half_life"] else 1
        axis.annotate(
            f"{found['rho']:,.0f}",
            (found["rho"], place),
            (9 * outward, 0),
            textcoords="offset points",
            ha="right" if outward < 0 else "left",
            va="center",
            color=COLORS["rho"],
            fontsize=9,
        )
    for stated, name in STATED.items():
        half_lives = [row["memory_in_env_steps"][stated] for row in rows]
        axis.scatter(
            half_lives, range(len(rows)), 60, COLORS[stated], marker=markers[stated], label=name, zorder=2
        )
    names = [f"{row['algorithm']}, {row['num_envs']} env{'s' * (row['num_envs'] > 1)}" for row in rows]
    axis.set_yticks(range(len(rows)), names)
    axis.invert_yaxis()
    axis.set_xscale("log")
    smallest = min(min(row["memory_in_env_steps"].values()) for row in rows)
    largest = max(max(row["memory_in_env_steps"].values()) for row in rows)
    axis.set_xlim(smallest / 1.8, largest * 1.8)
    ticks = [tick for tick in (100, 200, 500, 1000, 2000, 5000, 10_000) if smallest / 1.8 < tick < largest * 1.8]
    axis.set_xticks(ticks)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:,.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("measured half-life of the second moment v (env steps)")
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#EEEEEE", zorder=0)
    axis.set_axisbelow(True)
    axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure everything, print the table, and write the raw data, the table and the figure."""
    root = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=root / "results" / "memory.json")
    parser.add_argument("--figure", type=Path, default=root.parent / "docs" / "images" / "memory.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for case in CASES:
        half_lives = {stated: measure(case, stated) for stated in STATED}
        rows.append({"algorithm": case.algorithm, "num_envs": case.num_envs, "memory_in_env_steps": half_lives})
        print(rows[-1], flush=True)
    markdown = table(rows)
    print(markdown)
    versions = {"torch": torch.__version__, "stable_baselines3": stable_baselines3.__version__}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({**versions, "rows": rows}, indent=1) + "\n")
    arguments.output.with_suffix(".md").write_text(markdown)
    draw(rows, arguments.figure)


if __name__ == "__main__":
    main()
