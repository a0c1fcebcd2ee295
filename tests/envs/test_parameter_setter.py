"""Targets of one environment, set by name."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Discrete

from rl_rms.envs import NonStationary, make_vec
from rl_rms.envs.parameter_setter import ParameterSetter
from rl_rms.envs.schedules import PoissonJumps, Step
from rl_rms.envs.target_transforms import TargetTransforms
from tests.naming import naming


def setter_of(env, targets):
    return ParameterSetter(env, targets, TargetTransforms(targets, env.observation_space, env.action_space))


def test_set_writes_only_the_values_that_differ(probe):
    env = probe()
    targets = ["level", "reward.offset"]
    transforms = TargetTransforms(targets, env.observation_space, env.action_space)
    setter = ParameterSetter(env, targets, transforms)
    assert (setter.values, setter.current()) == ((None, None), (1.0, 0.0))
    setter.set((3.0, 5.0))
    assert (env.level, setter.values, transforms.reward(1.0)) == (3.0, (3.0, 5.0), 6.0)
    env.level = 7.0
    setter.set((3.0, 6.0))
    assert (env.level, transforms.reward(1.0)) == (7.0, 7.0)
    setter.again()
    assert env.level == 3.0


def test_set_does_not_write_none(probe):
    env = probe()
    setter_of(env, ["level"]).again()
    assert env.level == 1.0


def test_arrays_of_a_vector_environment_change_each_row():
    env = gym.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point").unwrapped
    targets = ["length", "observation.offset"]
    transforms = TargetTransforms(targets, env.single_observation_space, env.single_action_space, num_envs=2)
    setter = ParameterSetter(env, targets, transforms, arrays=targets)
    setter.set((np.array([0.5, 0.25]), np.array([0.0, 1.0])))
    assert env.length.tolist() == [0.5, 0.25]
    moved = transforms.observation(np.zeros((2, 4), np.float32))
    assert moved[:, 0].tolist() == [0.0, 1.0]


def test_ends_episode_of_another_task_is_true(switch):
    setter = setter_of(switch, ["task"])
    setter.set((0.0,))
    assert setter.episodic == (0,)
    assert not setter.ends_episode((0.0,))
    assert setter.ends_episode((1.0,))


@pytest.fixture
def switch():
    from rl_rms.envs import TaskSwitch

    lakes = [{"id": "FrozenLake-v1", "desc": ["SF", last]} for last in ("FG", "HG")]
    return TaskSwitch(lakes)


def test_pickled_setter_sets_the_values_again():
    env = gym.make("CartPole-v1").unwrapped
    setter = setter_of(env, ["length"])
    setter.set((0.25,))
    copied = pickle.loads(pickle.dumps(setter))
    assert (copied.values, copied.current()) == ((0.25,), (0.25,))


def test_arrays_in_an_unbatched_environment_name_the_remedy(probe):
    env = probe()
    transforms = TargetTransforms([], env.observation_space, env.action_space, num_envs=2)
    with pytest.raises(ValueError, match=naming("'level'", 'vectorization_mode="sync"', "batched=True")):
        ParameterSetter(env, ["level"], transforms, arrays=["level"])


class Damped(gym.RewardWrapper):
    """A wrapper that multiplies rewards by a factor."""

    def __init__(self, env):
        super().__init__(env)
        self.factor, self.unused = 0.5, 1.0

    def reward(self, reward):
        return self.factor * reward


def test_attribute_of_a_wrapper_inside_the_drift_changes():
    env = make_vec(
        "CartPole-v1", 2, {"Damped.factor": Step(2.0, 3.0, at=4), "gravity": 5.0}, wrappers=[Damped, "drift"]
    )
    env.reset(seed=0)
    rewards = [env.step(np.array([0, 0]))[1].tolist() for _ in range(3)]
    assert rewards == [[2.0, 2.0], [2.0, 2.0], [3.0, 3.0]]
    assert env.parameters == {"Damped.factor": 3.0, "gravity": 5.0}


class Objectives(gym.Wrapper):
    """A wrapper that returns two rewards instead of one."""

    def step(self, action):
        observation, _, *rest = self.env.step(action)
        return observation, np.array([1.0, 10.0]), *rest


class LinearReward(gym.Wrapper):
    """The weighted sum of several rewards, as in mo-gymnasium."""

    def __init__(self, env, weight: np.ndarray):
        super().__init__(env)
        self.w = weight

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        return observation, float(np.dot(reward, self.w)), *rest


def test_weights_of_several_rewards_change():
    weigh = {f"{__name__}:LinearReward": {"weight": [1.0, 0.5]}}
    env = make_vec(
        "CartPole-v1", 2, {"LinearReward.w[1]": Step(0.5, 0.0, at=4)}, wrappers=[Objectives, weigh, "drift"]
    )
    env.reset(seed=0)
    rewards = [env.step(np.array([0, 0]))[1].tolist() for _ in range(3)]
    assert rewards == [[6.0, 6.0], [6.0, 6.0], [1.0, 1.0]]


def test_weights_of_several_rewards_are_independent_in_each_environment():
    weigh = (LinearReward, {"weight": np.array([1.0, 0.5])})
    env = make_vec(
        "CartPole-v1",
        2,
        {"LinearReward.w[1]": PoissonJumps(0.0, 1.0, mean_dwell=5)},
        wrappers=[Objectives, weigh, "drift"],
        sharing="independent",
    )
    env.reset(seed=0)
    for _ in range(5):
        weights = env.parameters["LinearReward.w[1]"]
        np.testing.assert_allclose(env.step(np.array([0, 1]))[1], 1.0 + 10.0 * weights)


def test_copy_continues_with_the_attribute_of_its_own_wrapper():
    env = NonStationary(Damped(gym.make("CartPole-v1")), {"Damped.factor": Step(2.0, 3.0, at=2)})
    env.reset(seed=0)
    other = pickle.loads(pickle.dumps(env))
    assert [env.step(0)[1] for _ in range(3)] == [2.0, 2.0, 3.0]
    assert [other.step(0)[1] for _ in range(3)] == [2.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("Damped.unused", ["'Damped.unused'", "1"]),
        ("Damped.factr", ["'Damped.factr'", "'Damped.factor'"]),
        ("Dumped.factor", ["'Dumped.factor'", "drift"]),
    ],
)
def test_wrong_attribute_of_a_wrapper_is_named(target, named):
    with pytest.raises(ValueError, match=naming(*named)):
        NonStationary(Damped(gym.make("CartPole-v1")), {target: 2.0})


class Late(gym.Env):
    """An environment whose first reset creates the attributes that its rewards depend on."""

    observation_space, action_space = Discrete(1), Discrete(2)

    def __init__(self):
        self.engine = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.engine, self.level = {"power": 1.0}, 3
        return 0, {}

    def step(self, action):
        return 0, self.engine["power"] + 10 * self.level, False, False, {}


def test_attribute_that_exists_only_after_reset_changes():
    env = NonStationary(Late(), {"engine.power": Step(2.0, 4.0, at=2), "level": 5})
    assert env.current_values() == (1.0, 3.0)
    assert not hasattr(env.unwrapped, "level")
    env.reset(seed=0)
    other = pickle.loads(pickle.dumps(env))
    for one in (env, other):
        assert [one.step(0)[1] for _ in range(3)] == [52.0, 52.0, 54.0]
        one.reset()
        assert one.step(0)[1] == 54.0
        assert type(one.unwrapped.level) is int


def test_missing_attribute_after_reset_raises():
    with pytest.raises(ValueError, match=naming("'engine.weight'", "Late")):
        NonStationary(Late(), {"engine.weight": 2.0})


def test_attribute_of_a_box2d_body_changes_before_and_after_a_copy():
    pytest.importorskip("Box2D")
    env = NonStationary(gym.make("LunarLander-v3"), {"lander.linearDamping": Step(1.0, 2.0, at=2)})
    copies = [env, pickle.loads(pickle.dumps(env))]
    env.reset(seed=0)
    copies.append(pickle.loads(pickle.dumps(env)))
    copies[1].reset(seed=0)
    for one in copies:
        assert one.unwrapped.lander.linearDamping == 1.0
        for _ in range(2):
            one.step(0)
        assert one.unwrapped.lander.linearDamping == 2.0
