"""Replay of episodes for environments whose state cannot be read."""

import json
import warnings

import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs import NonStationary, register_state, replay
from rl_rms.envs.schedules import Redraw
from tests.envs.lives import Own, play, same, through_json
from tests.naming import naming

with warnings.catch_warnings():
    # If pytest raised this warning of Box2D's binding as an error, the interpreter would end.
    warnings.simplefilter("ignore")
    import gymnasium.envs.box2d


def test_bipedal_walker_episodes_are_independent_of_earlier_ones():
    seen = []
    for earlier in (0, 3):
        env = NonStationary(gym.make("BipedalWalker-v3"), {"gravity": -10.0})
        env.reset(seed=0)
        for _ in range(earlier):
            play(env, 60, seed=0)
            env.reset()
        env.reset(seed=7)
        seen.append(play(env, 100, seed=1))
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(*seen, strict=True))


def test_state_of_a_user_environment_is_replayed_or_registered():
    class Known(Own):
        pass

    register_state(Known, "total")
    sizes = []
    for kind in (Own, Known):
        env, loaded = (
            NonStationary(kind(), {"level": Redraw(low=0.0, high=1.0, every=3)}, seed=0) for _ in range(2)
        )
        env.reset(seed=0)
        play(env, 30, seed=0)
        state = through_json(env.state_dict())
        loaded.load_state_dict(state)
        sizes.append(len(json.dumps(state["environment"])))
        assert same(play(loaded, 30, seed=1), play(env, 30, seed=1))
    assert sizes[1] < sizes[0] / 2


def test_state_that_cannot_be_replayed_warns():
    class Secretive(Own):
        pass

    with pytest.warns(UserWarning, match=naming("two copies", "seed")):
        env = NonStationary(Secretive(secretive=True), {"level": 1.0})
    env.reset(seed=0)
    env.step(1)
    state = env.state_dict()
    with pytest.warns(UserWarning, match=naming("Secretive", "replay", "not restored exactly")):
        env.load_state_dict(state)


def test_replay_of_a_too_long_episode_is_dropped(monkeypatch):
    monkeypatch.setattr(replay, "LONGEST", 5)
    env = NonStationary(Own(), {"level": 1.0})
    env.reset(seed=0)
    play(env, 5, seed=0)
    assert env.state_dict()["environment"] is not None
    play(env, 1, seed=0)
    with pytest.warns(UserWarning, match=naming("5 env steps", "register_state")):
        assert env.state_dict()["environment"] is None


def test_state_of_a_replayed_episode_takes_a_few_bytes_for_each_action():
    class Arm(Own):
        action_space = gym.spaces.Box(-1.0, 1.0, (8,), np.float32)

        def step(self, action):
            self.total += self.level * float(action.sum())
            return np.array([self.total]), 0.0, False, False, {}

    env, loaded = (NonStationary(Arm(), {"level": 1.0}) for _ in range(2))
    env.reset(seed=0)
    play(env, 1_000, seed=0)
    state = through_json(env.state_dict())
    assert len(json.dumps(state)) < 1_000 * 8 * 4 * 1.4 + 5_000
    loaded.load_state_dict(state)
    assert same(play(loaded, 100, seed=1), play(env, 100, seed=1))
