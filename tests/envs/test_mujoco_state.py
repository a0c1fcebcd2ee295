"""The state of MuJoCo's environments."""

import json

import gymnasium as gym

from rl_rms.envs import NonStationary
from tests.envs.lives import live, same, through_json


def test_state_of_a_long_mujoco_episode_stays_small_and_goes_on_exactly():
    env, loaded = (NonStationary(gym.make("HalfCheetah-v5", max_episode_steps=None), {}) for _ in range(2))
    sizes = []
    env.reset(seed=0)
    for _ in range(3):
        live(env, 200, seed=0)
        sizes.append(len(json.dumps(env.state_dict())))
    assert max(sizes) < 1.1 * min(sizes) < 100_000
    loaded.reset(seed=5)
    loaded.load_state_dict(through_json(env.state_dict()))
    assert same(live(loaded, 100, seed=1), live(env, 100, seed=1))
