import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_rms.agents import PolicyConfig, Reinforce
from rl_rms.agents.reinforce import whole_episodes
from rl_rms.envs import make_vec
from tests.agents.returns import RANDOM_RETURN, below


@pytest.mark.parametrize(("baseline", "least"), [(True, 5), (False, 3)])
def test_reinforce_on_cartpole_reaches_the_return(baseline, least):
    env = make_vec("CartPole-v1", num_envs=8)
    agent = Reinforce(env, learning_rate=5e-3, baseline=baseline, seed=1)
    agent.learn(60_000, below((least + 1) * RANDOM_RETURN))
    assert np.mean([episode.ret for episode in agent.episodes]) > least * RANDOM_RETURN


def test_reinforce_uses_the_first_episodes_of_each_sub_environment(counting):
    env = counting([(2, False), (5, False)])
    agent = Reinforce(env, seed=0)
    trainer = agent.make_trainer()
    rollout, _ = trainer.collect()
    used = whole_episodes(rollout, 1)
    assert used[:, 0].tolist() == [True, True, False, False, False]
    assert used[:, 1].tolist() == [True] * 5
    again, _ = trainer.collect()
    assert again.observations[0].tolist() == [[0.0], [0.0]]  # starts with new episodes


class OneStep(gym.Env):
    """Every episode has one step."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action), True, False, {}


def test_learn_batch_normalization_with_a_single_transition_trains():
    agent = Reinforce(OneStep(), episodes_per_env=1, policy=PolicyConfig(norm="batch"), seed=0)
    before = torch.nn.utils.parameters_to_vector(agent.policy.parameters()).clone()
    agent.learn(5)
    after = torch.nn.utils.parameters_to_vector(agent.policy.parameters())
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
