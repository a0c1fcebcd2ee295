"""An environment that fails at a given step or reset."""

import os
import signal
import threading
import time

import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs.faults import EnvError


class LostError(Exception):
    """An error that cannot be pickled or rebuilt from its text."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")
        self.lock = threading.Lock()


class Faulty(gym.Env):
    """Counts steps in episodes of 4, and fails at step ``at`` over all episodes, or at reset number ``at_reset``.

    The observation is (steps in the episode, a random number, level). The reward is ``level``. ``how`` names the
    kind of failure; any other word gives an observation of a wrong shape.
    """

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)
    level = 1.0

    def __init__(self, how="raise", at=None, at_reset=None):
        self.how, self.at, self.at_reset = how, at, at_reset
        self.num_steps = self.resets = 0

    def observation(self):
        return np.array([self.count, self.np_random.random(), self.level], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        self.resets += 1
        if self.resets == self.at_reset:
            return self.fail(), {}
        return self.observation(), {}

    def step(self, action):
        self.count += 1
        self.num_steps += 1
        observation = self.fail() if self.num_steps == self.at else self.observation()
        return observation, float(self.level), self.count == 4, False, {}

    def fail(self):
        if self.how == "raise":
            raise RuntimeError("the motor burnt")
        if self.how == "unpicklable":
            raise LostError("this", "that")
        if self.how == "hang":
            time.sleep(3600)
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "exit":
            os._exit(3)
        return np.zeros(1, np.float32)


def register():
    """Register the environment as ``Faulty-v0``."""
    if "Faulty-v0" not in gym.registry:
        gym.register("Faulty-v0", entry_point="tests.faulty:Faulty")


register()


def fail_in_the_third_step(env, problem):
    """Step until sub-environment 1 fails, and return its error."""
    env.reset(seed=7)
    for _ in range(2):
        env.step(np.zeros(3, int))
    with pytest.raises(EnvError, match=rf"sub-environment 1 \(seed 8\) .*{problem}") as raised:
        env.step(np.zeros(3, int))
    assert raised.value.indices == (1,)
    assert raised.value.seeds == (8,)
    return raised.value
