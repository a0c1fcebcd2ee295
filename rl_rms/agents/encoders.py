"""Encoders, which convert observations to features for a policy's networks."""

import copy
import math
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_rms.agents.class_paths import make_module
from rl_rms.agents.config_parts import CONVOLUTIONS, ENCODERS, PolicyConfig
from rl_rms.agents.convolutions import ConvolutionalEncoder, automatic_network
from rl_rms.agents.spaces import ACTION_MASK, image_scale, is_image, sorted_items, unsupported_space
from rl_rms.agents.trees import tree_map

Encoder: TypeAlias = "Flatten | OneHot | ConvolutionalEncoder | Together | UserEncoder"


def make_encoder(space: gym.Space[Any], config: PolicyConfig) -> Encoder:
    """The encoder of an observation space.

    Args:
        space: Box or MultiBinary (flattened), images (convolutions; flattened with ``mlp``, and with ``auto``
            below 3 pixels), Discrete or MultiDiscrete (one-hot), or a Dict or Tuple of these spaces (one encoder
            for each part, with concatenated features). A Dict's ``action_mask`` is not encoded. A user's encoder
            may support any space.
        config: The configuration with the encoder, see `rl_rms.agents.config_parts.PolicyConfig`.

    Raises:
        ValueError: If the space is not supported, or the encoder does not support the space.
    """
    if config.encoder not in ENCODERS:
        return UserEncoder(make_module("policy.encoder", config.encoder, observation_space=space), space)
    encoder = _encoder_of(space, config, "observation_space")
    has_images = any(isinstance(module, ConvolutionalEncoder) for module in encoder.modules())
    if config.encoder in CONVOLUTIONS and not has_images:
        raise ValueError(
            f"encoder {config.encoder!r} needs images: a Box of 3 axes, of 4 axes for stacked frames, or of 2 "
            f"axes for grayscale uint8, got {space}; set encoder to auto or mlp"
        )
    return encoder


def _encoder_of(space: gym.Space[Any], config: PolicyConfig, name: str) -> Encoder:
    if isinstance(space, spaces.Dict):
        parts = {key: part for key, part in sorted_items(space) if key != ACTION_MASK}
        return Together({key: _encoder_of(part, config, f"{name}[{key!r}]") for key, part in parts.items()})
    if isinstance(space, spaces.Tuple):
        return Together({str(i): _encoder_of(part, config, f"{name}[{i}]") for i, part in enumerate(space)})
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return OneHot(space)
    if not isinstance(space, (spaces.Box, spaces.MultiBinary)):
        raise unsupported_space(space, name)
    network = "mlp"
    if isinstance(space, spaces.Box):
        if config.encoder in CONVOLUTIONS and (is_image(space) or len(space.shape) in {3, 4}):
            network = config.encoder
        elif config.encoder == "auto" and is_image(space):
            network = automatic_network(space)
        if network != "mlp":
            features, is_orthogonal = config.image_features, config.orthogonal_init
            return ConvolutionalEncoder(space, network, features, orthogonal_init=is_orthogonal)
    return Flatten(space)


class Flatten(nn.Module):
    """Flattens observations, converts them to float32, and divides uint8 images by 255."""

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        assert space.shape is not None
        self.num_features = math.prod(space.shape)
        self.scale = image_scale(space)

    def forward(self, observations: Tensor) -> Tensor:
        """Map observations, shape ``(batch, *observation)``, to features, shape ``(batch, num_features)``."""
        return observations.float().reshape(len(observations), self.num_features) / self.scale


class OneHot(nn.Module):
    """One-hot features of each component, concatenated."""

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
        super().__init__()
        if isinstance(space, spaces.Discrete):
            self._sizes, starts = [int(space.n)], [int(space.start)]
        else:
            self._sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
        self.num_features = sum(self._sizes)
        # Index of each component's first feature, minus the component's smallest value.
        begins = [sum(self._sizes[:i]) - start for i, start in enumerate(starts)]
        self.register_buffer("_shift", torch.tensor(begins), persistent=False)

    def forward(self, observations: Tensor) -> Tensor:
        """Map observations, shape ``(batch, *observation)``, to features, shape ``(batch, num_features)``."""
        columns = observations.long().reshape(len(observations), -1) + self.get_buffer("_shift")
        return torch.zeros(len(columns), self.num_features, device=columns.device).scatter_(1, columns, 1.0)


class Together(nn.Module):
    """The concatenated features of the encoders of a Dict or Tuple space."""

    def __init__(self, parts: dict[str, Any]) -> None:
        super().__init__()
        if not parts:
            raise ValueError(
                f"a Dict observation needs an entry besides {ACTION_MASK!r}, got no other; add one to the "
                "observation space"
            )
        # The modules are in a list, because ModuleDict does not accept every key.
        self._keys = list(parts)
        self._parts = nn.ModuleList(parts.values())
        self.num_features: int = sum(part.num_features for part in parts.values())

    def forward(self, observations: Any) -> Tensor:
        """Map a dictionary or tuple of batches of observations to features, shape ``(batch, num_features)``."""
        if isinstance(observations, tuple):
            observations = {str(i): part for i, part in enumerate(observations)}
        features = [part(observations[key]) for key, part in zip(self._keys, self._parts, strict=True)]
        return torch.cat(features, dim=-1)


class UserEncoder(nn.Module):
    """A user's encoder.

    Args:
        module: Maps observations of shape ``(batch, *observation)``, or a dictionary or tuple of such arrays, to
            features of shape ``(batch, num_features)``.
        space: The observation space. The module's result for a sample of this space gives the number of features.

    Raises:
        ValueError: If the features have a wrong shape.
    """

    def __init__(self, module: nn.Module, space: gym.Space[Any]) -> None:
        super().__init__()
        self.module = module
        device = next((param.device for param in module.parameters()), None)
        sampled = copy.deepcopy(space)
        sampled.seed(0)
        rows = tree_map(lambda leaf: torch.as_tensor(leaf, device=device).expand(2, *leaf.shape), sampled.sample())
        was_training = module.training
        module.eval()
        with torch.no_grad():
            features = self(rows)
        module.train(was_training)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 2:
            got = tuple(features.shape) if isinstance(features, Tensor) else repr(features)
            raise ValueError(
                f"encoder {type(module).__name__} must map a batch of observations to features of shape (batch, "
                f"num_features), got {got} for a batch of 2; end it with .flatten(1)"
            )
        self.num_features: int = features.shape[1]

    def forward(self, observations: Any) -> Tensor:
        """Map observations, shape ``(batch, *observation)``, to features, shape ``(batch, num_features)``."""
        features: Tensor = self.module(observations)
        return features
