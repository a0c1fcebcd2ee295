"""Policy networks: from a batch of observations to a distribution over actions and a value."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from rl_rms.agents.config import PolicyConfig
from rl_rms.agents.distributions import Categorical, DiagonalGaussian, Distribution

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}


class MlpPolicy(nn.Module):
    """Separate multilayer perceptrons for actor and critic, orthogonally initialized.

    The architecture and initialization are those of Stable-Baselines3's ``MlpPolicy`` (hidden gain sqrt 2, actor
    head 0.01, critic head 1), so that results can be compared. Any module with the same `actor`, `critic` and
    `forward` can stand in its place.

    Args:
        observation_space: Box (flattened) or Discrete (one-hot).
        action_space: Discrete (categorical) or Box (diagonal Gaussian).
        config: Sizes, activation and initial standard deviation.

    Raises:
        ValueError: If a space is of another kind.
    """

    def __init__(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], config: PolicyConfig | None = None
    ) -> None:
        super().__init__()
        config = config or PolicyConfig()
        if isinstance(observation_space, gym.spaces.Box):
            num_features = math.prod(observation_space.shape)
            self._one_hot = None
        elif isinstance(observation_space, gym.spaces.Discrete):
            num_features = int(observation_space.n)
            self._one_hot = (int(observation_space.start), num_features)
        else:
            raise ValueError(
                f"observations must be Box or Discrete, got {observation_space}; flatten them with "
                "gymnasium.wrappers.FlattenObservation"
            )
        activation = _ACTIVATIONS[config.activation]
        if isinstance(action_space, gym.spaces.Discrete):
            self._action_shape: tuple[int, ...] | None = None
            num_outputs = int(action_space.n)
            self.log_std = None
        elif isinstance(action_space, gym.spaces.Box):
            self._action_shape = action_space.shape
            num_outputs = math.prod(action_space.shape)
            self.log_std = nn.Parameter(torch.full(action_space.shape, config.log_std_init))
        else:
            raise ValueError(f"actions must be Discrete or Box, got {action_space}")
        self.actor_network = _mlp(num_features, config.hidden_sizes, num_outputs, activation, head_gain=0.01)
        self.critic_network = _mlp(num_features, config.hidden_sizes, 1, activation, head_gain=1.0)

    def actor(self, observations: Tensor) -> Distribution:
        """Distribution over actions for observations of shape ``(batch, *observation)``."""
        return self._distribution(self.actor_network(self._features(observations)))

    def critic(self, observations: Tensor) -> Tensor:
        """State values, shape ``(batch,)``, for observations of shape ``(batch, *observation)``."""
        values: Tensor = self.critic_network(self._features(observations))
        return values.squeeze(-1)

    def forward(self, observations: Tensor) -> tuple[Distribution, Tensor]:
        """Distribution over actions and values, for observations of shape ``(batch, *observation)``."""
        return self.actor(observations), self.critic(observations)

    def _features(self, observations: Tensor) -> Tensor:
        if self._one_hot is not None:
            start, n = self._one_hot
            return nn.functional.one_hot(observations.long() - start, n).float()
        return observations.float().flatten(1)

    def _distribution(self, outputs: Tensor) -> Distribution:
        if self.log_std is None:
            return Categorical(outputs)
        return DiagonalGaussian(outputs.view(len(outputs), *(self._action_shape or ())), self.log_std)


def _mlp(
    num_inputs: int,
    hidden_sizes: Sequence[int],
    num_outputs: int,
    activation: type[nn.Module],
    head_gain: float,
) -> nn.Sequential:
    """Linear layers with ``activation`` between them, weights orthogonal, biases zero."""
    sizes = [num_inputs, *hidden_sizes]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [_linear(fan_in, fan_out, math.sqrt(2.0)), activation()]
    return nn.Sequential(*layers, _linear(sizes[-1], num_outputs, head_gain))


def _linear(fan_in: int, fan_out: int, gain: float) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
