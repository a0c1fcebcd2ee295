import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.utils.env_checker import check_env

from rl_rms.envs import NonStationary, NonStationaryVector
from rl_rms.envs.observers import Observer
from rl_rms.envs.schedules import Linear, Step
from tests.naming import naming

CHANGES = {"level": Step(before=1.0, after=2.0, at=2)}


def test_observer_appends_components_to_flat_observations(probe):
    env = NonStationary(probe(), CHANGES, observe=["params", "time", "change"])
    assert env.observation_space.shape == (5,)
    assert env.observation_space.low.tolist() == [0.0, 0.0, -np.inf, 0.0, 0.0]
    assert env.observation_space.high.tolist() == [100.0, 100.0, np.inf, np.inf, 1.0]
    # The timescale is 2, so the time is half the clock. The observation has the parameter of the next transition.
    assert env.reset(seed=0)[0].tolist() == [0, 0, 1, 0, 0]
    assert [env.step(None)[0].tolist() for _ in range(3)] == [
        [1, 1, 1, 0.5, 0],
        [2, 2, 2, 1, 1],
        [3, 3, 2, 1.5, 0],
    ]
    assert env.step(None)[0].dtype == np.float32


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_observer_of_a_vector_changes_final_observations(probes, mode):
    changes = {"level": Step(before=1.0, after=2.0, at=4)}
    mode = gym.vector.AutoresetMode(mode)
    env = NonStationaryVector(probes([2, 9], mode), changes, observe=["params", "change"])
    assert env.observation_space.shape == (2, 4)
    assert env.reset(seed=0)[0].tolist() == [[0, 0, 1, 0]] * 2
    actions = np.zeros((2, 2), np.float32)
    assert env.step(actions)[0].tolist() == [[1, 1, 1, 0]] * 2
    observations, *_, infos = env.step(actions)
    if mode is gym.vector.AutoresetMode.SAME_STEP:
        assert observations.tolist() == [[0, 0, 2, 1], [2, 2, 2, 1]]
        assert infos["final_obs"][0].tolist() == [2, 2, 2, 1]
        assert infos["final_obs"][1] is None
    else:
        assert observations.tolist() == [[2, 2, 2, 1]] * 2
        assert env.step(actions)[0].tolist() == [[0, 0, 2, 0], [3, 3, 2, 0]]
    assert observations[0] in env.single_observation_space


def test_observer_with_independent_clocks_shows_each_its_own(probes):
    changes = {"level": Linear(start=0.0, end=10.0, over=10)}
    env = NonStationaryVector(probes([1, 9]), changes, sharing="independent", observe="params")
    env.reset(seed=0)
    actions = np.zeros((2, 2), np.float32)
    assert [env.step(actions)[0][:, 2].tolist() for _ in range(3)] == [[1, 1], [1, 2], [2, 3]]


def test_observer_adds_entries_to_other_observations():
    env = NonStationary(gym.make("FrozenLake-v1"), {"reward.scale": Step(1.0, 2.0, at=1)}, observe="params")
    assert env.observation_space == Dict(
        {"observation": Discrete(16), "params": Box(-np.inf, np.inf, (1,), np.float32)}
    )
    observation, _ = env.reset(seed=0)
    assert observation == {"observation": 0, "params": np.array([1.0])}
    assert env.step(0)[0]["params"] == 2.0
    batch = NonStationaryVector(gym.make_vec("FrozenLake-v1", 3), {"reward.scale": 2.0}, observe="params")
    assert batch.reset(seed=0)[0] in batch.observation_space


def test_environment_checker_passes():
    env = NonStationary(
        gym.make("CartPole-v1"), {"gravity": Linear(8.0, 12.0, over=100)}, observe=["params", "time"]
    )
    with warnings.catch_warnings():
        # The checker warns of a wrapper and of an unbounded parameter.
        warnings.filterwarnings("ignore", message=".*(unwrapped version|infinity).*")
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize(
    ("observe", "targets", "said"),
    [
        ("parameters", 1, ("observe", "params", "time", "change", "'parameters'")),
        ([], 1, ("observe", "params", "time", "change", "[]")),
        (["time", "time"], 1, ("observe", "['time', 'time']")),
        ("params", 0, ("observe='params'", "changes", "curriculum")),
    ],
)
def test_observer_with_a_wrong_argument_names_it(observe, targets, said):
    with pytest.raises(ValueError, match=naming(*said)):
        Observer(observe, Box(0, 1, (2,)), targets, 10.0)


def test_observed_time_of_a_stationary_environment_is_in_env_steps(probe):
    env = NonStationary(probe(), observe="time")
    env.reset(seed=0)
    assert [env.step(None)[0][-1] for _ in range(2)] == [1.0, 2.0]
