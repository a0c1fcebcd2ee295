import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.vector import SyncVectorEnv

from rl_rms.envs.backends import make_saver
from rl_rms.envs.layers import OtherWrappersError
from tests.naming import naming


class Unknown(PendulumEnv):
    """An environment without a registered state."""


def vector(limit=7, wrap=lambda env: env):
    return SyncVectorEnv([lambda: wrap(gym.make("Pendulum-v1", max_episode_steps=limit))] * 2)


def play(env, saver, steps, seed):
    random, shown = np.random.default_rng(seed), []
    for _ in range(steps):
        transition = env.step(random.uniform(-2, 2, (2, 1)).astype(np.float32))
        saver.last = transition[0]
        shown.append([one.tolist() for one in transition[:4]])
    return shown


def started(env, seed=0):
    saver = make_saver(env)
    saver.last, _ = env.reset(seed=seed)
    return saver


@pytest.mark.parametrize("steps", [3, 7, 8])
def test_restore_of_a_snapshot_continues_exactly(steps):
    env = vector()
    saver = started(env)
    done = play(env, saver, steps, seed=0)[-1]
    snapshot = json.loads(json.dumps(saver.snapshot()))
    other = vector()
    restored = started(other, seed=5)
    restored.restore(snapshot, np.logical_or(done[2], done[3]))
    assert restored.last.tolist() == saver.last.tolist()
    assert play(other, restored, 20, seed=1) == play(env, saver, 20, seed=1)


def test_snapshot_before_the_first_reset_is_none():
    assert make_saver(vector()).snapshot() is None


def test_snapshot_of_an_unknown_environment_warns_once_and_is_none():
    saver = started(SyncVectorEnv([Unknown]))
    with pytest.warns(UserWarning, match=naming("Unknown", "register_state")):
        assert saver.snapshot() is None
    assert saver.snapshot() is None


def test_snapshot_of_a_wrapper_without_serializable_state_warns_once_and_is_none():
    class Opaque(gym.Wrapper):
        def __init__(self, env):
            super().__init__(env)
            self.memory = object()

    saver = started(vector(wrap=Opaque))
    assert saver.lost_wrappers == ["Opaque"]
    with pytest.warns(UserWarning, match=naming("Opaque")):
        assert saver.snapshot() is None
    assert saver.snapshot() is None


def test_restore_of_another_number_of_sub_environments_raises_value_error():
    snapshot = started(vector()).snapshot()
    alone = SyncVectorEnv([lambda: gym.make("Pendulum-v1")])
    with pytest.raises(ValueError, match=naming("vectorization_mode")):
        started(alone).restore(snapshot, np.zeros(1, bool))


def test_restore_of_other_wrappers_raises_and_changes_nothing():
    snapshot = started(vector()).snapshot()
    env = vector(wrap=gym.wrappers.NormalizeReward)
    saver = started(env, seed=5)
    before = saver.last.tolist()
    with pytest.raises(OtherWrappersError, match=naming("NormalizeReward")):
        saver.restore(snapshot, np.zeros(2, bool))
    assert saver.last.tolist() == before


def test_restore_of_vector_wrappers_restores_their_state():
    env, other = (gym.wrappers.vector.NormalizeReward(vector()) for _ in range(2))
    saver, restored = started(env), started(other, seed=5)
    play(env, saver, 5, seed=0)
    restored.restore(saver.snapshot(), np.zeros(2, bool))
    assert play(other, restored, 5, seed=1) == play(env, saver, 5, seed=1)
