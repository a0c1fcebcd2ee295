"""Markov chains whose values can be computed at any clock, without a simulation from clock 0."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from rl_rms.envs.checks import check_number
from rl_rms.envs.schedules.base import Bounds
from rl_rms.envs.schedules.bridges import Bridged
from rl_rms.envs.schedules.jumps import check_levels
from rl_rms.envs.schedules.rng import Floats, Ints, Key

Rows = tuple[tuple[float, ...], ...]

# The search for jumps compares the values at this many env steps at once, which limits memory use.
_COMPARED_AT_ONCE = 2**16


@dataclass(frozen=True, init=False, repr=False)
class Markov(Bridged):
    """A Markov chain on a list of values, stationary from clock 0 on.

    With ``mean_dwell``, the duration of a value is geometrically distributed and all other values are equally
    likely to follow. The timescale is twice the variance over time, divided by the mean squared change in one env
    step. For two values with ``mean_dwell``, the timescale is ``mean_dwell / 2``.

    Args:
        values: The values, at least two.
        mean_dwell: Mean duration of a value in env steps, >= 1.
        transitions: Instead of ``mean_dwell``: for each value, the probabilities of all values one env step later,
            shape ``(n, n)``. Each row sums to 1, and every value can be reached from every other value.

    Raises:
        ValueError: If an argument is invalid, or ``mean_dwell`` and ``transitions`` are both given or both
            missing.

    Examples:
        >>> chain = Markov([1.0, 5.0], transitions=[[0.99, 0.01], [0.03, 0.97]])
        >>> chain.stationary.round(2).tolist(), round(chain.timescale)
        ([0.75, 0.25], 25)
    """

    name: ClassVar[str] = "markov"
    _kept_as: ClassVar[Mapping[str, str]] = {"values": "levels"}

    levels: tuple[float, ...]
    mean_dwell: float | None
    transitions: Rows | None

    def __init__(
        self,
        values: Sequence[float],
        mean_dwell: float | None = None,
        transitions: Sequence[Sequence[float]] | None = None,
    ) -> None:
        levels = check_levels("Markov", values)
        if len(levels) < 2:
            raise ValueError(f"Markov: values must have at least two entries, got {values!r}")
        if (mean_dwell is None) == (transitions is None):
            raise ValueError(
                f"Markov needs either mean_dwell or transitions, got mean_dwell={mean_dwell!r}, "
                f"transitions={transitions!r}"
            )
        object.__setattr__(self, "levels", levels)
        if mean_dwell is not None:
            mean_dwell = check_number("Markov: mean_dwell", mean_dwell, least=1)
        object.__setattr__(self, "mean_dwell", mean_dwell)
        rows = None if transitions is None else _check_transitions(transitions, len(levels))
        object.__setattr__(self, "transitions", rows)

    @property
    def matrix(self) -> Floats:
        """Transition matrix, shape ``(n, n)``; row i has the probabilities one env step after value i."""
        if self.transitions is not None:
            return np.array(self.transitions)
        assert self.mean_dwell is not None
        number = len(self.levels)
        matrix = np.full((number, number), 1.0 / self.mean_dwell / (number - 1))
        np.fill_diagonal(matrix, 1.0 - 1.0 / self.mean_dwell)
        return matrix

    @property
    def stationary(self) -> Floats:
        """Stationary probability of each value, shape ``(n,)``."""
        number = len(self.levels)
        # A step does not change the stationary probabilities, and they sum to 1.
        equations = np.vstack([self.matrix.T - np.eye(number), np.ones(number)])
        shares = np.linalg.lstsq(equations, np.append(np.zeros(number), 1.0), rcond=None)[0].astype(np.float64)
        positive: Floats = np.clip(shares, 0.0, None)
        return positive

    @property
    def bounds(self) -> Bounds:
        """The lowest and the highest value."""
        return min(self.levels), max(self.levels)

    def _timescale(self) -> float:
        levels, shares = np.array(self.levels), self.stationary
        variance = shares @ (levels - shares @ levels) ** 2
        changes = shares @ (self.matrix * (levels - levels[:, None]) ** 2).sum(axis=1)
        return float(2 * variance / changes)

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings in ``(t0, t1]`` at which the value changes."""
        found = [np.empty(0, dtype=np.int64)]
        for start in range(t0, t1, _COMPARED_AT_ONCE):
            values = self.values(np.arange(start, min(start + _COMPARED_AT_ONCE, t1) + 1), key)
            found.append(start + 1 + np.flatnonzero(values[1:] != values[:-1]))
        return np.concatenate(found)

    # States are indices of values.

    def _begin(self, uniform: Floats) -> Floats:
        return _choose(self.stationary, uniform[0])

    def _advance(self, states: Floats, steps: int, uniform: Floats) -> Floats:
        return _choose(_power(self, steps.bit_length() - 1)[states.astype(np.int64)], uniform[0])

    def _between(self, before: Floats, after: Floats, steps: int, uniform: Floats) -> Floats:
        power = _power(self, steps.bit_length() - 1)
        # Bayes' rule, up to a factor: P(middle | before) P(after | middle).
        weights = power[before.astype(np.int64)] * power.T[after.astype(np.int64)]
        return _choose(weights, uniform[0])

    def _held(self, states: Floats) -> Floats:
        held: Floats = np.array(self.levels)[states.astype(np.int64)]
        return held


@lru_cache(maxsize=1024)
def _power(chain: Markov, squarings: int) -> Floats:
    """Compute the transition matrix over ``2**squarings`` env steps."""
    if squarings == 0:
        return chain.matrix
    root = _power(chain, squarings - 1)
    power = root @ root
    # Without normalization, the rounding error of a row's sum would double with every squaring.
    rows: Floats = power / power.sum(axis=1, keepdims=True)
    return rows


def _choose(weights: Floats, uniform: Floats) -> Floats:
    """Choose indices of states in proportion to weights along the last axis. The weights need not sum to 1."""
    sums = np.cumsum(weights, axis=-1)
    threshold = uniform[:, None] * sums[..., -1:]
    chosen: Floats = np.count_nonzero(sums <= threshold, axis=-1).astype(np.float64)
    return chosen


def _check_transitions(transitions: Sequence[Sequence[float]], number: int) -> Rows:
    shaped = isinstance(transitions, (list, tuple)) and all(
        isinstance(row, (list, tuple)) and len(row) == number for row in transitions
    )
    if not shaped or len(transitions) != number:
        raise ValueError(
            f"Markov: transitions must be {number} rows of {number} probabilities, one row for each value, got "
            f"{transitions!r}"
        )
    rows = tuple(tuple(check_number("Markov: transitions", one, least=0) for one in row) for row in transitions)
    for row in rows:
        if abs(sum(row) - 1) > 1e-9:
            raise ValueError(f"Markov: each row of transitions must sum to 1, got {list(row)} with {sum(row):g}")
    reached = np.linalg.matrix_power((np.array(rows) > 0) | np.eye(number, dtype=bool), number) > 0
    if not reached.all():
        origin, target = np.argwhere(~reached)[0]
        raise ValueError(
            f"Markov: transitions must let every value be reached from every other value, but values[{target}] is "
            f"never reached from values[{origin}]"
        )
    return rows
