"""Crafter with the interface of Gymnasium, under the id ``crafter_env:Crafter-v1``.

Crafter has the interface of Gym before version 0.26. Shimmy cannot convert Crafter, because Crafter has no
``seed``. To train in Crafter, copy this file into your working folder.
"""

from typing import Any, ClassVar

import crafter
import gymnasium as gym
import numpy as np


class Crafter(gym.Env[np.ndarray, int]):
    """Crafter. The seed of each episode comes from ``np_random``.

    Crafter iterates over its creatures in the order of memory addresses. Two episodes with the same seed and the
    same actions can therefore differ.
    """

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = gym.spaces.Discrete(17)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode in a new world."""
        super().reset(seed=seed)
        self.game = crafter.Env(seed=int(self.np_random.integers(2**31)))
        return self.game.reset(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Make a step. An episode ends when the player dies, and is truncated after 10,000 steps."""
        observation, reward, done, info = self.game.step(action)
        terminated = info["discount"] == 0.0
        return observation, float(reward), terminated, bool(done) and not terminated, info

    def render(self) -> np.ndarray:
        """Return an enlarged picture of the player's view."""
        return self.game.render((256, 256))


gym.register("Crafter-v1", Crafter)
