"""An environment with attributes of several types, for tests of parameters."""

import gymnasium as gym
import numpy as np


class Typed(gym.Env):
    """An environment whose rewards depend on attributes of several types, including one for `range`."""

    observation_space, action_space = gym.spaces.Discrete(1), gym.spaces.Discrete(2)

    def __init__(self):
        self.n, self.flag, self.small = 3, False, np.int8(3)
        self.single, self.scalar = np.float32(0.5), np.array(3, dtype=np.int16)
        self.counts = np.array([1, 2], dtype=np.int32)
        self.table = [1, True]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        counted = sum(1 for _ in range(self.n)) + int(self.scalar) + int(self.small) + int(self.counts.sum())
        return 0, float(counted + self.single + self.flag + sum(self.table)), False, False, {}
