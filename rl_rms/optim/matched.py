"""The estimator of ``half_life="match"``: applies `rl_rms.laws` to a given timescale and an estimated signal."""

import math
from typing import Any

import torch
from torch import Tensor

from rl_rms.half_life import rho_from_half_life
from rl_rms.laws import GAUSSIAN_NOISE, least_error_half_life
from rl_rms.optim.estimators import HalfLifeEstimator, known_gradients

_LONGEST = 1e9  # replaces an infinite half-life or timescale


class Matched(HalfLifeEstimator):
    """The half-life from `rl_rms.laws`, for a given timescale and an estimated signal.

    Let ``sigma**2`` be the expected squared gradient of a coordinate. The signal S is the variance of ``ln
    sigma**2`` over time, and the timescale tau is the autocorrelation time of ``ln sigma**2``. ``ln g**2`` is ``ln
    sigma**2`` plus white noise, so only the signal makes the semivariogram gamma of ``ln g**2`` grow with the lag
    k:

        gamma(k) - gamma(1) = S (phi(1) - phi(k)),   phi(k) = exp(-(k / tau)**p / Gamma(p + 1))

    S is the least-squares fit to a prior and to the observed lags up to 2 tau; the lag of 2 updates is always
    used. The smoothness p is 1 (jumps), 1.5 or 2 (smooth changes); the estimator uses the p with the best fit. For
    lags above 16 updates, the semivariogram uses means of ``ln g**2`` over blocks of 16 updates.
    `rl_rms.laws.least_error_half_life` gives the half-life for Gaussian noise. The estimator forgets observations
    with a half-life of 16 tau, but at least 2048 updates. The prior is S = 1.
    """

    _LAGS = (1, 2, 4, 8, 16)  # lags in updates; the longest lag is the length of a block
    _BLOCK_LAGS = (1, 2, 4, 8, 16, 32, 64, 128)
    _SMOOTHNESS = (1.0, 1.5, 2.0)
    _PRIOR_SIGNAL = 1.0
    _PRIOR_WEIGHT = 512.0  # weight of the prior, as a number of pairs of gradients
    # The weight of the prior also grows with the timescale, because the first jumps may come late. For each update
    # in the timescale, the prior gains the weight of this number of pairs of block means.
    _PRIOR_TIMESCALES = 1.0
    _BLOCK_WEIGHT = 64.0  # weight of a pair of block means, relative to a pair of gradients
    _LARGEST_SIGNAL = 100.0

    def __init__(self, bounds: tuple[float, float] = (32.0, 10_000.0)) -> None:
        super().__init__(bounds)
        self._previous = torch.full((self.block, 0), math.nan, dtype=torch.float64)
        self._means = torch.full((max(self._BLOCK_LAGS), 0), math.nan, dtype=torch.float64)
        lags = torch.tensor(self._LAGS)
        self._rows = self.block + torch.arange(self.block) - lags[:, None]
        self._block_rows = -torch.tensor(self._BLOCK_LAGS)
        self._sums = torch.zeros(2, len(self._LAGS) + len(self._BLOCK_LAGS), dtype=torch.float64)
        self._blocks = 0
        self._next_fit = 1
        self._fitted_timescale = math.nan
        self._signal, self._unbounded = self._PRIOR_SIGNAL, math.inf

    @property
    def half_life(self) -> float:
        """The half-life in updates that the next update should use, within the bounds."""
        if self._is_stale():
            self._fit()
        return super().half_life

    def observe(self, grads: Tensor) -> None:
        """Add a block to the semivariogram. Fit the signal at growing intervals.

        The signal is also fitted if the timescale has changed by more than 5 % since the last fit.
        """
        grads, known = known_gradients(grads)
        logs = grads.square().div_(known).log_()  # NaN, from 0 / 0, if the gradient is unknown
        if self._previous.shape != logs.shape:
            self._previous = torch.full_like(logs, math.nan)
            self._means = torch.full((max(self._BLOCK_LAGS), logs.shape[1]), math.nan, dtype=torch.float64)
        mean = logs.nanmean(0)
        recent = torch.cat([self._previous, logs])
        updates = (logs - recent[self._rows]).flatten(1)  # (lags, block * probes)
        blocks = mean - self._means[(self._blocks + self._block_rows) % len(self._means)]
        self._previous = logs
        self._means[self._blocks % len(self._means)] = mean
        sums = [torch.cat([kind(updates), kind(blocks)]) for kind in (_squares, _count)]
        memory = min(max(16.0 * self.timescale, 2048.0), 1e15)
        self._sums = self._sums * rho_from_half_life(memory, self.block) + torch.stack(sums)
        self._blocks += 1
        if self._blocks >= self._next_fit or self._is_stale():
            # The intervals between fits grow, because one more block hardly changes an estimate from many blocks.
            self._next_fit = self._blocks + min(1 + self._blocks // 4, 64)
            self._fit()

    def diagnostics(self) -> dict[str, float]:
        """The signal-to-noise ratio, and the timescale and the half-life without its bounds, both in updates.

        The keys are the names in the log.
        """
        return {
            "match_snr": self._signal / GAUSSIAN_NOISE,
            "match_timescale": min(self.timescale, _LONGEST),
            "match_unbounded": min(self.unbounded_half_life(), _LONGEST),
        }

    def _is_stale(self) -> bool:
        # In updates, a timescale in env steps varies slightly if updates span different numbers of env steps.
        now, then = self.timescale, self._fitted_timescale
        return now != then and not abs(now - then) <= 0.05 * min(now, then)

    def _fit(self) -> None:
        self._fitted_timescale = tau = self.timescale
        if math.isinf(tau):
            self._unbounded = math.inf
            return
        growths = self._growths()
        prior = self._PRIOR_WEIGHT + self._PRIOR_TIMESCALES * tau * self._BLOCK_WEIGHT
        fits = []
        for smoothness in self._SMOOTHNESS:
            rows = [  # factor of S, measured value, weight
                (_correlation(near, tau, smoothness) - _correlation(far, tau, smoothness), measured, weight)
                for near, far, measured, weight in growths
            ]
            power = sum(weight * grown * grown for grown, _, weight in rows)
            product = sum(weight * grown * measured for grown, measured, weight in rows)
            # A flat semivariogram also fits smooth changes, so jumps are assumed until the semivariogram has
            # grown.
            if smoothness > 1.0 and product < 0.25 * self._PRIOR_SIGNAL * power:
                continue
            signal = max(0.0, (product + prior * self._PRIOR_SIGNAL) / (power + prior))
            error = prior * (signal - self._PRIOR_SIGNAL) ** 2
            error += sum(weight * (measured - signal * grown) ** 2 for grown, measured, weight in rows)
            fits.append((error, signal, smoothness))
        _, signal, smoothness = min(fits)
        self._signal = min(signal, self._LARGEST_SIGNAL)
        self._unbounded = least_error_half_life(tau, self._signal, GAUSSIAN_NOISE, smoothness)

    def _growths(self) -> list[tuple[int, int, float, float]]:
        """The measured growth of the semivariogram between two lags: both lags in updates, the growth, its weight.

        Lags above 2 tau are not used, because smooth changes may reverse in that time. A lag of two updates is
        always used.
        """
        squares, counts = self._sums.tolist()
        growths = []
        for first, unit, weight, lags in (
            (0, 1, 1.0, self._LAGS),
            (len(self._LAGS), self.block, self._BLOCK_WEIGHT, self._BLOCK_LAGS),
        ):
            for index, lag in enumerate(lags[1:], first + 1):
                is_used = index == 1 or lag * unit <= 2.0 * self.timescale
                if is_used and counts[first] > 0.0 and counts[index] > 0.0:
                    growth = 0.5 * squares[index] / counts[index] - 0.5 * squares[first] / counts[first]
                    growths.append((unit, lag * unit, growth, weight * counts[index]))
        return growths

    def unbounded_half_life(self) -> float:
        """The half-life from `rl_rms.laws`, in updates, before it is clipped to the bounds."""
        return self._unbounded

    def export_state(self) -> dict[str, Any]:
        """Copy everything that `observe` changes."""
        return {
            "previous": self._previous.clone(),
            "means": self._means.clone(),
            "sums": self._sums.clone(),
            "blocks": self._blocks,
            "next_fit": self._next_fit,
            "fitted_timescale": self._fitted_timescale,
            "signal": self._signal,
            "found": self._unbounded,
        }

    def restore_state(self, state: dict[str, Any]) -> None:
        """Load an exported state."""
        self._previous, self._means = state["previous"].double(), state["means"].double()
        self._sums = state["sums"].double()
        self._blocks, self._next_fit = int(state["blocks"]), int(state["next_fit"])
        self._fitted_timescale = float(state["fitted_timescale"])
        self._signal, self._unbounded = float(state["signal"]), float(state["found"])


def _squares(x: Tensor) -> Tensor:
    return x.square().nansum(1)


def _count(x: Tensor) -> Tensor:
    return x.isnan().logical_not().sum(1)


def _correlation(lag: float, timescale: float, smoothness: float) -> float:
    return math.exp(-((lag / timescale) ** smoothness) / math.gamma(smoothness + 1.0))
