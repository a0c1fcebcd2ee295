"""Train in a custom environment whose parameters drift: a heated room.

`make_vec` changes attributes of the environment by their names. The ``outside`` temperature oscillates, and the
heater's ``power`` jumps. `register_parameter` sets the bounds of ``power``.

Run: python examples/custom_environment.py
"""

from typing import Any

import gymnasium as gym
import numpy as np

from rl_rms.agents import A2C, evaluate
from rl_rms.envs import make_vec, register_parameter
from rl_rms.envs.schedules import Redraw, Sinusoid


class Room(gym.Env[np.ndarray, int]):
    """Keep a room at 20 degrees by turning a heater off, to half power or to full power.

    A step lasts a quarter of an hour.

    Attributes:
        outside: Outside temperature in degrees.
        power: Power of the heater in degrees per step.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)
    leak = 0.1

    def __init__(self) -> None:
        self.outside, self.power = 5.0, 4.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start a day at a random temperature between 10 and 25 degrees."""
        super().reset(seed=seed)
        self.inside = self.np_random.uniform(10, 25)
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Heat for one step; the reward is 1 at 20 degrees and falls by 0.1 per degree of difference."""
        self.inside += self.power * action / 2 - self.leak * (self.inside - self.outside)
        return self._observe(), 1 - abs(self.inside - 20) / 10, False, False, {}

    def _observe(self) -> np.ndarray:
        return np.array([(self.inside - 20) / 10, (self.outside - 5) / 10], np.float32)


gym.register("Room-v0", Room, max_episode_steps=96)
register_parameter(Room, "power", low=1.0, high=10.0)

CHANGES = {
    "outside": Sinusoid(mean=5.0, amplitude=10.0, period=100_000),
    "power": Redraw(low=3.0, high=6.0, every=30_000),
}


def main(total_timesteps: int = 200_000) -> tuple[float, float]:
    """Train an agent, and compare its returns before and after the training.

    Returns:
        The mean episode return before and after training, with the environment parameters of the last env step.
    """
    env = make_vec("Room-v0", num_envs=16, changes=CHANGES, seed=0)
    agent = A2C(env, gamma=0.9, half_life="20_000 steps", seed=0)
    means = []
    for steps in (0, total_timesteps):
        if steps:
            agent.learn(steps)
        test_env = make_vec("Room-v0", num_envs=4, changes=CHANGES, seed=0)
        means.append(evaluate(agent, test_env, episodes=8, seed=1, clock=total_timesteps).mean_reward)
    print(f"environment at env step {env.clock:,}: {env.parameters}, regime {env.regime}")
    print(f"mean return of a day (at most 96): {means[0]:.1f} before, {means[1]:.1f} after")
    return means[0], means[1]


if __name__ == "__main__":
    main()
