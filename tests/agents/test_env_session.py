import gymnasium as gym
import numpy as np
import pytest

from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.envs.schedules import Linear
from tests.naming import naming


def make(num_envs=2):
    changes = {"length": Linear(start=0.2, end=2.0, over=500)}
    return A2C(make_vec("CartPole-v1", num_envs, changes, seed=0), seed=0)


def test_start_without_an_environment_names_the_argument():
    agent = A2C(
        None,
        observation_space=gym.spaces.Box(-1, 1, (4,), np.float32),
        action_space=gym.spaces.Discrete(2),
    )
    assert not agent.session.started
    with pytest.raises(ValueError, match="env="):
        agent.prepare()


def test_state_dict_restores_observations_and_clock():
    agent, other = make().learn(50), make()
    other.session.load_state_dict(agent.session.state_dict())
    assert other.session.start(agent.num_timesteps) is False
    np.testing.assert_array_equal(other.session.collector.observations, agent.session.collector.observations)
    assert other.env.clock == agent.env.clock == agent.num_timesteps


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("wrappers", [["NormalizeObservation"], ["NormalizeObservation", "drift"]])
def test_lend_wrapper_states_gives_running_statistics_before_and_after_loading(wrappers, mode, tmp_path):
    def make(num_envs):
        return make_vec("CartPole-v1", num_envs, wrappers=wrappers, vectorization_mode=mode, seed=0)

    agent = A2C(make(2), seed=0).learn(50)
    states = agent.env.wrapper_states
    loaded = A2C.load(agent.save(tmp_path / "agent"))
    for num_envs in (1, 2, 3):
        for lender in (agent, loaded):
            other = make(num_envs)
            assert other.wrapper_states[0] != states[0]
            lender.session.lend_wrapper_states(other)
            assert other.wrapper_states == [states[i % 2] for i in range(num_envs)]
            other.close()
    agent.env.close()


class Continuing(gym.Wrapper):
    """Every reset after the first takes a step, like Stable-Baselines3's EpisodicLifeEnv after a lost life."""

    continues = False

    def reset(self, **kwargs):
        if self.continues:
            return self.env.step(0)[::4]
        self.continues = True
        return self.env.reset(**kwargs)


def test_lend_wrapper_states_wrapper_that_steps_in_reset_works():
    agent, other = (make_vec("CartPole-v1", 1, wrappers=[Continuing]) for _ in range(2))
    A2C(agent, seed=0).learn(5).session.lend_wrapper_states(other)
    assert other.wrapper_states[0][1][0]["attributes"]["continues"] == {"value": True}
    assert other.reset()[0].shape == (1, 4)


def test_lend_wrapper_states_to_other_wrappers_names_them():
    agent = A2C(make_vec("CartPole-v1", 2, wrappers=["NormalizeObservation"], seed=0), seed=0).learn(50)
    with pytest.raises(ValueError, match=naming("gymnasium.wrappers.stateful_observation:NormalizeObservation")):
        agent.session.lend_wrapper_states(make_vec("CartPole-v1", 2, vectorization_mode="sync"))
    agent.session.lend_wrapper_states(make_vec("CartPole-v1", 2))


def test_state_dict_before_the_start_equals_the_loaded_state():
    agent, other = make().learn(50), make()
    saved = agent.session.state_dict()
    other.session.load_state_dict(saved)
    assert other.session.state_dict()["place"].tolist() == saved["place"].tolist()


def test_start_with_another_number_of_sub_environments_begins_new_episodes():
    agent, other = (A2C(gym.make_vec("CartPole-v1", number), seed=0) for number in (2, 3))
    other.session.load_state_dict(agent.learn(50).session.state_dict())
    assert other.session.start(agent.num_timesteps) is True
    assert other.session.collector.starts.tolist() == [True] * 3


def test_start_with_another_number_of_changing_sub_environments_continues_the_clock():
    agent, other = make(2).learn(50), make(3)
    other.session.load_state_dict(agent.session.state_dict())
    assert other.session.start(agent.num_timesteps) is True
    assert other.env.clock == agent.env.clock == agent.num_timesteps
    assert other.session.collector.starts.tolist() == [True] * 3


def test_abandon_episodes_begins_new_episodes_at_the_same_clock():
    agent = make().learn(50)
    agent.session.abandon_episodes()
    assert not agent.session.started
    agent.session.start(agent.num_timesteps)
    assert agent.env.clock == agent.num_timesteps
    assert agent.session.collector.starts.all()


def test_lend_environment_returns_in_the_same_episodes():
    agent = make().learn(50)
    before = np.array(agent.session.collector.observations)
    with agent.session.lent():
        agent.env.reset(seed=9)
        agent.env.step(np.zeros(2, np.int64))
    np.testing.assert_array_equal(agent.session.collector.observations, before)
    assert agent.session.started
    assert agent.env.clock == agent.num_timesteps
