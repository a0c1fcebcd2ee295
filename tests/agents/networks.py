"""Networks outside rl_rms, which configurations name by import path."""

import torch
from torch import nn

from rl_rms.agents import ActorCriticPolicy


class Encoder(nn.Module):
    def __init__(self, observation_space):
        super().__init__()
        self.layer = nn.Linear(observation_space.shape[0], 4)

    def forward(self, observations):
        return torch.tanh(self.layer(observations))


class Unflattened(Encoder):
    def forward(self, observations):
        return observations.unsqueeze(1)


class Policy(nn.Module):
    def __init__(self, observation_space, action_space, config):
        super().__init__()
        self.actor_layer = nn.Linear(observation_space.shape[0], int(action_space.n))
        self.critic_layer = nn.Linear(observation_space.shape[0], 1)

    def actor(self, observations):
        return torch.distributions.Categorical(logits=self.actor_layer(observations))

    def critic(self, observations):
        return self.critic_layer(observations).squeeze(-1)


class BetaPolicy(nn.Module):
    """A policy with Beta distributions of actions from 0 to 1."""

    def __init__(self, observation_space, action_space, config):
        super().__init__()
        self.actor_layer = nn.Linear(observation_space.shape[0], 2)
        self.critic_layer = nn.Linear(observation_space.shape[0], 1)

    def actor(self, observations):
        one, two = (1 + nn.functional.softplus(self.actor_layer(observations))).split(1, dim=-1)
        return torch.distributions.Beta(one, two)

    def critic(self, observations):
        return self.critic_layer(observations).squeeze(-1)


class Derived(ActorCriticPolicy):
    """A subclass of ActorCriticPolicy that changes nothing."""


class Narrow(nn.Module):
    """A class whose constructor does not have the arguments of a policy."""

    def __init__(self, size):
        super().__init__()
