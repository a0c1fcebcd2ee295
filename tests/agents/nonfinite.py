"""An environment with nonfinite rewards and observations at known steps."""

import math

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from rl_rms.envs import ResilientSyncVectorEnv

NAN, INF = math.nan, math.inf


class Faulty(gym.Env):
    """Rewards and the first components of observations equal the episode's step number, except at given env steps.

    Args:
        length: Steps of an episode.
        truncates: True if episodes are truncated.
        rewards: Injected rewards by env step, counted from 1 over all episodes.
        observations: Injected observations by env step; env step 0 is the first reset.
    """

    observation_space = spaces.Box(-4.0, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, length=100, truncates=True, rewards=None, observations=None):
        self.length, self.truncates = length, truncates
        self.rewards, self.faults = rewards or {}, observations or {}
        self.life = 0

    def see(self):
        return np.array(self.faults.get(self.life, [self.count, 0.5]), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return (self.see() if self.life == 0 else np.array([0.0, 0.5], np.float32)), {}

    def step(self, action):
        self.count += 1
        self.life += 1
        over = self.count == self.length
        reward = self.rewards.get(self.life, float(self.count))
        return self.see(), reward, over and not self.truncates, over and self.truncates, {}


def vector(*faults, mode=AutoresetMode.NEXT_STEP, **options):
    return ResilientSyncVectorEnv(
        [lambda one=one: Faulty(**{**options, **one}) for one in faults], autoreset_mode=mode
    )


def finite(agent):
    return all(param.isfinite().all() for param in agent.policy.parameters())
