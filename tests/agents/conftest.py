"""Fixtures that make environments with known rewards, and collect rollouts."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from rl_rms.agents.collector import Collector
from rl_rms.envs import ResilientSyncVectorEnv


@pytest.fixture(autouse=True)
def seeded():
    """Seeds torch's global random generator, so that modules have the same initial weights in every run."""
    torch.manual_seed(0)


class Counting(gym.Env):
    """Observations count the steps, the reward is 10 times the count, and the episode ends at a given step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int, truncates: bool):
        self.length, self.truncates = length, truncates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.count += 1
        over = self.count == self.length
        observation = np.array([self.count], np.float32)
        return observation, 10.0 * self.count, over and not self.truncates, over and self.truncates, {}


class Target(gym.Env):
    """One-step episodes with a continuous action: the reward is ``-(a - 0.5)**2``."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), -float((action[0] - 0.5) ** 2), True, False, {}


@pytest.fixture
def counting():
    """A function that makes a vector of counting environments: ``counting([(length, truncates), ...], mode)``."""

    def make(kinds, mode=AutoresetMode.NEXT_STEP):
        return ResilientSyncVectorEnv([lambda kind=kind: Counting(*kind) for kind in kinds], autoreset_mode=mode)

    return make


@pytest.fixture
def target():
    """A function that makes a vector of target environments."""
    return lambda num_envs: ResilientSyncVectorEnv([Target for _ in range(num_envs)])


@pytest.fixture
def rollout_of():
    """A function that repeats one action and returns the rollout: ``rollout_of(env, num_steps, action)``."""

    def play(env, num_steps, action=0):
        collector = Collector(env)
        collector.start(seed=0)
        actions = np.full((env.num_envs, *env.single_action_space.shape), action, env.single_action_space.dtype)
        return collector.collect(lambda *_: (actions, actions), lambda steps, _: steps == num_steps)

    return play
