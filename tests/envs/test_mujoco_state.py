import json

import gymnasium as gym
import numpy as np
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

from rl_rms.envs import NonStationary
from rl_rms.envs.mujoco_state import is_mujoco, read, write
from tests.envs.lives import play, same, through_json


def test_state_of_a_long_mujoco_episode_is_small_and_continues_exactly():
    env, loaded = (NonStationary(gym.make("HalfCheetah-v5", max_episode_steps=None), {}) for _ in range(2))
    sizes = []
    env.reset(seed=0)
    for _ in range(3):
        play(env, 200, seed=0)
        sizes.append(len(json.dumps(env.state_dict())))
    assert max(sizes) < 1.1 * min(sizes) < 100_000
    loaded.reset(seed=5)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(play(loaded, 100, seed=1), play(env, 100, seed=1))


def test_is_mujoco_is_true_only_for_gymnasiums_environments():
    class Changed(HalfCheetahEnv):
        """An environment that may have its own state."""

    assert is_mujoco(gym.make("HalfCheetah-v5").unwrapped)
    assert not is_mujoco(gym.make("CartPole-v1").unwrapped)
    assert not is_mujoco(Changed())


def test_write_of_a_read_state_repeats_the_steps():
    env, other = (gym.make("Hopper-v5") for _ in range(2))
    env.reset(seed=0)
    for _ in range(4):
        env.step(env.action_space.high)
    state = read(env.unwrapped)
    before = state["integration"].copy()
    other.reset(seed=5)
    write(other.unwrapped, state)
    assert other.unwrapped.data.time == env.unwrapped.data.time
    for _ in range(5):
        assert np.array_equal(other.step(env.action_space.low)[0], env.step(env.action_space.low)[0])
    assert np.array_equal(state["integration"], before)  # a copy, which later steps do not change
