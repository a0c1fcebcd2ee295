"""Features of observations of each space."""

import gymnasium as gym
import torch

from rl_rms.agents import ActorCriticPolicy


def test_policy_distinguishes_discrete_observations():
    policy = ActorCriticPolicy(gym.spaces.Discrete(3, start=1), gym.spaces.Discrete(2))
    assert len(set(policy(torch.tensor([1, 2, 3]))[1].tolist())) == 3
