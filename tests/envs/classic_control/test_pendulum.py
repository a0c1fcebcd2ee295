import numpy as np
import pytest

from rl_rms.envs import make_vec
from tests.envs.classic_control.pairs import pair, states


def test_constructor_takes_the_gravity_of_the_single_environment():
    ours, theirs = pair("Pendulum-v1", g=3.0)
    for env in (ours, theirs):
        env.reset(seed=0)
        env.step(np.ones((3, 1), np.float32))
    assert ours.g == 3.0
    assert ours.state == pytest.approx(states(theirs), rel=1e-12)
    assert make_vec("Pendulum-v1", 8, g=3.0).unwrapped.g == 3.0


def test_step_computes_the_reward_by_hand():
    env, _ = pair("Pendulum-v1", num_envs=2)
    env.reset(seed=0)
    env.state = np.array([[0.0, 2 * np.pi], [1.0, -2.0]])
    _, rewards, *_ = env.step(np.array([[1.0], [-9.0]], np.float32))
    assert rewards == pytest.approx([-(0.1 + 0.001), -(0.4 + 0.004)], abs=1e-8)
