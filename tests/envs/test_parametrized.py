import copy
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box

from rl_rms.envs import TaskSwitch
from rl_rms.envs.parametrized import Parametrized
from tests.naming import naming


def test_parameter_values_take_effect_at_the_next_step(probe):
    env = Parametrized(probe(), ["level", "reward.scale"])
    env.reset(seed=0)
    env.parameter_values = (2.0, 10.0)
    assert env.step(None)[1] == 20.0
    env.parameter_values = (3.0, 10.0)
    assert env.step(None)[1] == 30.0
    assert env.parameter_targets == ("level", "reward.scale")


def test_reset_sets_a_value_again_that_the_environment_restored(probe):
    class Forgetful(probe):
        def reset(self, **kwargs):
            self.level = 1.0
            return super().reset(**kwargs)

    env = Parametrized(Forgetful(), ["level"])
    env.parameter_values = (4.0,)
    env.reset(seed=0)
    assert env.step(None)[1] == 4.0


def test_current_values_are_those_of_the_environment_before_any_is_set(probe):
    assert Parametrized(probe(), ["level"]).current_values() == (1.0,)


@pytest.mark.parametrize("bounded", [True, False])
def test_observation_space_has_no_bounds_with_an_observation_target(probe, bounded):
    env = Parametrized(probe(), ["level" if bounded else "observation.gain"])
    assert env.observation_space.is_bounded() == bounded


def test_observation_space_loses_bounds_only_of_changed_float_parts(probe):
    env = probe()
    image, joints, other = Box(0, 255, (2, 2), np.uint8), Box(-1.0, 1.0, (2,)), Box(0.0, 1.0, (1,))
    env.observation_space = gym.spaces.Dict({"image": image, "joints": joints, "other": other})
    space = Parametrized(env, ["observation.image.noise", "observation.joints.gain"]).observation_space
    assert (space["image"], space["other"]) == (image, other)
    assert not space["joints"].is_bounded("both")


def test_upcoming_parameter_truncates_the_episode():
    lakes = [{"id": "FrozenLake-v1", "desc": ["SFF", last]} for last in ("FFG", "HFG")]
    env = Parametrized(TaskSwitch(lakes), ["task"])
    env.parameter_values = (0.0,)
    env.reset(seed=0)
    env.parameter_upcoming = (1.0,)
    _, _, terminated, truncated, _ = env.step(0)
    assert (terminated, truncated) == (False, True)
    assert (env.parameter_values, env.parameter_upcoming) == ((1.0,), None)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copied_environment_continues_exactly(duplicate):
    env = Parametrized(gym.make("CartPole-v1"), ["length", "action.delay"])
    env.parameter_values = (0.25, 2.0)
    env.reset(seed=0)
    env.step(1)
    other = duplicate(env)
    for action in (0, 1, 1, 0):
        assert np.array_equal(env.step(action)[0], other.step(action)[0])
    assert other.unwrapped.length == 0.25


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "FrozenLake-v1"])
def test_restored_snapshot_continues_exactly(env_id):
    env, other = (Parametrized(gym.make(env_id), ["action.delay"]) for _ in range(2))
    assert env.parameter_snapshot is None
    for one in (env, other):
        one.parameter_values = (1.0,)
    env.reset(seed=0)
    for action in (1, 0, 1):
        env.step(action)
    other.reset(seed=5)
    other.parameter_snapshot = json.loads(json.dumps(env.parameter_snapshot))
    for action in (0, 1, 1):
        assert np.array_equal(env.step(action)[0], other.step(action)[0])


def test_snapshot_of_another_kind_of_environment_names_the_remedy(probe):
    env, other = Parametrized(gym.make("CartPole-v1"), []), Parametrized(probe(), [])
    for one in (env, other):
        one.reset(seed=0)
    with pytest.raises(ValueError, match=naming("wrappers")):
        other.parameter_snapshot = env.parameter_snapshot


def test_reward_that_is_no_number_names_the_value(probe):
    class Paying(probe):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, "much", *rest

    env = Parametrized(Paying(), ["reward.scale"])
    env.parameter_values = (1.0,)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=naming("reward", "'much'")):
        env.step(None)
