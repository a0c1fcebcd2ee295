"""Policy networks, which map a batch of observations to action distributions and values."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_rms.agents.class_paths import make_module
from rl_rms.agents.config_parts import PolicyConfig
from rl_rms.agents.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Distribution,
    MultiCategorical,
    SquashedGaussian,
)
from rl_rms.agents.encoders import UserEncoder, make_encoder
from rl_rms.agents.initialization import orthogonal

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}
_NORMS: dict[str, type[nn.Module]] = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
_CELLS: dict[str, type[nn.GRUCell] | type[nn.LSTMCell]] = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}


class ActorCriticPolicy(nn.Module):
    """An actor and a critic that share an encoder of observations and, optionally, a recurrent cell.

    ``encode`` converts observations to features; with ``shared_trunk``, through hidden layers that actor and
    critic share. ``remember`` passes the features through the recurrent cell, if there is one. ``actor`` and
    ``critic`` are separate multilayer perceptrons, or single layers with ``shared_trunk``. With the default
    configuration and without images, the architecture and the initialization equal Stable-Baselines3's
    ``MlpPolicy``, with orthogonal gains of sqrt 2 (hidden layers), 0.01 (actor) and 1 (critic).

    Any module with ``actor(observations)`` and ``critic(observations)`` can replace this class. ``actor`` and
    ``critic`` get the encoded observations if the module has ``encode``. ``actor`` returns a distribution of
    `rl_rms.agents.distributions` or of ``torch.distributions``.

    Args:
        observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these spaces.
        action_space: Discrete, MultiDiscrete, MultiBinary or Box (diagonal Gaussian).
        config: The architecture.
        encoder: A module that maps observations of shape ``(batch, *observation)`` to features of shape ``(batch,
            num_features)``; None for the configuration's encoder.

    Attributes:
        state_size: Size of the recurrent state of one sub-environment; 0 without a cell.

    Raises:
        ValueError: If a space is not supported, or ``squash_actions`` is set and actions have no bounds.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        config: PolicyConfig | None = None,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        config = config or PolicyConfig()
        if encoder is None:
            self.encoder = make_encoder(observation_space, config)
        else:
            self.encoder = UserEncoder(encoder, observation_space)
        num_features = self.encoder.num_features
        actor_sizes, critic_sizes = config.hidden_sizes, config.critic_hidden_sizes
        if critic_sizes is None:
            critic_sizes = actor_sizes
        hidden_gain = math.sqrt(2.0) if config.orthogonal_init else None
        self.trunk: nn.Sequential | None = None
        if config.shared_trunk:
            self.trunk = nn.Sequential(*_hidden_layers([num_features, *actor_sizes], config, hidden_gain))
            num_features, actor_sizes, critic_sizes = [num_features, *actor_sizes][-1], (), ()
        self.cell: nn.GRUCell | nn.LSTMCell | None = None
        self.state_size = 0
        if config.recurrent != "none":
            self.cell = _cell(config.recurrent, num_features, config.recurrent_size)
            num_features = config.recurrent_size
            self.state_size = (2 if config.recurrent == "lstm" else 1) * num_features
        self.action_space = action_space
        self.squashes = config.squash_actions
        num_outputs = _num_outputs(action_space)
        self.log_std: nn.Parameter | None = None
        if isinstance(action_space, spaces.Box):
            self.log_std = nn.Parameter(torch.full(action_space.shape, float(config.log_std_init)))
        if config.squash_actions and not (isinstance(action_space, spaces.Box) and action_space.is_bounded()):
            raise ValueError(
                f"squash_actions needs Box actions with finite bounds, got {action_space}; leave squash_actions "
                "out"
            )
        gains = (0.01, 1.0) if config.orthogonal_init else (None, None)
        self.actor_network = _mlp([num_features, *actor_sizes], num_outputs, config, gains[0])
        self.critic_network = _mlp([num_features, *critic_sizes], 1, config, gains[1])

    def encode(self, observations: Any) -> Tensor:
        """Features, shape ``(batch, num_features)``, of observations of shape ``(batch, *observation)``."""
        features: Tensor = self.encoder(observations)
        return features if self.trunk is None else self.trunk(features)

    def remember(self, features: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step of the recurrent cell.

        Args:
            features: Features of the current observations, shape ``(batch, num_features)``.
            state: Recurrent state before the step, shape ``(batch, state_size)``; initially zeros.
            start: Whether an episode begins, bool, shape ``(batch,)``. A new episode begins with a state of zeros.

        Returns:
            The inputs of actor and critic, and the recurrent state after the step.
        """
        assert self.cell is not None
        state = state.masked_fill(start.unsqueeze(-1), 0.0)
        if isinstance(self.cell, nn.GRUCell):
            hidden = self.cell(features, state)
            return hidden, hidden
        hidden, carried = self.cell(features, state.chunk(2, dim=-1))
        return hidden, torch.cat((hidden, carried), dim=-1)

    def actor(self, features: Tensor) -> Distribution:
        """Distribution over actions for features of shape ``(batch, num_features)``."""
        outputs: Tensor = self.actor_network(features)
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return Categorical(outputs)
        if isinstance(space, spaces.MultiDiscrete):
            return MultiCategorical(outputs, space.nvec)
        assert space.shape is not None
        outputs = outputs.view(len(outputs), *space.shape)
        if isinstance(space, spaces.MultiBinary):
            return Bernoulli(outputs)
        assert self.log_std is not None
        return (SquashedGaussian if self.squashes else DiagonalGaussian)(outputs, self.log_std)

    def critic(self, features: Tensor) -> Tensor:
        """State values, shape ``(batch,)``, for features of shape ``(batch, num_features)``."""
        values: Tensor = self.critic_network(features)
        return values.squeeze(-1)

    def forward(self, observations: Any) -> tuple[Distribution, Tensor]:
        """The distribution over actions, and the values, for observations of shape ``(batch, *observation)``.

        A recurrent policy treats each observation as the first observation of an episode.
        """
        features = self.encode(observations)
        if self.cell is not None:
            zeros = torch.zeros(len(features), self.state_size, dtype=features.dtype, device=features.device)
            features, _ = self.remember(features, zeros, torch.zeros_like(zeros[:, 0], dtype=torch.bool))
        return self.actor(features), self.critic(features)


def make_policy(
    policy: nn.Module | None,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    config: PolicyConfig,
    *,
    seed: int,
) -> nn.Module:
    """Check a user's policy, or make the configuration's policy on the CPU. The result is in evaluation mode.

    Args:
        policy: A module with ``actor`` and ``critic``; None makes a new policy.
        observation_space: See `ActorCriticPolicy`.
        action_space: See `ActorCriticPolicy`.
        config: The configuration with the architecture, or with the import path of a module.
        seed: Seed of the initial weights of a new policy.

    Raises:
        ValueError: If the module lacks ``actor`` or ``critic``, or a new policy does not support a space.
    """
    if policy is None:
        with _one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if config.module is None:
                policy = ActorCriticPolicy(observation_space, action_space, config)
            else:
                both = {"observation_space": observation_space, "action_space": action_space}
                policy = make_module("policy.module", config.module, **both, config=config)
    missing = [name for name in ("actor", "critic") if not callable(getattr(policy, name, None))]
    if missing:
        raise ValueError(
            f"policy must be a torch module with the methods actor(observations), which gives a distribution, and "
            f"critic(observations), which gives values; {type(policy).__name__} has no {' and no '.join(missing)}"
        )
    return policy.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread, because rounding errors of orthogonal weights depend on the number of threads."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(number)


def _num_outputs(space: gym.Space[Any]) -> int:
    """The number of outputs of an actor's network.

    Raises:
        ValueError: If the action space is not supported.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        return math.prod(space.shape)
    raise ValueError(
        f"actions must be Discrete, MultiDiscrete, MultiBinary or Box, got {space}; convert them with a "
        "wrapper such as gymnasium.wrappers.TransformAction"
    )


def _mlp(sizes: Sequence[int], num_outputs: int, config: PolicyConfig, head_gain: float | None) -> nn.Sequential:
    """Hidden layers and a last linear layer; torch's default initialization if ``head_gain`` is None."""
    layers = _hidden_layers(sizes, config, None if head_gain is None else math.sqrt(2.0))
    head = nn.Linear(sizes[-1], num_outputs)
    return nn.Sequential(*layers, head if head_gain is None else orthogonal(head, head_gain))


def _hidden_layers(sizes: Sequence[int], config: PolicyConfig, gain: float | None) -> list[nn.Module]:
    """Linear layers from each size to the next, each with the configured norm and activation."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out)
        layers.append(linear if gain is None else orthogonal(linear, gain))
        if config.norm != "none":
            layers.append(_NORMS[config.norm](fan_out))
        layers.append(_ACTIVATIONS[config.activation]())
    return layers


def _cell(kind: str, num_inputs: int, size: int) -> nn.GRUCell | nn.LSTMCell:
    """A recurrent cell with orthogonal weights of each gate and zero biases."""
    cell = _CELLS[kind](num_inputs, size)
    for name, parameter in cell.named_parameters():
        if name.startswith("bias"):
            nn.init.zeros_(parameter)
        else:
            for gate in torch.split(parameter.data, size):
                nn.init.orthogonal_(gate)
    return cell
