"""Compare several half-lives in a changing environment, with a few seeds and intervals.

In all runs with one seed, the environment changes in the same way, so the script compares half-lives within each
seed. All runs have the same learning rate. A fair comparison tunes the learning rate for each half-life, as
``rl-rms sweep half_life_cartpole`` does.

Run: python examples/compare_half_lives.py (about half a minute; needs the extra plots)
"""

from collections.abc import Sequence

import numpy as np

from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Redraw
from rl_rms.studies.intervals import Estimate, interquartile_mean

# The force sometimes changes its sign.
CHANGES = {"force_mag": Redraw(values=[-10.0, 10.0], every=15_000)}


def mean_episode_length(half_life: float | str, seed: int, total_timesteps: int) -> float:
    """Train one agent and return the mean length of its episodes."""
    env = make_vec("CartPole-v1", num_envs=16, changes=CHANGES, seed=seed)
    agent = A2C(env, half_life=half_life, seed=seed)
    lengths: list[int] = []
    agent.learn(total_timesteps, lambda agent: lengths.extend(episode.length for episode in agent.new_episodes))
    return float(np.mean(lengths))


def main(
    half_lives: Sequence[float | str] = (2, 20, 200, "match"), seeds: int = 4, total_timesteps: int = 60_000
) -> dict[str, tuple[Estimate, Estimate]]:
    """Train an agent for every pair of half-life and seed, and print a table.

    Returns:
        For each half-life, the mean episode length and its difference from the length with the first half-life.
        Both are interquartile means over seeds with 95 % intervals.
    """
    scores = {
        str(half_life): np.array([mean_episode_length(half_life, seed, total_timesteps) for seed in range(seeds)])
        for half_life in half_lives
    }
    first = next(iter(scores))
    table = {
        name: (interquartile_mean(values), interquartile_mean(values - scores[first]))
        for name, values in scores.items()
    }
    print(f"{'half-life':<12}{'episode length':<24}difference from half-life {first}")
    for name, (length, more) in table.items():
        print(f"{name:<12}{length!s:<24}{more}")
    return table


if __name__ == "__main__":
    main()
