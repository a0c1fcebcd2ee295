"""Draw the figures of docs/concepts.md: half-life, clock and regime.

Run: python docs/draw_concepts.py

Writes docs/images/concept_half_life.png, docs/images/concept_clock.png and docs/images/concept_regime.png.
"""

from pathlib import Path

import gymnasium as gym
import matplotlib as mpl
import numpy as np
import torch

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from rl_rms import RMSprop, half_life_from_rho
from rl_rms.agents import A2C
from rl_rms.envs import NonStationary, make_vec
from rl_rms.envs.schedules import Redraw, Sinusoid

IMAGES = Path(__file__).parent / "images"
# Wong's color-blind safe palette.
COLORS = ["#0072B2", "#D55E00", "#009E73"]
RHOS = (0.9, 0.99, 0.999)


def second_moments(rho: float, deviations: torch.Tensor) -> list[float]:
    """The second moment v of an RMSprop optimizer after each update, averaged over 64 coordinates.

    Args:
        rho: Decay of v.
        deviations: Standard deviation of the normally distributed gradients at each update.
    """
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.zeros(64))
    optimizer = RMSprop([parameter], lr=0.0, rho=rho, bias_correction=True)
    moments = []
    for deviation in deviations:
        parameter.grad = deviation * torch.randn(64, generator=generator)
        optimizer.step()
        moments.append(optimizer.diagnostics()["second_moment"])
    return moments


def draw_half_life(folder: Path) -> None:
    """Draw the weights of past squared gradients in v, and v while gradients grow and shrink."""
    figure, (weights, stream) = plt.subplots(1, 2, figsize=(11, 3.4), layout="constrained", width_ratios=(2, 3))
    ages = np.arange(201)
    deviations = torch.ones(3_000)
    deviations[1_000:2_000] = 5.0
    stream.plot(deviations.square(), color="black", linewidth=1.2, label="true second moment")
    for rho, color in zip(RHOS, COLORS, strict=True):
        half_life = half_life_from_rho(rho)
        label = f"rho {rho:g}: half-life {half_life:.3g} updates"
        weights.plot(ages, rho**ages, color=color, label=label)
        if half_life <= ages[-1]:
            weights.plot(half_life, 0.5, "o", color=color)
        stream.plot(
            second_moments(rho, deviations), color=color, linewidth=1.2, label=f"half-life {half_life:.3g}"
        )
    weights.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
    weights.set(xlabel="updates ago", ylabel="weight relative to the newest")
    weights.set_title("Weight of a squared gradient", loc="left", fontsize=10)
    weights.legend(fontsize=8, frameon=False, loc="upper right", bbox_to_anchor=(1.0, 0.8))
    stream.set(yscale="log", xlabel="updates", ylabel="second moment v")
    stream.set_title("v, while gradients grow fivefold and shrink again", loc="left", fontsize=10)
    stream.legend(fontsize=8, frameon=False, loc="upper left")
    finish(figure, folder / "concept_half_life.png")


def draw_clock(folder: Path) -> None:
    """Draw clock, gravity and step of the episode over calls of ``step``, with a ``reset(seed=0)`` in between."""
    env = NonStationary(gym.make("CartPole-v1"), {"gravity": Sinusoid(9.8, 4.0, period=400)}, seed=0)
    env.action_space.seed(0)
    env.reset(seed=0)
    clocks, gravities, ages = [], [], []
    age, rewound = 0, 600
    for call in range(1_000):
        if call == rewound:
            env.reset(seed=0)
            age = 0
        clocks.append(env.clock)
        gravities.append(env.parameters["gravity"])
        ages.append(age)
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        age += 1
        if terminated or truncated:
            env.reset()
            age = 0
    figure, axes = plt.subplots(3, 1, figsize=(11, 4.6), layout="constrained", sharex=True)
    for ax, values, color, label in zip(
        axes, (clocks, gravities, ages), COLORS, ("env.clock", "gravity", "step of the episode"), strict=True
    ):
        ax.plot(values, color=color, linewidth=1.2)
        ax.axvline(rewound, color="black", linewidth=0.8, linestyle="--")
        ax.set_ylabel(label, fontsize=9)
    axes[0].annotate("reset(seed=0)", (rewound, max(clocks)), (8, -8), textcoords="offset points", fontsize=9)
    axes[-1].set_xlabel("calls of step")
    finish(figure, folder / "concept_clock.png")


def draw_regime(folder: Path) -> None:
    """Draw a jumping and a drifting parameter, the regime, and the half-life with ``on_change="forget"``."""
    changes = {
        "length": Redraw(low=0.2, high=1.0, every=5_000),
        "gravity": Sinusoid(mean=9.8, amplitude=4.0, period=20_000),
    }
    env = make_vec("CartPole-v1", num_envs=8, changes=changes, seed=2)
    agent = A2C(env, half_life=200, on_change="forget", forget_half_life=10, forget_updates=30, seed=0)
    told: list[tuple[float, ...]] = []

    def tell(agent: A2C) -> None:
        now = env.parameters
        told.append((env.clock, now["length"], now["gravity"], env.regime, agent.optimizer.half_life))

    agent.learn(24_000, tell)
    clocks, *rows = np.array(told).T
    names = ("length", "gravity", "regime", "half-life, updates")
    figure, axes = plt.subplots(4, 1, figsize=(11, 5.4), layout="constrained", sharex=True)
    for ax, row, name, color in zip(axes, rows, names, [*COLORS, "black"], strict=True):
        ax.step(clocks, row, where="post", color=color, linewidth=1.3)
        ax.set_ylabel(name, fontsize=9)
        mark_changes(ax, clocks, rows[2])
    axes[-1].set_xlabel("env steps")
    finish(figure, folder / "concept_regime.png")


def mark_changes(ax: Axes, clocks: np.ndarray, regimes: np.ndarray) -> None:
    """Draw a thin line at each change of regime."""
    for clock in clocks[1:][np.diff(regimes) > 0]:
        ax.axvline(clock, color="grey", linewidth=0.8, linestyle=":")


def finish(figure: plt.Figure, path: Path) -> None:
    """Remove the top and right lines of each frame, and write the figure."""
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(folder: Path = IMAGES) -> None:
    """Draw all three figures."""
    draw_half_life(folder)
    draw_clock(folder)
    draw_regime(folder)


if __name__ == "__main__":
    main()
