"""Resilient vector environments, made from ids."""

import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs import make_vec
from rl_rms.envs.resilience import set_reaction
from tests.naming import naming


def test_restart_of_make_vec_keeps_wrappers_and_arguments():
    def wrapped(env):
        return gym.wrappers.TransformReward(env, lambda reward: 3.0 * reward)

    env = make_vec("tests.faulty:Faulty-v0", 2, vectorization_mode="sync", wrappers=[wrapped], at=2)
    set_reaction(env, "restart")
    env.reset(seed=0)
    assert env.step(np.zeros(2, int))[1].tolist() == [3, 3]
    with pytest.warns(UserWarning, match=naming("restarted")):
        env.step(np.zeros(2, int))
    env.step(np.zeros(2, int))
    assert env.step(np.zeros(2, int))[1].tolist() == [3, 3]
