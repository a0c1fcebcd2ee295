"""Convolutional networks for images: the Nature CNN, a small CNN, and IMPALA's residual network."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_rms.agents.initialization import orthogonal
from rl_rms.agents.spaces import image_layout, image_scale


class Residual(nn.Module):
    """A residual block ``x + conv(relu(conv(relu(x))))``, with convolutions of size 3 that keep the shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolutions = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.branch = nn.Sequential(*(layer for conv in convolutions for layer in (nn.ReLU(), conv)))

    def forward(self, images: Tensor) -> Tensor:
        """Map images of shape ``(batch, channels, height, width)`` to features of the same shape."""
        changes: Tensor = self.branch(images)
        return images + changes


def _nature(channels: int) -> list[nn.Module]:
    layers = ((channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1))
    return [part for layer in layers for part in (nn.Conv2d(*layer), nn.ReLU())]


def _small(channels: int) -> list[nn.Module]:
    layers = ((channels, 16, 3, 1, 1), (16, 32, 3, 2, 1), (32, 64, 3, 2, 1))
    return [part for layer in layers for part in (nn.Conv2d(*layer), nn.ReLU())]


def _impala(channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise((channels, 16, 32, 32)):
        layers += [nn.Conv2d(fan_in, fan_out, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
        layers += [Residual(fan_out), Residual(fan_out)]
    return [*layers, nn.ReLU()]


class _Body(NamedTuple):
    """The convolutions of a network.

    Attributes:
        make: Function from the number of input channels to the layers.
        least_side: Minimum height and width of the images.
        gain: Scale of orthogonal weights. With a gain of 1, the sums of residual blocks stay small.
    """

    make: Callable[[int], list[nn.Module]]
    least_side: int
    gain: float


_BODIES = {
    "nature_cnn": _Body(_nature, 36, math.sqrt(2.0)),
    "small_cnn": _Body(_small, 3, math.sqrt(2.0)),
    "impala": _Body(_impala, 3, 1.0),
}


def automatic_network(space: spaces.Box) -> str:
    """The network for images: ``mlp`` for a side below 3 pixels, ``small_cnn`` below 36, else ``nature_cnn``."""
    _, (_, *sides) = image_layout(space.shape)
    return next((name for name in ("nature_cnn", "small_cnn") if min(sides) >= _BODIES[name].least_side), "mlp")


class ConvolutionalEncoder(nn.Module):
    """An image encoder: convolutions and a linear layer, with ReLU.

    Images of uint8 are scaled to [0, 1]. The channels may be the last axis (most environments), the first axis
    (`gymnasium.wrappers.FrameStackObservation`), or missing. In square images, the channels are the axis with a
    different length. In other images, the channels are the shorter of the first and the last axis. Stacked color
    images have four axes; the first axis holds the frames, which become channels.

    Args:
        space: An image space, see `rl_rms.agents.spaces.is_image`, or another Box of 3 or 4 axes.
        network: ``nature_cnn``, ``small_cnn`` or ``impala``.
        num_features: Units of the linear layer.
        orthogonal_init: Whether weights are initially orthogonal; otherwise torch's default.

    Raises:
        ValueError: If the images are too small for the network.

    Sources: Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015; Espeholt et
    al., "IMPALA: scalable distributed deep-RL with importance weighted actor-learner architectures", 2018.
    """

    def __init__(
        self, space: spaces.Box, network: str, num_features: int, *, orthogonal_init: bool = True
    ) -> None:
        super().__init__()
        self._channels_last, self._shape = image_layout(space.shape)
        self._scale = image_scale(space)
        channels, *sides = self._shape
        body = _BODIES[network]
        if min(sides) < body.least_side:
            raise ValueError(
                f"encoder {network!r} needs images of at least {body.least_side} by {body.least_side}, got "
                f"{space}; set encoder to auto, or enlarge them with gymnasium.wrappers.ResizeObservation"
            )
        convolutions = nn.Sequential(*body.make(channels), nn.Flatten())
        with torch.no_grad():
            num_flat = convolutions(torch.zeros(1, *self._shape)).shape[1]
        linear = nn.Linear(num_flat, num_features)
        if orthogonal_init:
            for layer in convolutions.modules():
                if isinstance(layer, nn.Conv2d):
                    orthogonal(layer, body.gain)
            orthogonal(linear, math.sqrt(2.0))
        self.network = nn.Sequential(*convolutions, linear, nn.ReLU())
        self.num_features = num_features

    def forward(self, observations: Tensor) -> Tensor:
        """Map observations, shape ``(batch, *observation)``, to features, shape ``(batch, num_features)``."""
        images = observations.movedim(-1, -3) if self._channels_last else observations
        features: Tensor = self.network(images.reshape(len(images), *self._shape).float() / self._scale)
        return features
