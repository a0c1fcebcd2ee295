"""Action distributions, sampled with a numpy generator that is saved with the agent."""

import math
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from rl_rms.agents.transfers import to_device
from rl_rms.agents.workers import RandomSource

_LOG_SQRT_2_PI = 0.5 * math.log(2.0 * math.pi)
# Unnormalized log-probability of an invalid action, whose probability rounds to 0. With -inf, gradients would not
# be finite.
_INVALID = -1e8
# Added to random numbers, so that their logarithms are finite.
TINY = np.float32(1e-37)
# Gauss-Hermite quadrature over a standard normal, for expectations of the log-derivative of tanh.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
_QUADRATURE = np.stack((_NODES, _WEIGHTS / _WEIGHTS.sum()))

Self = TypeVar("Self")


class Distribution(Protocol):
    """A batch of action distributions, one per row."""

    def sample(self, generator: RandomSource) -> Tensor:
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

    def masked(self: Self, mask: Tensor) -> Self:
        """The distribution over the valid actions only.

        Args:
            mask: True where an action is valid, shape ``(batch, entries)``; see
                `rl_rms.agents.spaces.action_mask_size`.
        """
        ...


class Categorical:
    """Choice among ``n`` discrete actions, from unnormalized log-probabilities of shape ``(batch, n)``."""

    def __init__(self, logits: Tensor) -> None:
        self.log_probs = torch.log_softmax(logits, dim=-1)

    def sample(self, generator: RandomSource) -> Tensor:
        """Draw one action per row, shape ``(batch,)``, int64.

        If the E_i are standard exponential, ``E_i / p_i`` is smallest for action i with probability p_i.
        """
        noise = generator.standard_exponential(tuple(self.log_probs.shape), dtype=np.float32)
        log_noise = to_device(noise, self.log_probs.device).add_(float(TINY)).log_()
        return (self.log_probs - log_noise).argmax(dim=-1)

    def mode(self) -> Tensor:
        """The most likely action of each row, shape ``(batch,)``, int64."""
        return self.log_probs.argmax(dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of ``actions`` of shape ``(batch,)``."""
        return self.log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """``-sum p log p``, shape ``(batch,)``."""
        return -(self.log_probs.exp() * self.log_probs).sum(dim=-1)

    def masked(self, mask: Tensor) -> "Categorical":
        """The distribution over the valid actions, for which ``mask``, shape ``(batch, n)``, is True."""
        return Categorical(self.log_probs.masked_fill(~mask, _INVALID))


class MultiCategorical:
    """Independent categoricals, one per component of a MultiDiscrete action.

    Args:
        logits: Concatenated unnormalized log-probabilities of the components, ``(batch, sum of nvec)``.
        nvec: Number of actions of each component, in the shape of the action.
    """

    def __init__(self, logits: Tensor, nvec: np.ndarray) -> None:
        self._nvec = nvec
        self._logits = logits
        self._parts = [Categorical(part) for part in torch.split(logits, nvec.ravel().tolist(), dim=-1)]

    def _together(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts, dim=-1).reshape(-1, *self._nvec.shape)

    def sample(self, generator: RandomSource) -> Tensor:
        """Draw one action per row, shape ``(batch, *action)``, int64."""
        return self._together([part.sample(generator) for part in self._parts])

    def mode(self) -> Tensor:
        """The most likely action of each row, shape ``(batch, *action)``, int64."""
        return self._together([part.mode() for part in self._parts])

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of ``actions`` of shape ``(batch, *action)``, summed over the components."""
        components = actions.reshape(len(actions), -1).unbind(-1)
        return torch.stack(
            [part.log_prob(action) for part, action in zip(self._parts, components, strict=True)]
        ).sum(0)

    def entropy(self) -> Tensor:
        """Entropy summed over the components, shape ``(batch,)``."""
        return torch.stack([part.entropy() for part in self._parts]).sum(0)

    def masked(self, mask: Tensor) -> "MultiCategorical":
        """The distribution over the valid actions of each component, for which ``mask`` is True."""
        return MultiCategorical(self._logits.masked_fill(~mask, _INVALID), self._nvec)


class Bernoulli:
    """Independent bits of a MultiBinary action.

    Args:
        logits: Log-odds of a 1, shape ``(batch, *action)``.
    """

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    def sample(self, generator: RandomSource) -> Tensor:
        """Draw one action per row, shape ``(batch, *action)``, float."""
        drawn = generator.random(tuple(self._logits.shape), dtype=np.float32)
        return (to_device(drawn, self._logits.device) < torch.sigmoid(self._logits)).float()

    def mode(self) -> Tensor:
        """The most likely bits, shape ``(batch, *action)``, float."""
        return (self._logits > 0).float()

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability of ``actions`` of shape ``(batch, *action)``, summed over the bits."""
        return -_sum_components(functional.softplus((1.0 - 2.0 * actions) * self._logits))

    def entropy(self) -> Tensor:
        """Entropy summed over the bits, shape ``(batch,)``."""
        entropy = functional.softplus(self._logits) - self._logits * torch.sigmoid(self._logits)
        return _sum_components(entropy)

    def masked(self, mask: Tensor) -> "Bernoulli":
        """The distribution over the allowed bits.

        Args:
            mask: Two entries per bit: whether the bit may be 0, and whether the bit may be 1.
        """
        may_be = mask.reshape(*self._logits.shape, 2)
        logits = self._logits.masked_fill(~may_be[..., 1], _INVALID)
        return Bernoulli(logits.masked_fill(~may_be[..., 0], -_INVALID))


class DiagonalGaussian:
    """Independent normals, with a mean of shape ``(batch, *action)``.

    The logarithm of the standard deviation is broadcast to the mean's shape.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean = mean
        self.log_std = log_std.expand_as(mean)

    def sample(self, generator: RandomSource) -> Tensor:
        """Draw one action per row, shape ``(batch, *action)``."""
        noise = generator.standard_normal(tuple(self.mean.shape), dtype=np.float32)
        return self.mean + self.log_std.exp() * to_device(noise, self.mean.device)

    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density of ``actions`` of shape ``(batch, *action)``, summed over the action's components."""
        z = (actions - self.mean) * torch.exp(-self.log_std)
        return _sum_components(-0.5 * z * z - self.log_std - _LOG_SQRT_2_PI)

    def entropy(self) -> Tensor:
        """``sum (log std + log sqrt(2 pi e))``, shape ``(batch,)``."""
        return _sum_components(self.log_std + _LOG_SQRT_2_PI + 0.5)

    def masked(self, mask: Tensor) -> "DiagonalGaussian":
        """Not defined. `rl_rms.agents.spaces.action_mask_size` raises an error for masks of a Box."""
        raise NotImplementedError


class SquashedGaussian(DiagonalGaussian):
    """Independent normals u whose tanh is the action in (-1, 1).

    `sample` returns u, `mode` returns the mean of u, and `log_prob` takes u, because the inverse of tanh is
    inexact near the bounds. Log-densities and entropy refer to ``tanh(u)``.
    """

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density of ``tanh(actions)``, ``actions`` of shape ``(batch, *action)``."""
        return super().log_prob(actions) - _sum_components(_log_slope(actions))

    def entropy(self) -> Tensor:
        """``H(u) + E[log tanh'(u)]``, shape ``(batch,)``, with the expectation by quadrature with 16 nodes."""
        nodes, weights = to_device(_QUADRATURE, self.mean.device).to(self.mean.dtype)
        spread = self.mean.unsqueeze(-1) + self.log_std.exp().unsqueeze(-1) * nodes
        return super().entropy() + _sum_components((_log_slope(spread) * weights).sum(-1))


class TorchDistribution:
    """A distribution of ``torch.distributions``; the components of an action are independent.

    Args:
        distribution: One distribution per row, with batch shape ``(batch,)`` or ``(batch, *action)``.
    """

    def __init__(self, distribution: torch.distributions.Distribution) -> None:
        self._distribution = distribution

    def sample(self, generator: RandomSource) -> Tensor:
        """Draw one action per row. The agent's generator seeds torch's generators."""
        # The generator draws this worker's rows of the batch of all workers, so the seed differs between workers.
        seed = int(generator.random((self._distribution.batch_shape[0],))[0] * 2**53)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            return self._distribution.sample()

    def mode(self) -> Tensor:
        """The most likely action of each row; the mean if the distribution does not implement ``mode``."""
        try:
            return self._distribution.mode
        except NotImplementedError:
            return self._distribution.mean

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability (density) of one action per row, summed over the components, shape ``(batch,)``."""
        return _sum_components(self._distribution.log_prob(actions))

    def entropy(self) -> Tensor:
        """Entropy summed over the components, shape ``(batch,)``.

        Raises:
            ValueError: If the distribution has no entropy.
        """
        try:
            return _sum_components(self._distribution.entropy())
        except NotImplementedError as error:
            raise ValueError(
                f"actor must return a distribution with entropy, got {type(self._distribution).__name__}; "
                "return another, such as rl_rms.agents.distributions.SquashedGaussian for bounded actions"
            ) from error

    def masked(self, mask: Tensor) -> "TorchDistribution":
        """Not defined.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"mask_actions needs categorical actions, got {type(self._distribution).__name__} from actor; return "
            "torch.distributions.Categorical, or a distribution with a method masked"
        )


def as_distribution(given: Any) -> Distribution:
    """Convert an actor's result to a distribution of this module.

    Args:
        given: A distribution of this module, an object with its methods, or a distribution of
            ``torch.distributions``. ``Categorical``, ``Normal`` and ``Bernoulli`` become the distributions of this
            module, which draw the same actions with any number of workers. The converted ``Categorical`` and
            ``Bernoulli`` support masks.

    Raises:
        ValueError: If the result lacks ``sample``, ``log_prob`` or ``entropy``.
    """
    while isinstance(given, torch.distributions.Independent):
        given = given.base_dist  # every distribution here sums over the components
    if type(given) is torch.distributions.Categorical:
        _, *components, num_actions = given.logits.shape
        if not components:
            return Categorical(given.logits)
        return MultiCategorical(given.logits.flatten(1), np.full(components, num_actions))
    if type(given) is torch.distributions.Normal:
        return DiagonalGaussian(given.mean, given.stddev.log())
    if type(given) is torch.distributions.Bernoulli:
        return Bernoulli(given.logits)
    if isinstance(given, torch.distributions.Distribution):
        return TorchDistribution(given)
    missing = [name for name in ("sample", "log_prob", "entropy") if not hasattr(given, name)]
    if missing:
        raise ValueError(
            "actor must return a distribution of torch.distributions or rl_rms.agents.distributions, got "
            f"{type(given).__name__}, which has no {missing[0]}; wrap logits in torch.distributions.Categorical"
        )
    distribution: Distribution = given
    return distribution


def _sum_components(values: Tensor) -> Tensor:
    """Sum over the action's components, from shape ``(batch, *action)`` to ``(batch,)``."""
    return values if values.ndim == 1 else values.flatten(1).sum(-1)


def _log_slope(u: Tensor) -> Tensor:
    """``log(1 - tanh(u)**2)``, finite even if tanh(u) rounds to 1."""
    return 2.0 * (math.log(2.0) - u - functional.softplus(-2.0 * u))
