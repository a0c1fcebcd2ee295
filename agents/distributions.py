"""Action distributions whose samples come from a generator that can be saved, which torch's own do not take."""

import math
from typing import Protocol

import torch
from torch import Tensor

_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)


class Distribution(Protocol):
    """A batch of action distributions, one per row."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw one action per row."""
        ...

    def mode(self) -> Tensor:
        """The most likely action of each row."""
        ...

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability (density) of one action per row, shape ``(batch,)``."""
        ...

    def entropy(self) -> Tensor:
        """Entropy in nats, shape ``(batch,)``."""
        ...


class Categorical:
    """Choice among ``n`` discrete actions, from unnormalized log-probabilities of shape ``(batch, n)``."""

    def __init__(self, logits: Tensor) -> None:
        self.log_probs = torch.log_softmax(logits, dim=-1)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw one action per row, shape ``(batch,)``, int64."""
        return torch.multinomial(self.log_probs.exp(), 1, generator=generator).squeeze(-1)

    def mode(self) -> Tensor:
        """The most likely action of each row, shape ``(batch,)``, int64."""
        return self.log_probs.argmax(dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of ``actions`` of shape ``(batch,)``."""
        return self.log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """``-sum p log p``, shape ``(batch,)``."""
        return -(self.log_probs.exp() * self.log_probs).sum(dim=-1)


class DiagonalGaussian:
    """Independent normals: mean of shape ``(batch, *action)``, log standard deviation ``(*action)``."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std.expand_as(mean)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw one action per row, shape ``(batch, *action)``."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density of ``actions`` of shape ``(batch, *action)``, summed over the action's components."""
        z = (actions - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * z * z - self.log_std - _LOG_SQRT_2_PI).flatten(1).sum(dim=-1)

    def entropy(self) -> Tensor:
        """``sum (log std + log sqrt(2 pi e))``, shape ``(batch,)``."""
        return (self.log_std + _LOG_SQRT_2_PI + 0.5).flatten(1).sum(dim=-1)
