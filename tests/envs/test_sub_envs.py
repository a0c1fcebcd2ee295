import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from rl_rms.envs import NonStationary, NonStationaryVector
from tests.envs.vectors import play
from tests.naming import naming


def test_snapshot_of_unprepared_workers_is_none():
    env = NonStationaryVector(AsyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2))
    env.reset(seed=0)
    with pytest.warns(UserWarning, match=naming("rl_rms.envs.make_vec")):
        assert env.state_dict()["environment"] is None
    env.close()


def test_constructor_with_unprepared_workers_raises_value_error():
    def bare():
        return AsyncVectorEnv([lambda: gym.make("CartPole-v1")] * 2)

    refused = bare()
    with pytest.raises(ValueError, match=naming('make_vec(id, num_envs, changes, vectorization_mode="async"')):
        NonStationaryVector(refused, {"gravity": 3.0})
    refused.close()
    env = NonStationaryVector(bare())  # nothing to set in the workers
    env.reset(seed=0)
    env.step(np.zeros(2, dtype=int))
    assert env.clock == 2
    env.close()


@pytest.mark.parametrize("vector", [SyncVectorEnv, AsyncVectorEnv])
def test_constructor_with_drifting_sub_environments_raises_value_error(vector):
    env = vector([lambda: NonStationary(gym.make("CartPole-v1"), {"gravity": 3.0})])
    with pytest.raises(ValueError, match=naming("NonStationary", "NonStationaryVector")):
        NonStationaryVector(env, {"length": 1.0})
    env.close()


def test_constructor_with_prepared_sub_environments_accepts_only_the_same_targets(probes):
    env = probes([2])
    NonStationaryVector(env, {"level": 2.0})
    again = NonStationaryVector(env, {"level": 3.0})
    again.reset(seed=0)
    assert play(again, 1)[0][1].tolist() == [3.0]
    with pytest.raises(ValueError, match=naming("level", "reward.scale")):
        NonStationaryVector(env, {"reward.scale": 2.0})
