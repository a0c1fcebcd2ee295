"""Several half-lives in the same changing world, a few seeds each, with intervals.

Every half-life meets the same drift, seed by seed, so that differences are taken within a seed. All have one
learning rate here; in a fair comparison each has its own best one, for which ``rl-rms sweep half_life_cartpole``
looks.

Run: python examples/compare_half_lives.py (about half a minute; needs the extra plots)
"""

from collections.abc import Sequence

import numpy as np

from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Redraw
from rl_rms.studies.intervals import Estimate, interquartile_mean

# The motor is wired one way or the other.
WORLD = {"force_mag": Redraw(values=[-10.0, 10.0], every=15_000)}


def life(half_life: float | str, seed: int, total_timesteps: int) -> float:
    """Mean length of all episodes of a training."""
    env = make_vec("CartPole-v1", num_envs=16, changes=WORLD, seed=seed)
    agent = A2C(env, learning_rate=2e-3, n_steps=8, gae_lambda=0.95, half_life=half_life, seed=seed)
    lengths: list[int] = []
    agent.learn(total_timesteps, lambda agent: lengths.extend(one.length for one in agent.new_episodes))
    return float(np.mean(lengths))


def main(
    half_lives: Sequence[float | str] = (2, 20, 200, "match"), seeds: int = 4, total_timesteps: int = 60_000
) -> dict[str, tuple[Estimate, Estimate]]:
    """Train each with each seed, and print the table.

    Returns:
        By half-life: the episodes' mean length, and how much longer it is than with the first half-life; both as
        interquartile means over seeds with their 95 % intervals.
    """
    scores = {
        str(half_life): np.array([life(half_life, seed, total_timesteps) for seed in range(seeds)])
        for half_life in half_lives
    }
    first = next(iter(scores))
    table = {
        name: (interquartile_mean(values), interquartile_mean(values - scores[first]))
        for name, values in scores.items()
    }
    print(f"{'half-life':<12}{'episode length':<24}more than with {first}")
    for name, (length, more) in table.items():
        print(f"{name:<12}{length!s:<24}{more}")
    return table


if __name__ == "__main__":
    main()
