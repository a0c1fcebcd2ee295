import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from rl_rms.envs import register_parameter
from rl_rms.envs.nonstationary import NonStationary
from rl_rms.envs.parameters import OutOfBoundsError, find_parameter
from rl_rms.envs.schedules import Linear
from tests.envs.parameters.typed import Typed
from tests.naming import naming


def test_drift_out_of_bounds_raises_at_that_step():
    env = NonStationary(gym.make("CartPole-v1"), {"length": Linear(0.5, -0.5, over=10)})
    env.reset(seed=0)
    for _ in range(4):
        env.step(0)
    with pytest.raises(OutOfBoundsError, match=naming("'length'", "CartPoleEnv", "> 0", "0.0")):
        env.step(0)


def test_array_with_an_element_out_of_bounds_raises():
    native = CartPoleVectorEnv(num_envs=3)
    setter = find_parameter(native, "length").setter(native)
    setter(np.array([0.1, 0.2, 0.3]))
    assert native.polemass_length.tolist() == [0.1 * 0.1, 0.1 * 0.2, 0.1 * 0.3]
    with pytest.raises(OutOfBoundsError, match=naming("> 0")):
        setter(np.array([0.1, 0.0, 0.3]))


def test_parameter_with_wrong_bounds_or_effect_raises(probe):
    with pytest.raises(ValueError, match=naming("low=2", "above=-inf", "high=1")):
        register_parameter(probe, "level", low=2, high=1)
    with pytest.raises(ValueError, match=naming("effect", "'level'", "step", "reset", "episode", "'now'")):
        register_parameter(probe, "level", effect="now")


def test_registered_attribute_keeps_its_own_type():
    class Registered(Typed):
        pass

    register_parameter(Registered, "n", low=0)
    env = NonStationary(Registered(), {"n": 4.0})
    env.reset(seed=0)
    assert type(env.unwrapped.n) is int
    with pytest.raises(ValueError, match=naming("'n'", "Registered", "0.5")):
        NonStationary(Registered(), {"n": 0.5}).reset(seed=0)


def test_registered_attribute_takes_an_array_of_its_own_type():
    env = Typed()
    assign = find_parameter(env, "n").setter(env)
    assign(np.array([1.0, 2.0]))
    assert env.n.dtype == np.int64
    with pytest.raises(ValueError, match=naming("'n'", "Typed", "2.5")):
        assign(np.array([1.0, 2.5]))
