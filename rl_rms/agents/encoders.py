"""Encoders, which turn observations of any space into the features of a policy's networks."""

import math
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_rms.agents.spaces import ACTION_MASK, is_image, sorted_items


def make_encoder(space: gym.Space[Any], image_features: int) -> "Flatten | OneHot | NatureCNN | Together":
    """The encoder of an observation space.

    Args:
        space: Box or MultiBinary (flattened), an image (Nature CNN), Discrete or MultiDiscrete (one-hot), or a
            Dict or Tuple of them (concatenated). A Dict's ``action_mask`` is left out.
        image_features: Number of features of each image.

    Raises:
        ValueError: If the space is none of these.
    """
    if isinstance(space, spaces.Dict):
        parts = {key: part for key, part in sorted_items(space) if key != ACTION_MASK}
        return Together({key: make_encoder(part, image_features) for key, part in parts.items()})
    if isinstance(space, spaces.Tuple):
        return Together({str(i): make_encoder(part, image_features) for i, part in enumerate(space)})
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return OneHot(space)
    if is_image(space):
        return NatureCNN(space, image_features)
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        return Flatten(space)
    raise ValueError(
        f"observations must be Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of them, got {space}"
        "; convert them with a wrapper such as gymnasium.wrappers.FlattenObservation"
    )


class Flatten(nn.Module):
    """The observation, flattened, as float32."""

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        assert space.shape is not None
        self.num_features = math.prod(space.shape)

    def forward(self, observations: Tensor) -> Tensor:
        """Shape ``(batch, num_features)`` from ``(batch, *observation)``."""
        return observations.float().reshape(len(observations), self.num_features)


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
        """Shape ``(batch, num_features)`` from ``(batch, *observation)``."""
        columns = observations.long().reshape(len(observations), -1) + self.get_buffer("_shift")
        return torch.zeros(len(columns), self.num_features, device=columns.device).scatter_(1, columns, 1.0)


class NatureCNN(nn.Module):
    """Three convolutions and a linear layer, all with ReLU, for images scaled to [0, 1].

    Images may have their channels last, as in most environments, or first, as from
    `gymnasium.wrappers.FrameStackObservation`. The first axis holds the channels if it is the shortest. Stacked
    color frames of shape ``(frames, height, width, color)`` become channels too.

    Args:
        space: An image space, see `rl_rms.agents.spaces.is_image`.
        num_features: Units of the linear layer.

    Raises:
        ValueError: If images are smaller than 36 by 36, the least size for the convolutions.

    Source: Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015.
    """

    def __init__(self, space: gym.Space[Any], num_features: int) -> None:
        super().__init__()
        shape = space.shape
        assert shape is not None
        self._stacked = len(shape) == 4
        self._channels_first = not self._stacked and shape[0] == min(shape)
        channels, height, width = self._channels_of(shape)
        if min(height, width) < 36:
            raise ValueError(
                f"the Nature CNN needs images of at least 36 by 36, got {space}; enlarge them with "
                "gymnasium.wrappers.ResizeObservation, or flatten them with FlattenObservation"
            )
        layers: list[nn.Module] = []
        for fan_in, fan_out, size, stride in ((channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1)):
            layers += [orthogonal(nn.Conv2d(fan_in, fan_out, size, stride), math.sqrt(2.0)), nn.ReLU()]
        convolutions = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            flat = convolutions(torch.zeros(1, channels, height, width)).shape[1]
        linear = orthogonal(nn.Linear(flat, num_features), math.sqrt(2.0))
        self.network = nn.Sequential(*convolutions, linear, nn.ReLU())
        self.num_features = num_features

    def _channels_of(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        if self._stacked:
            return shape[0] * shape[3], shape[1], shape[2]
        return shape if self._channels_first else (shape[2], shape[0], shape[1])  # type: ignore[return-value]

    def forward(self, observations: Tensor) -> Tensor:
        """Shape ``(batch, num_features)`` from ``(batch, *observation)``."""
        if self._stacked:
            observations = observations.permute(0, 1, 4, 2, 3).flatten(1, 2)
        elif not self._channels_first:
            observations = observations.permute(0, 3, 1, 2)
        features: Tensor = self.network(observations.float() / 255.0)
        return features


class Together(nn.Module):
    """The concatenated features of the encoders of a Dict or Tuple space."""

    def __init__(self, parts: dict[str, Any]) -> None:
        super().__init__()
        if not parts:
            raise ValueError(
                f"a Dict observation needs an entry besides {ACTION_MASK!r}, got no other; add one to the "
                "observation space"
            )
        # A list, because ModuleDict does not accept every key.
        self._keys = list(parts)
        self._parts = nn.ModuleList(parts.values())
        self.num_features: int = sum(part.num_features for part in parts.values())

    def forward(self, observations: Any) -> Tensor:
        """Shape ``(batch, num_features)`` from a dictionary or tuple of ``(batch, *part)``."""
        if isinstance(observations, tuple):
            observations = {str(i): part for i, part in enumerate(observations)}
        features = [part(observations[key]) for key, part in zip(self._keys, self._parts, strict=True)]
        return torch.cat(features, dim=-1)


def orthogonal(layer: Any, gain: float) -> Any:
    """A layer with orthogonal weights, scaled by ``gain``, and biases of zero."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
