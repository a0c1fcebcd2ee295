"""Episodes under random actions, and an environment with an unknown state."""

import copy
import json
import pickle

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

from rl_rms.envs import NonStationaryVector


def play(env, steps, seed):
    """Transitions, regimes, clocks and parameters of a single or vector environment under random actions."""
    random, seen = np.random.default_rng(seed), []
    space = env.action_space
    for _ in range(steps):
        if hasattr(space, "n"):
            action = int(random.integers(space.n))
        elif hasattr(space, "nvec"):
            action = random.integers(space.nvec)
        else:
            action = random.uniform(space.low, space.high).astype(space.dtype)
        *transition, info = env.step(action)
        seen.append((*transition, info["rl_rms.regime"], env.clock, dict(env.parameters)))
        done = np.logical_or(transition[2], transition[3])
        if not isinstance(env, NonStationaryVector) and done:
            seen.append(env.reset()[0])
        elif (
            isinstance(env, NonStationaryVector)
            and env.metadata["autoreset_mode"].value == "Disabled"
            and done.any()
        ):
            seen.append(env.reset(options={"reset_mask": done})[0])
    return seen


def same(one, other):
    return len(one) == len(other) and all(
        data_equivalence(a, b, exact=True) for a, b in zip(one, other, strict=True)
    )


def through_json(state):
    return json.loads(json.dumps(state, allow_nan=False))


def continues_in_copies(env, loaded, steps):
    """Whether a loaded, a pickled and a copied environment continue like the original, also after `frozen`."""
    twins = [loaded, pickle.loads(pickle.dumps(env)), copy.deepcopy(env)]
    loaded.reset(seed=5)
    play(loaded, 33, seed=2)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert data_equivalence(loaded.last_observations, env.last_observations, exact=True)
    with env.frozen(clock=7):
        env.reset(seed=9)
        play(env, 30, seed=5)
    seen = play(env, steps, seed=1)
    return all(same(play(twin, steps, seed=1), seen) for twin in twins)


class Own(gym.Env):
    """An environment without a registered state. With ``secretive``, seeds do not set the environment's random
    numbers."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)
    secret = np.random.default_rng(0)
    level = 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.total = self.np_random.normal() if not self.secretive else self.secret.normal()
        return np.array([self.total]), {}

    def __init__(self, secretive=False):
        self.secretive = secretive

    def step(self, action):
        self.total += self.level * (2 * action - 1)
        return np.array([self.total]), 0.0, False, False, {}
