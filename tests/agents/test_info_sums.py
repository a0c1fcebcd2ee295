import csv
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_rms.agents import A2C, Reinforce
from rl_rms.agents.info_sums import InfoSums
from rl_rms.envs import make_vec
from tests.naming import naming


class Counting(gym.Env):
    """Episodes of three steps. The info of a step has the step's number; the info of a reset has 100."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {"count": 100.0}

    def step(self, action):
        self.count += 1
        ends = self.count == 3
        info = {"count": self.count, "text": "a", "parts": {"forward": 2.0 * self.count}}
        return np.zeros(1, np.float32), 1.0, ends, False, info | ({"last": self.count} if ends else {})


class Longer(Counting):
    """Episodes of a given length."""

    def __init__(self, length):
        self.length = length

    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        return observation, reward, self.count == self.length, False, info


def logged(folder):
    """The rows of the log that have means of info."""
    with (folder / "metrics.csv").open() as file:
        rows = [{tag: row[tag] for tag in row if "info/" in tag} for row in csv.DictReader(file)]
    return [row for row in rows if any(row.values())]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("vectorization", ["sync", "async"])
def test_log_info_is_the_mean_over_env_steps_in_every_autoreset_mode(mode, vectorization, tmp_path):
    env = make_vec(Counting, 2, vectorization_mode=vectorization, vector_kwargs={"autoreset_mode": mode})
    agent = A2C(env, n_steps=12, log_info=["count", "last", "parts.forward", "rl_rms.regime"], seed=0)
    agent.learn(1, log_dir=tmp_path)
    (row,) = logged(tmp_path)
    assert {tag: float(value) for tag, value in row.items()} == {
        "info/count": 2.0,
        "info/last": 3.0,
        "info/parts.forward": 4.0,
        "info/rl_rms.regime": 0.0,
    }
    env.close()


def test_log_info_of_gymnasiums_vector_statistics_is_the_mean_over_episodes(tmp_path):
    env = gym.wrappers.vector.RecordEpisodeStatistics(gym.vector.SyncVectorEnv([Counting, lambda: Longer(9)]))
    A2C(env, n_steps=12, log_info=["episode.r"], seed=0).learn(1, log_dir=tmp_path)
    (row,) = logged(tmp_path)
    assert float(row["info/episode.r"]) == pytest.approx((3 * 3.0 + 9.0) / 4)


def test_log_info_mean_starts_again_after_each_entry_of_the_log(tmp_path):
    A2C(make_vec(Counting, 1), n_steps=1, log_info=["count"], seed=0).learn(6, log_dir=tmp_path, log_interval=2)
    assert [float(row["info/count"]) for row in logged(tmp_path)] == [1.0, 2.0, 3.0, 1.5, 3.0]


def test_log_info_does_not_change_the_training():
    def weights(**options):
        agent = Reinforce(make_vec(Counting, 2), seed=0, **options).learn(60)
        return torch.nn.utils.parameters_to_vector(agent.policy.parameters())

    assert torch.equal(weights(log_info=["count"]), weights())


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("cuont", ("log_info", "'cuont'", "'count'")),
        ("parts.forwad", ("log_info", "'parts.forwad'", "'parts.forward'")),
        ("text", ("log_info", "'text'", "'a'")),
        ("zzz", ("log_info", "'zzz'", "count", "parts.forward", "text")),
    ],
)
def test_log_info_that_is_not_a_number_warns_once(name, named):
    with pytest.warns(UserWarning, match=naming(*named)) as warned:
        A2C(make_vec(Counting, 1), log_info=[name, "count"], seed=0).learn(20)
    assert len(warned) == 1


@pytest.mark.parametrize("value", ["count", ["count", "count"], [""], [3], 3])
def test_log_info_wrong_type_names_the_value(value):
    with pytest.raises(ValueError, match=naming("log_info", repr(value), "list")):
        A2C("CartPole-v1", log_info=value)


def test_info_sums_of_restarted_and_resetting_environments_are_left_out():
    sums = InfoSums(["speed"])
    info = {"speed": np.array([1.0, 2.0, 4.0]), "_speed": np.array([True, True, False])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sums.add(info, np.array([True, False, True]), np.zeros(3, bool), None)
    assert sums.pop_means() == {"speed": 1.0}
    assert sums.pop_means() == {}
