import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_rms.agents import A2C, A2CConfig, PolicyConfig, Reinforce
from rl_rms.agents.backends import choose_backend
from rl_rms.agents.torch_backend import TorchBackend
from rl_rms.agents.workers import Workers
from tests.naming import naming


def test_predict_one_observation_or_a_batch_returns_actions_of_that_shape():
    agent = A2C("CartPole-v1", seed=0)
    single, state = agent.predict(np.zeros(4, np.float32))
    batch, _ = agent.predict(np.zeros((6, 4), np.float32))
    assert single.shape == ()
    assert state is None
    assert batch.shape == (6,)
    assert len({int(agent.predict(np.zeros(4), deterministic=True)[0]) for _ in range(20)}) == 1
    with pytest.raises(ValueError, match=naming("observation", "(4,)")):
        agent.predict(np.zeros(5))


def test_predict_returns_actions_of_the_action_space():
    shifted = gym.spaces.Discrete(3, start=5)
    agent = A2C(
        None,
        config=A2C("CartPole-v1").config,
        seed=0,
        observation_space=gym.spaces.Discrete(2),
        action_space=shifted,
    )
    assert all(shifted.contains(agent.predict(1)[0]) for _ in range(20))
    narrow = gym.spaces.Box(-0.1, 0.1, (2,), np.float32)
    agent = A2C(None, config=agent.config, seed=0, observation_space=gym.spaces.Discrete(2), action_space=narrow)
    assert all(narrow.contains(agent.predict(1)[0]) for _ in range(20))


def test_predict_wrong_observation_names_it():
    space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (4,), np.float32)})
    agent = A2C(None, config=A2CConfig(), observation_space=space, action_space=gym.spaces.Discrete(2))
    with pytest.raises(ValueError, match=naming("observation", "Dict", "{'b': 1}")):
        agent.predict({"b": 1})


def acted(agent, backend, observations, starts, steps):
    """Actions of several steps with the same observations."""
    return np.stack([agent.actor.act(backend, t, observations, starts, None)[0] for t in range(steps)])


def test_act_of_two_workers_draws_the_rows_of_one_process():
    observations = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    starts = np.zeros(6, np.bool_)

    def actions(rows, workers):
        agent = A2C(gym.make_vec("CartPole-v1", len(observations[rows])), seed=0)
        agent.actor.join(workers)
        backend = TorchBackend(agent.policy, agent.device)
        return acted(agent, backend, observations[rows], starts[rows], 20)

    whole = actions(slice(0, 6), Workers())
    halves = [actions(slice(0, 3), Workers(0, 2)), actions(slice(3, 6), Workers(1, 2))]
    assert 0.2 < whole.mean() < 0.8
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), whole)


def test_act_advances_the_recurrent_state_and_a_start_resets_it():
    agent = A2C(gym.make_vec("CartPole-v1", 2), policy=PolicyConfig(recurrent="gru", recurrent_size=3), seed=0)
    backend = choose_backend(agent.policy, agent.device, agent.config)
    observations = np.ones((2, 4), np.float32)
    acted(agent, backend, observations, np.zeros(2, np.bool_), 1)
    first = agent.actor.state.clone()
    acted(agent, backend, observations, np.array([True, False]), 1)
    assert first.abs().max() > 0
    torch.testing.assert_close(agent.actor.state[0], first[0])
    assert not torch.allclose(agent.actor.state[1], first[1])


def test_undisturbed_restores_the_random_generator():
    agent = A2C("CartPole-v1", seed=0)
    before = agent.generator.bit_generator.state
    with agent.actor.undisturbed():
        agent.predict(np.zeros((5, 4)))
        assert agent.generator.bit_generator.state != before
    assert agent.generator.bit_generator.state == before


def test_load_state_dict_with_another_num_envs_keeps_the_initial_state():
    policy = PolicyConfig(recurrent="gru", recurrent_size=3)
    three, two = (Reinforce(gym.make_vec("CartPole-v1", n), policy=policy, seed=n).actor for n in (3, 2))
    three.state += 1.0
    two.load_state_dict(three.state_dict())
    assert two.state.shape == (2, 3)
    assert not two.state.any()
    assert two.generator.random() == three.generator.random()
