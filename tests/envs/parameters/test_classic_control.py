import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from rl_rms.envs.nonstationary import NonStationary
from rl_rms.envs.parameters import find_parameter
from rl_rms.envs.schedules import Step


def test_cartpole_derives_its_masses():
    env = NonStationary(gym.make("CartPole-v1"), {"masscart": 3, "masspole": Step(0.1, 0.5, at=2), "length": 2})
    bare = env.unwrapped
    env.reset(seed=0)
    for masspole in (0.1, 0.5, 0.5):
        env.step(0)
        assert (bare.total_mass, bare.polemass_length) == (masspole + 3.0, masspole * 2.0)
    env.reset()
    assert (bare.total_mass, bare.polemass_length) == (3.5, 1.0)


def test_native_cartpole_with_one_value_each_equals_single_environments():
    native = CartPoleVectorEnv(num_envs=3)
    values = {"gravity": [9.8, 1.0, 20.0], "masspole": [0.1, 0.2, 0.3], "length": [0.5, 1.0, 0.2]}
    for name, column in values.items():
        parameter = find_parameter(native, name)
        assert parameter.batched
        parameter.setter(native)(np.array(column))
    native.reset(seed=0)
    batch, *_ = native.step(np.array([0, 1, 1]))
    start = CartPoleVectorEnv(num_envs=3).reset(seed=0)[0]
    for i, action in enumerate([0, 1, 1]):
        env = gym.make("CartPole-v1").unwrapped
        for name, column in values.items():
            find_parameter(env, name).setter(env)(column[i])
        env.reset(seed=0)
        env.state = start[i].astype(np.float64)
        assert env.step(action)[0] == pytest.approx(batch[i], abs=1e-6)
