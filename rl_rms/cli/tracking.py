r"""Computes from a run's log how well RMSprop's second moment tracked the squared gradients.

The log holds, at some updates, the mean of the second moment v over all parameters and the decay rho. Two entries
that are k updates apart give the exponentially weighted mean of the squared gradients between the entries,

    m = (v_now - rho^k v_then) / (1 - rho^k),

over all updates, including updates that were not logged. The *readings* are entries that are at least 25 updates
apart. The *level* of the squared gradients at a reading is either m or the geometric mean of m at the reading and
its two neighbors in the regime, whichever is nearer to v. With this choice, neither a single outlier of m nor a
very short half-life counts as a lag. The *lag* of the second moment is ``log(v / level)``. The lag is 0 if v
equals the level. The lag is ``log 4`` if v is four times too large; steps are then half as long as they should
be.

Let the squared gradients fall by a factor R and stay there. After t updates with the half-life h, the lag is
``log(1 + (R - 1) 2^(-t/h))``. For R > 2, v is too large by more than a factor of 2 for ``h log2(R - 1)`` updates.
If the squared gradients rise, v is within a factor of 2 of the level after one half-life.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rl_rms.cli.runs import Run

Floats = NDArray[np.float64]
State = Literal["lags", "fluctuates", "tracks"]

# Minimum updates between two readings, because the mean of fewer squared gradients is mostly noise.
_SPACING = 25
# A regime with fewer readings is not judged.
_FEWEST = 8
# v counts as off if the absolute lag exceeds this bound.
_OFF = math.log(2.0)
# v lags if it is off for more than this share of a regime.
_SHARE = 0.25
# v fluctuates if its swing exceeds this bound.
_SWING = math.log(math.sqrt(2.0))
# Relative rounding error of a mean in single precision.
_ROUNDING = 3e-6
# Converts the median absolute difference between log v and the mean of its two neighbors to the standard deviation
# of independent normal noise in log v.
_TO_DEVIATION = 1.0 / (0.6745 * math.sqrt(1.5))


@dataclass(frozen=True)
class Tracking:
    """A run's second moment and squared gradients, at readings at least 25 updates apart.

    Attributes:
        steps: Env steps of the readings, shape ``(n,)``.
        updates: Updates of the readings.
        second_moment: Mean of v over all parameters.
        squares: Weighted mean of the squared gradients since the previous reading.
        half_life: The optimizer's half-life at the reading, in updates.
    """

    steps: Floats
    updates: Floats
    second_moment: Floats
    squares: Floats
    half_life: Floats


class Following(NamedTuple):
    """How the second moment tracked the squared gradients in one regime.

    Attributes:
        half_life: Median half-life of the optimizer, in updates.
        worst: The lag with the largest absolute value.
        share_off: Share of the readings at which v was off by more than a factor of 2.
        swing: Standard deviation of the noise in ``log v``, estimated from the differences between readings and
            the means of their two neighbors; 0 for a steady decay.
        state: ``lags`` if v was off by more than a factor of 2 at more than a quarter of the readings; else
            ``fluctuates`` if ``swing`` exceeds ``log sqrt(2)``; else ``tracks``.
        limit: If v lags, an estimate of the longest half-life in updates with which v would not lag. If v
            fluctuates, an estimate of the shortest half-life in updates with which v would not fluctuate. NaN if v
            tracks.
    """

    half_life: float
    worst: float
    share_off: float
    swing: float
    state: State
    limit: float


def read_tracking(run: Run) -> Tracking | None:
    """Read a run's second moment and squared gradients; None if its log does not show them.

    The result is None if the optimizer was not RMSprop or used ``centered``, if the agent's ``on_change`` was not
    ``keep``, or if the log has fewer than two readings that are ``_SPACING`` updates apart.
    """
    options, agent = run.config.agent.optimizer_kwargs, run.config.agent
    if options.get("centered") or agent.on_change != "keep":
        return None
    tags = ("train/n_updates", "optim/second_moment", "optim/rho")
    columns = [run.metrics.get(tag, [math.nan] * len(run.steps)) for tag in tags]
    rows = np.array([run.steps, *columns], dtype=np.float64).T
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) < 2:
        return None
    steps, updates, v, rho = rows.T
    plain = v * _weight(updates, rho) if options.get("bias_correction", True) else v
    chosen = _spaced(updates)
    if len(chosen) < 2:
        return None
    squares = squares_between(updates[chosen], plain[chosen], rho[chosen])
    kept = chosen[1:]
    return Tracking(steps[kept], updates[kept], v[kept], squares, -math.log(2.0) / np.log(rho[kept]))


def _spaced(updates: Floats) -> NDArray[np.int64]:
    """Return the indices of log entries that are at least ``_SPACING`` updates apart."""
    chosen = [0]
    for index, update in enumerate(updates):
        if update - updates[chosen[-1]] >= _SPACING:
            chosen.append(index)
    return np.array(chosen)


def _weight(updates: Floats, rho: Floats) -> Floats:
    """Compute the divisor of bias correction, ``1 - rho^t`` for a constant rho."""
    spans = np.diff(updates, prepend=0.0)
    return 1.0 - np.exp(np.cumsum(spans * np.log(rho)))


def squares_between(updates: Floats, second_moment: Floats, rho: Floats) -> Floats:
    """Weighted mean of the squared gradients between successive entries of a log.

    Args:
        updates: Updates of the entries, shape ``(n,)``.
        second_moment: v at the entries, without bias correction.
        rho: Decay at the entries. Between two entries, the geometric mean of their decays is used.

    Returns:
        Shape ``(n - 1,)``; each value is at least its rounding error in single precision.

    >>> squares_between(np.array([1.0, 3.0]), np.array([4.0, 1.0 + 3.0]), np.array([0.5, 0.5]))
    array([4.])
    """
    log_rho = np.log(rho)
    kept = np.exp(np.diff(updates) * 0.5 * (log_rho[1:] + log_rho[:-1]))
    squares = (second_moment[1:] - kept * second_moment[:-1]) / (1.0 - kept)
    bounded: Floats = np.maximum(squares, _ROUNDING * second_moment[:-1] / (1.0 - kept))
    return bounded


def follow(tracking: Tracking, start: float, end: float) -> Following | None:
    """Judge how the second moment tracked between two env steps; None with fewer than ``_FEWEST`` readings."""
    inside = np.flatnonzero((tracking.steps > start) & (tracking.steps <= end))
    if len(inside) < _FEWEST:
        return None
    first = inside[0]
    log_v = np.log(tracking.second_moment[inside])
    lag = _lag(log_v, np.log(tracking.squares[inside]))
    # The regime began between two readings, so the update at its start is interpolated.
    began = np.interp(start, tracking.steps, tracking.updates) if first else 0.0
    length = float(tracking.updates[inside[-1]] - began)
    half_life = float(np.median(tracking.half_life[inside]))
    worst = float(lag[np.argmax(np.abs(lag))])
    share_off = float(np.mean(np.abs(lag) > _OFF))
    swing = _swing(log_v)
    return Following(half_life, worst, share_off, swing, *_judge(half_life, worst, share_off, swing, length))


def _lag(log_v: Floats, log_squares: Floats) -> Floats:
    padded = np.concatenate([[np.nan], log_squares, [np.nan]])
    smooth = log_v - np.nanmean([padded[:-2], padded[1:-1], padded[2:]], axis=0)
    single = log_v - log_squares
    return np.where(np.abs(single) < np.abs(smooth), single, smooth)


def _swing(log_v: Floats) -> float:
    """Compute the ``swing`` of `Following`."""
    middle = log_v[1:-1] - 0.5 * (log_v[:-2] + log_v[2:])
    return float(np.median(np.abs(middle))) * _TO_DEVIATION


def _judge(half_life: float, worst: float, share_off: float, swing: float, length: float) -> tuple[State, float]:
    """Compute the ``state`` and ``limit`` of `Following`."""
    if share_off > _SHARE:
        # v is off for h log2(R - 1) updates if the squared gradients fell by a factor R > 2, and for at most h
        # updates if they rose.
        half_lives = max(math.log2(math.exp(worst) - 1.0), 1.0) if worst > _OFF else 1.0
        return "lags", min(_SHARE * length / half_lives, half_life * _SHARE / share_off)
    if swing > _SWING:
        # The variance of an average is inversely proportional to its half-life.
        return "fluctuates", half_life * (swing / _SWING) ** 2
    return "tracks", math.nan
