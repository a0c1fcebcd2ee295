"""A probe environment, whose reward is the current value of its parameter."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

pytest.register_assert_rewrite("tests.envs.schedules.tables")


class Probe(gym.Env):
    """The reward is the parameter ``level``, the observation counts the steps, and the action is stored."""

    observation_space = gym.spaces.Box(0.0, 100.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    level = 1.0

    def __init__(self, length=5, truncates=False):
        self.length, self.truncates, self.action = length, truncates, None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.options = 0, options
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.count, self.action = self.count + 1, action
        over = self.count == self.length
        observation = np.full(2, self.count, np.float32)
        return observation, float(self.level), over and not self.truncates, over and self.truncates, {}


@pytest.fixture
def probe():
    """A function that makes a single probe."""
    return Probe


@pytest.fixture
def probes():
    """A function that makes a vector of probes with episodes of given lengths."""

    def make(lengths, mode=AutoresetMode.NEXT_STEP, **kwargs):
        return SyncVectorEnv([lambda one=one: Probe(one) for one in lengths], autoreset_mode=mode, **kwargs)

    return make
