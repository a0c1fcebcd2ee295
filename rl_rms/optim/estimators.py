"""Half-lives found online: what stands behind ``half_life="match"`` and ``half_life="auto"``.

The optimizer shows an estimator the gradients of a few fixed coordinates, the probes, as the second moment v sees
them, and asks it for the half-life before every update. An estimator keeps v's candidates for the probes alone, so
that its cost does not grow with the network.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from rl_rms.half_life import rho_from_half_life
from rl_rms.laws import GAUSSIAN_NOISE, least_error_half_life

_LONGEST = 1e9  # stands for "never forget" where a finite number is wanted


class HalfLifeEstimator(ABC):
    """Estimates the half-life of an optimizer's second moment while it runs.

    Attributes:
        block: Updates between two calls of `observe`.
        num_probes: Coordinates whose gradients it wants.
        timescale: Autocorrelation time of what changes, in updates; set by the optimizer, read by `Matched` alone.

    Args:
        bounds: Shortest and longest half-life in updates.

    Raises:
        ValueError: Unless ``0 < shortest <= longest``.
    """

    block: ClassVar[int] = 16
    num_probes: ClassVar[int] = 16
    timescale: float = math.inf

    def __init__(self, bounds: tuple[float, float] = (32.0, 10_000.0)) -> None:
        self.bounds = bounds

    @property
    def bounds(self) -> tuple[float, float]:
        """Shortest and longest half-life in updates; may be set at any time."""
        return self._bounds

    @bounds.setter
    def bounds(self, bounds: tuple[float, float]) -> None:
        shortest, longest = bounds
        if not 0.0 < shortest <= longest:
            raise ValueError(f"bounds must be 0 < shortest <= longest half-life in updates, got {bounds!r}")
        self._bounds = (float(shortest), float(longest))

    @property
    def half_life(self) -> float:
        """The half-life in updates that the next update should use, within the bounds."""
        shortest, longest = self._bounds
        return min(max(self._unbounded(), shortest), longest)

    @abstractmethod
    def observe(self, grads: Tensor) -> None:
        """Take in the probes' gradients since the last call.

        Args:
            grads: Of shape (block, at most num_probes), oldest first. Zeros (of a dead unit) and non-finite values
                carry no information and are passed over.
        """

    @abstractmethod
    def diagnostics(self) -> dict[str, float]:
        """Finite numbers worth logging."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that it has learned, but for the bounds: tensors, numbers, strings and containers of them."""
        return {"estimator": type(self).__name__, **self._state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from another estimator's `state_dict`.

        Args:
            state: Of the same class, with any number of probes.

        Raises:
            ValueError: If it is of another class, or incomplete.
        """
        name, own = state.get("estimator"), type(self).__name__
        if name != own:
            raise ValueError(
                f"estimator must be {own!r} in the state to load, got {name!r}; choose the estimator "
                "of the run that was saved"
            )
        present = self._state()
        missing = present.keys() - state.keys()
        if missing:
            raise ValueError(f"the state of {own} must hold {sorted(missing)}, got {sorted(state)}")
        for key, value in present.items():
            if not _is_alike(state[key], value):
                raise ValueError(
                    f"{key!r} in the state of {own} must be like {value!r:.100}, got {state[key]!r:.100}; choose "
                    "the estimator of the run that was saved"
                )
        self._load({key: _copy(value) for key, value in state.items()})

    @abstractmethod
    def _unbounded(self) -> float:
        """The half-life in updates before the bounds; may be inf."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """A copy of what `_load` takes."""

    @abstractmethod
    def _load(self, state: dict[str, Any]) -> None: ...


class Bank(HalfLifeEstimator):
    """Half-lives compete at predicting the next squared gradient; the winners' geometric mean is used.

    Each half-life k keeps its own v_k of the probes and pays the negative log likelihood (QLIKE, Patton 2011)

        l_k = 1/2 [ln v_k + min(g**2 / v_k, 100)]        with v_k from before g

    in the mean over probes whose gradients are known; ``w = softmax(-eta S)`` with S the sum of
    ``num_probes * l_k`` over time, of half-life 256, and ``h = exp(sum_k w_k ln h_k)``. These are exponential
    weights with forgetting over experts (Herbster and Warmuth 1998).

    It follows ``E[g**2]``. Where large gradients come in clusters and carry the signal, as in reinforcement
    learning, the best predictor may have too short a memory to learn well: hence the floor in the bounds.

    Examples:
        >>> bank = Bank(bounds=(1, 1e6))
        >>> _ = torch.manual_seed(0)
        >>> for _ in range(100):
        ...     bank.observe(torch.randn(16, 16))
        >>> bank.half_life > 500
        True
    """

    _HALF_LIVES = (4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
    _ETA = 0.05
    _SCORE_HALF_LIFE = 256.0
    _LARGEST_SURPRISE = 100.0  # of g**2 / v_k, so that one outlier does not outweigh everything since

    def __init__(self, bounds: tuple[float, float] = (32.0, 10_000.0)) -> None:
        super().__init__(bounds)
        rho = torch.tensor([rho_from_half_life(h) for h in self._HALF_LIVES], dtype=torch.float64)
        time = torch.arange(self.block, dtype=torch.float64)
        age = time[:, None] - time - 1  # of gradient j before update t, (block, block)
        # The averages before each update of a block and after its last: (half-lives * (block + 1), block).
        age = torch.cat([age, age[-1:] + 1])
        weights = torch.where(age >= 0, rho[:, None, None] ** age.clamp_min(0) * (1 - rho)[:, None, None], 0.0)
        self._weights = weights.flatten(0, 1)
        self._fading = rho[:, None, None] ** torch.arange(self.block + 1, dtype=torch.float64)[:, None]
        self._gain = (1 - rho)[:, None, None]
        self._score_decay = rho_from_half_life(self._SCORE_HALF_LIFE, self.block)
        self._averages = torch.zeros(len(self._HALF_LIVES), 1, 0, dtype=torch.float64)
        self._scores = [0.0] * len(self._HALF_LIVES)
        self._found = self._mean()

    def observe(self, grads: Tensor) -> None:
        """Score every half-life on a block and choose anew."""
        grads, known = _known(grads)
        squares = grads.square()
        probes = grads.shape[1]
        if self._averages.shape[2] != 2 * probes:
            self._averages = self._averages.new_zeros(len(self._HALF_LIVES), 1, 2 * probes)
        # Averages of the squares and of their weights: v_k is their quotient, which starts right
        # (bias-corrected) and passes over what is not known.
        averages = self._weights @ torch.cat([squares, known], dim=1)
        averages = averages.view(len(self._HALF_LIVES), self.block + 1, 2 * probes)
        averages.addcmul_(self._fading, self._averages)
        self._averages = averages[:, -1:]
        total, weight = averages[:, :-1, :probes], averages[:, :-1, probes:]
        scored = known * (weight[0] > _LEAST_WEIGHT)
        losses = self._losses(grads, squares, total, weight, scored).tolist()
        # Per known gradient, so that a unit that dies does not change the weight of the evidence.
        share = self.block * self.num_probes / max(float(scored.sum()), 1.0)
        decay = self._score_decay
        self._scores = [decay * score + share * loss for score, loss in zip(self._scores, losses, strict=True)]
        self._found = self._mean()

    def diagnostics(self) -> dict[str, float]:
        """``bank_unbounded``: the half-life in updates before the bounds."""
        return {"bank_unbounded": self._found}

    def _losses(self, grads: Tensor, squares: Tensor, total: Tensor, weight: Tensor, scored: Tensor) -> Tensor:
        """Of every half-life, summed over a block: (half-lives,).

        Args:
            grads: Gradients, 0 where not known, (block, probes).
            squares: Their squares.
            total: Averages of the squares before each of them, (half-lives, block, probes).
            weight: The weight of what is known in these averages.
            scored: 1 where a gradient and its average are known, else 0.
        """
        v = (total + _LEAST_WEIGHT) / (weight + _LEAST_WEIGHT)
        surprise = (squares / v).clamp_max_(self._LARGEST_SURPRISE).add_(v.log_())
        return surprise.flatten(1) @ scored.flatten() * 0.5

    def _mean(self) -> float:
        least = min(self._scores)
        weights = [math.exp(self._ETA * (least - score)) for score in self._scores]
        logs = [weight * math.log(h) for weight, h in zip(weights, self._HALF_LIVES, strict=True)]
        return math.exp(sum(logs) / sum(weights))

    def _unbounded(self) -> float:
        return self._found

    def _state(self) -> dict[str, Any]:
        return {"averages": self._averages.clone(), "scores": list(self._scores)}

    def _load(self, state: dict[str, Any]) -> None:
        self._averages, self._scores = state["averages"].double(), list(state["scores"])
        self._found = self._mean()


class ChangeDetector:
    """Tells when the level of a positive, noisy statistic changes: a two-sided CUSUM (Page 1954) on its logarithm.

        z  = (ln x - mean) / deviation,  cut off at +-4
        c+ = max(0, c+ + z - 0.35),  c- = max(0, c- - z - 0.35),  a change where one of them passes 15

    The mean is that since the last change, the deviation that of all values, as a change of scale shifts the
    logarithms and leaves their spread. Both have a memory of 512 values at most, so that a slow drift is no
    change. It judges from the 33rd value on, and anew from the 17th after a change.

    Examples:
        >>> detector = ChangeDetector()
        >>> [t for t in range(200) if detector.update((1.0, 1.3)[t % 2] if t < 100 else 9.0)]
        [103]
    """

    _FIRST, _AGAIN = 32, 16
    _MEMORY = 512
    _CUT = 4.0
    _ALLOWANCE = 0.35
    _THRESHOLD = 15.0

    def __init__(self) -> None:
        self._seen = self._since = 0
        self._mean = self._variance = 0.0
        self._above = self._below = 0.0

    def update(self, value: float) -> bool:
        """Take in one value.

        Args:
            value: The statistic, in any unit; a value that is not finite and above 0 is passed over.

        Returns:
            Whether the level has changed since the last change.
        """
        if not 0.0 < value < math.inf:
            return False
        x = math.log(value)
        self._seen += 1
        self._since += 1
        off = x - self._mean
        if self._seen > self._FIRST:
            deviation = math.sqrt(self._variance) + 1e-12
            z = off / deviation
            if self._since > 1 and not -self._CUT < z < self._CUT:
                z = math.copysign(self._CUT, z)
                off = z * deviation  # an outlier moves mean and deviation no further
            if self._since > self._AGAIN:
                self._above = max(0.0, self._above + z - self._ALLOWANCE)
                self._below = max(0.0, self._below - z - self._ALLOWANCE)
                if self._above > self._THRESHOLD or self._below > self._THRESHOLD:
                    self._since = 0
                    self._mean = self._above = self._below = 0.0
                    return True
        self._mean += off / min(self._since, self._MEMORY)
        gain = 1.0 / min(self._seen, self._MEMORY)
        if self._since > 1:  # the first after a change is its own mean
            self._variance += gain * ((1.0 - gain) * off * off - self._variance)
        return False

    def state_dict(self) -> dict[str, Any]:
        """Its numbers."""
        return {
            "seen": self._seen,
            "since": self._since,
            "mean": self._mean,
            "variance": self._variance,
            "above": self._above,
            "below": self._below,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            ValueError: If it is incomplete or holds anything but numbers.
        """
        present = self.state_dict()
        if not isinstance(state, dict) or not all(
            key in state and _is_alike(state[key], value) for key, value in present.items()
        ):
            raise ValueError(f"the state of a change detector must be like {present}, got {state!r:.200}")
        self._seen, self._since = int(state["seen"]), int(state["since"])
        self._mean, self._variance = float(state["mean"]), float(state["variance"])
        self._above, self._below = float(state["above"]), float(state["below"])


class Matched(HalfLifeEstimator):
    """The half-life that the laws give for a stated time scale and an estimated signal.

    The signal is the variance S over time of ``ln sigma**2``, the time scale tau its autocorrelation time. The
    logarithm of a noisy square is ``ln sigma**2`` plus white noise, so the semivariogram of ``ln g**2`` grows with
    the lag by what the signal adds alone,

        gamma(k) - gamma(1) = S (phi(1) - phi(k)),   phi(k) = exp(-(k / tau)**p / Gamma(p + 1)),

    from which S follows by least squares over lags up to 2 tau that need not all have been seen, and the
    smoothness p (1 for jumps, 2 for smooth changes) as the better fit, once anything has moved. Lags above 16 are
    taken between means of blocks. `rl_rms.laws.least_error_half_life` does the rest, for Gaussian noise. What was
    seen counts half after 16 tau, at least 2048 updates. Before it has seen much it assumes S = 1.
    """

    _LAGS = (1, 2, 4, 8, 16)  # in updates, the longest of them a block
    _BLOCK_LAGS = (1, 2, 4, 8, 16, 32, 64, 128)
    _SMOOTHNESS = (1.0, 1.5, 2.0)
    _PRIOR_SIGNAL = 1.0
    _PRIOR_WEIGHT = 512.0  # in pairs of gradients, for their noise
    _PRIOR_TIMESCALES = 1.0  # in time scales, as jumps that have not come yet tell nothing
    _BLOCK_WEIGHT = 64.0  # of a pair of block means, whose noise is 16 times less
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
        self._signal, self._found = self._PRIOR_SIGNAL, math.inf

    @property
    def half_life(self) -> float:
        """The half-life in updates that the next update should use, within the bounds."""
        if self._is_stale():
            self._fit()
        return super().half_life

    def observe(self, grads: Tensor) -> None:
        """Add a block to the semivariogram and, ever more seldom, match anew."""
        grads, known = _known(grads)
        logs = grads.square().div_(known).log_()  # nan, 0 / 0, where not known
        if self._previous.shape != logs.shape:
            self._previous = torch.full_like(logs, math.nan)
            self._means = torch.full((max(self._BLOCK_LAGS), logs.shape[1]), math.nan, dtype=torch.float64)
        mean = logs.nanmean(0)
        both = torch.cat([self._previous, logs])
        updates = (logs - both[self._rows]).flatten(1)  # (lags, block * probes)
        blocks = mean - self._means[(self._blocks + self._block_rows) % len(self._means)]
        self._previous = logs
        self._means[self._blocks % len(self._means)] = mean
        seen = [torch.cat([kind(updates), kind(blocks)]) for kind in (_squares, _count)]
        memory = min(max(16.0 * self.timescale, 2048.0), 1e15)
        self._sums = self._sums * rho_from_half_life(memory, self.block) + torch.stack(seen)
        self._blocks += 1
        if self._blocks >= self._next_fit or self._is_stale():
            # The estimate changes by a share of what it stands on, so a quarter more of it is worth a new fit.
            self._next_fit = self._blocks + min(1 + self._blocks // 4, 64)
            self._fit()

    def diagnostics(self) -> dict[str, float]:
        """``match_snr``, and in updates ``match_timescale`` and ``match_unbounded``, the law's own half-life."""
        return {
            "match_snr": self._signal / GAUSSIAN_NOISE,
            "match_timescale": min(self.timescale, _LONGEST),
            "match_unbounded": min(self._unbounded(), _LONGEST),
        }

    def _is_stale(self) -> bool:
        # Not at every small change of a time scale that is stated in env steps, when updates vary in length.
        now, then = self.timescale, self._fitted_timescale
        return now != then and not abs(now - then) <= 0.05 * min(now, then)

    def _fit(self) -> None:
        self._fitted_timescale = tau = self.timescale
        if math.isinf(tau):
            self._found = math.inf
            return
        lags = len(self._LAGS)
        squares, counts = self._sums.tolist()
        prior = self._PRIOR_WEIGHT + self._PRIOR_TIMESCALES * tau * self._BLOCK_WEIGHT
        fits = []
        for smoothness in self._SMOOTHNESS:
            rows = []  # what S is multiplied by, what is measured, its weight
            for first, unit, weight, times in (
                (0, 1, 1.0, self._LAGS),
                (lags, self.block, self._BLOCK_WEIGHT, self._BLOCK_LAGS),
            ):
                if counts[first] == 0.0:
                    continue
                near = 0.5 * squares[first] / counts[first]
                for index, lag in enumerate(times[1:], first + 1):
                    # Not far beyond tau, where smooth changes may swing back; the shortest lag always.
                    if counts[index] > 0.0 and (index == 1 or lag * unit <= 2.0 * tau):
                        grown = _correlation(unit, tau, smoothness) - _correlation(lag * unit, tau, smoothness)
                        rows.append((grown, 0.5 * squares[index] / counts[index] - near, weight * counts[index]))
            power = sum(weight * grown * grown for grown, _, weight in rows)
            product = sum(weight * grown * seen for grown, seen, weight in rows)
            # What has not moved yet is flat, as smooth changes begin; jumps are assumed until it has.
            if smoothness > 1.0 and product < 0.25 * self._PRIOR_SIGNAL * power:
                continue
            signal = max(0.0, (product + prior * self._PRIOR_SIGNAL) / (power + prior))
            error = prior * (signal - self._PRIOR_SIGNAL) ** 2
            error += sum(weight * (seen - signal * grown) ** 2 for grown, seen, weight in rows)
            fits.append((error, signal, smoothness))
        _, signal, smoothness = min(fits)
        self._signal = min(signal, self._LARGEST_SIGNAL)
        self._found = least_error_half_life(tau, self._signal, GAUSSIAN_NOISE, smoothness)

    def _unbounded(self) -> float:
        return self._found

    def _state(self) -> dict[str, Any]:
        return {
            "previous": self._previous.clone(),
            "means": self._means.clone(),
            "sums": self._sums.clone(),
            "blocks": self._blocks,
            "next_fit": self._next_fit,
            "fitted_timescale": self._fitted_timescale,
            "signal": self._signal,
            "found": self._found,
        }

    def _load(self, state: dict[str, Any]) -> None:
        self._previous, self._means = state["previous"].double(), state["means"].double()
        self._sums = state["sums"].double()
        self._blocks, self._next_fit = int(state["blocks"]), int(state["next_fit"])
        self._fitted_timescale = float(state["fitted_timescale"])
        self._signal, self._found = float(state["signal"]), float(state["found"])


# Of what is known in an average, below which it says nothing; far above the smallest float64, so that the quotient
# of two averages that have both faded keeps its digits.
_LEAST_WEIGHT = 1e-200


def _known(grads: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients in float64 with 0 for what carries no information, and 1 where there is some, else 0."""
    grads = grads.detach().to(torch.float64).nan_to_num(0.0, 0.0, 0.0)
    return grads, (grads != 0).to(torch.float64)


def _squares(x: Tensor) -> Tensor:
    return x.square().nansum(1)


def _count(x: Tensor) -> Tensor:
    return x.isnan().logical_not().sum(1)


def _correlation(lag: float, timescale: float, smoothness: float) -> float:
    return math.exp(-((lag / timescale) ** smoothness) / math.gamma(smoothness + 1.0))


def _is_alike(given: Any, present: Any) -> bool:
    """Whether an entry of a saved state has the kind of the present one, and its shape but for the probes."""
    if isinstance(present, Tensor):
        return (
            isinstance(given, Tensor)
            and given.is_floating_point() == present.is_floating_point()
            and not given.is_complex()
            and given.layout is torch.strided
            and given.shape[:-1] == present.shape[:-1]
            and given.ndim == present.ndim
        )
    if isinstance(present, list):
        return isinstance(given, list) and len(given) == len(present) and all(map(_is_alike, given, present))
    if isinstance(present, float):
        return isinstance(given, float | int) and not isinstance(given, bool)
    if isinstance(present, int):
        return isinstance(given, int) and not isinstance(given, bool) and given >= 0
    return type(given) is type(present)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
