"""A lending environment with two groups of applicants, one of which has noisier features.

The environment knows whether an applicant would repay, but the agent, which is the lender, does not. With equal
opportunity, all groups have the same true positive rate. This rate is the share of loans among the applicants who
would repay.

Source: Hardt, Price and Srebro, "Equality of opportunity in supervised learning" (2016).
"""

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.parameters import register_parameter

Floats = npt.NDArray[np.float64]
Observation = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
# Gauss-Hermite quadrature over a standard normal.
_POINTS, _POINT_WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


class Applicants(NamedTuple):
    """A batch of applicants.

    Attributes:
        observations: Features and one-hot group of each applicant, shape ``(count, num_features + 2)``.
        groups: Group of each applicant, 0 or 1, shape ``(count,)``.
        repays: Whether each applicant would repay, shape ``(count,)``.
    """

    observations: Observation
    groups: npt.NDArray[np.int64]
    repays: Bools


class Lending(gym.Env[Observation, np.int64]):
    """A contextual bandit. Each observation is an applicant; action 1 lends and action 0 does not.

    An applicant has ``num_features`` independent, standard normal traits, and repays with the probability
    ``sigmoid(steepness * importance @ traits)``, in both groups. ``importance`` is proportional to
    ``num_features, ..., 2, 1`` and has the norm 1. The lender observes each trait as a feature. Features 0,
    2, 4, ... have normal noise of standard deviation ``noise_0`` in group 0 and ``noise_1`` in group 1. The other
    features have no noise. If ``noise_0`` and ``noise_1`` differ, the best lending rule usually differs between
    the groups. The reward is ``gain`` for a repaid loan, ``-loss`` for an unpaid loan, and 0 without a loan.

    An episode never ends by itself. An action has no effect on later applicants, so use a discount factor of 0.
    The ``info`` of a step has the ``group`` of the applicant that the action decided on, and ``repays``, which
    says whether this applicant would repay a loan. Targets that can change: ``noise_0``, ``noise_1``, ``share_1``,
    ``steepness``, ``gain`` and ``loss``.

    Args:
        num_features: Number of features, >= 1.
        noise_0: Standard deviation of the noise in features 0, 2, 4, ... of group 0, >= 0.
        noise_1: Standard deviation of the noise in features 0, 2, 4, ... of group 1, >= 0.
        share_1: Share of group 1 among the applicants, in [0, 1].
        steepness: Slope of the log-odds of repayment; with 0 the traits have no effect.
        gain: Reward of a repaid loan.
        loss: Cost of an unpaid loan.

    Raises:
        ValueError: If an argument is out of its range.

    Examples:
        >>> env = Lending(noise_0=0.0, steepness=100.0)
        >>> _ = env.reset(seed=0)
        >>> _, reward, _, _, info = env.step(1)
        >>> reward, info
        (1.0, {'group': 0, 'repays': True})
    """

    def __init__(
        self,
        num_features: int = 8,
        noise_0: float = 0.3,
        noise_1: float = 2.0,
        share_1: float = 0.2,
        steepness: float = 4.0,
        gain: float = 1.0,
        loss: float = 1.0,
    ) -> None:
        self.num_features = check_int("num_features", num_features, least=1)
        self.noise_0 = check_number("noise_0", noise_0, least=0.0)
        self.noise_1 = check_number("noise_1", noise_1, least=0.0)
        self.share_1 = check_number("share_1", share_1, least=0.0, most=1.0)
        self.steepness = check_number("steepness", steepness)
        self.gain = check_number("gain", gain)
        self.loss = check_number("loss", loss)
        weights = np.arange(self.num_features, 0, -1.0)
        self.importance: Floats = weights / np.linalg.norm(weights)
        # Features are unbounded, but Gymnasium's checker warns about infinite bounds.
        high = np.array([np.finfo(np.float32).max] * self.num_features + [1.0, 1.0], np.float32)
        low = np.array([np.finfo(np.float32).min] * self.num_features + [0.0, 0.0], np.float32)
        self.observation_space = Box(low, high)
        self.action_space = Discrete(2)

    def applicants(self, count: int, rng: np.random.Generator) -> Applicants:
        """Draw a batch of applicants from the current distribution.

        Args:
            count: Number of applicants.
            rng: Random generator.
        """
        groups = (rng.random(count) < self.share_1).astype(np.int64)
        traits = rng.standard_normal((count, self.num_features))
        probabilities = _sigmoid(self.steepness * (traits @ self.importance))
        features = traits + self._noises()[groups] * rng.standard_normal((count, self.num_features))
        observations = np.concatenate([features, np.eye(2)[groups]], 1, dtype=np.float32)
        return Applicants(observations, groups, rng.random(count) < probabilities)

    def rewards(self, actions: npt.ArrayLike, repays: npt.ArrayLike) -> Floats:
        """Compute the rewards of actions with the current parameters.

        Args:
            actions: 1 for a loan, 0 for none.
            repays: Whether each applicant would repay, same shape as ``actions``.
        """
        return np.where(np.asarray(actions) == 1, np.where(repays, self.gain, -self.loss), 0.0)

    def chances(self, observations: npt.ArrayLike) -> Floats:
        """Compute the probabilities of repayment given the observations, with the current parameters.

        Given a noisy feature x, the trait is normal with mean ``k x`` and variance ``1 - k``, where
        ``k = 1 / (1 + noise**2)``. The probability is the mean of ``sigmoid(steepness * importance @ traits)``
        over this distribution of the traits, computed by Gauss-Hermite quadrature.

        Args:
            observations: Shape ``(count, num_features + 2)``.

        Returns:
            Shape ``(count,)``.
        """
        observations = np.asarray(observations, dtype=np.float64)
        reliability = 1.0 / (1.0 + self._noises() ** 2)
        groups = observations[:, -1].astype(np.int64)
        mean = (reliability[groups] * observations[:, : self.num_features]) @ self.importance
        spread = np.sqrt((1.0 - reliability) @ self.importance**2)[groups]
        points = mean[:, None] + spread[:, None] * _POINTS
        probabilities: Floats = _sigmoid(self.steepness * points) @ (_POINT_WEIGHTS / _POINT_WEIGHTS.sum())
        return probabilities

    def best_actions(self, observations: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the actions with the largest expected reward under the current parameters.

        Args:
            observations: Shape ``(count, num_features + 2)``.
        """
        probabilities = self.chances(observations)
        return (probabilities * self.gain > (1.0 - probabilities) * self.loss).astype(np.int64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with a new applicant."""
        super().reset(seed=seed)
        return self._next(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Decide on the current applicant, and observe the next applicant."""
        reward = float(self.rewards(action, self.repays))
        info = {"group": self.group, "repays": self.repays}
        return self._next(), reward, False, False, info

    def _next(self) -> Observation:
        observations, groups, repays = self.applicants(1, self.np_random)
        self.group, self.repays = int(groups[0]), bool(repays[0])
        observation: Observation = observations[0]
        return observation

    def _noises(self) -> Floats:
        """Return the standard deviation of the noise of each group's features, shape ``(2, num_features)``."""
        is_noisy = np.arange(self.num_features) % 2 == 0
        noises: Floats = np.array([[self.noise_0], [self.noise_1]]) * is_noisy
        return noises


for _name in ("steepness", "gain", "loss"):
    register_parameter(Lending, _name)
for _name in ("noise_0", "noise_1"):
    register_parameter(Lending, _name, low=0)
register_parameter(Lending, "share_1", low=0, high=1)


def true_positive_rates(actions: npt.ArrayLike, groups: npt.ArrayLike, repays: npt.ArrayLike) -> Floats:
    """Compute the share of loans among the applicants of each group who would repay.

    Equal opportunity holds if both shares are equal.

    Args:
        actions: 1 for a loan, 0 for none, shape ``(..., count)``.
        groups: Group of each applicant, 0 or 1, shape ``(count,)``.
        repays: Whether each applicant would repay, shape ``(count,)``.

    Returns:
        Shape ``(..., 2)``; NaN for a group in which nobody would repay.

    Examples:
        >>> true_positive_rates([1, 0, 1, 1], groups=[0, 0, 1, 1], repays=[True, True, True, False]).tolist()
        [0.5, 1.0]
    """
    has_loan = np.asarray(actions) == 1
    would_repay = np.stack([np.asarray(repays, bool) & (np.asarray(groups) == group) for group in (0, 1)])
    with np.errstate(invalid="ignore"):
        rates: Floats = (has_loan[..., None, :] & would_repay).sum(-1) / would_repay.sum(-1)
    return rates


def _sigmoid(x: Floats) -> Floats:
    # The tanh form cannot overflow.
    return 0.5 * (1.0 + np.tanh(0.5 * x))
