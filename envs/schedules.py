"""What a parameter's value is at which clock: immutable, pure, seekable functions of clock and key.

A schedule keeps no state, so any clock can be asked in any order, two optimizers with the same seed meet the same
drift, and a resumed run goes on exactly. Chance comes from Philox, a counter-based generator [1]: its key is
(seed, target, env index), its counter the number of the block of draws.

``timescale`` is the autocorrelation time tau, in env steps, that a tracker's half-life can be matched to: where
the value has autocovariance ``S exp(-k / tau)`` and its measurements have noise variance ``R``, the exponential
average with least mean squared error has the half-life ``ln 2 * tau / (sqrt(2 tau S / R) - 1)``. Jumps at random
moments have exactly that autocovariance; each other schedule says what its tau stands for.

[1] Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import arguments, check_number, check_whole, choose, is_number

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Uniform numbers in a block of draws: a Philox generator costs about as much to make as this many numbers.
_DRAWS = 512
# Mean number of jumps in a block of `PoissonJumps`: far enough below _DRAWS (16 standard deviations) that a block
# never runs out of draws, and far enough above 0 that looking back for the last jump ends after one block.
_JUMPS = 256


class Key(NamedTuple):
    """What tells one stream of random numbers from another.

    Attributes:
        seed: Seed of the whole drift, >= 0.
        stream: Number of the target, see `stream_of`.
        env_index: Number of the sub-environment.
    """

    seed: int
    stream: int = 0
    env_index: int = 0


def stream_of(target: str) -> int:
    """A target's number: the same in every process and on every machine, as Python's own ``hash`` is not."""
    return zlib.crc32(target.encode())


class Schedule(ABC):
    """A value over time, in whatever unit the parameter has.

    The arguments of a schedule's constructor are its keys in YAML, under its ``name``.
    """

    name: ClassVar[str]
    # Arguments that are kept under another name, since a method of the schedule has theirs.
    _kept_as: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Values at clocks.

        Args:
            t: Clocks in env steps, whole numbers >= 0 in any order, shape ``(n,)``.
            key: Stream of random numbers; schedules without chance ignore it.

        Returns:
            Values, shape ``(n,)``.
        """

    @property
    @abstractmethod
    def amplitude(self) -> float:
        """Half of the range that the value can take."""

    @property
    def timescale(self) -> float:
        """Autocorrelation time tau in env steps; ``inf`` where nothing changes."""
        return self._timescale() if self.amplitude > 0 else math.inf

    @abstractmethod
    def _timescale(self) -> float:
        """The autocorrelation time of a schedule whose value changes."""

    def value(self, t: int, key: Key) -> float:
        """Value at one clock."""
        return float(self.values(np.array([t]), key)[0])

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Where the value jumps.

        Args:
            t0: Clock in env steps.
            t1: Clock in env steps.
            key: Stream of random numbers.

        Returns:
            The clocks in ``(t0, t1]``, ascending, from which on another value holds. Continuous drift has none.
        """
        return np.empty(0, dtype=np.int64)

    def to_config(self) -> dict[str, dict[str, Any]]:
        """The YAML form, ``{name: {argument: value}}``, without arguments that are at their default."""
        return {
            self.name: {
                name: list(value) if isinstance(value, tuple) else value for name, value in self._given().items()
            }
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._given().items())})"

    def _given(self) -> dict[str, Any]:
        """The constructor's arguments that are not at their default."""
        defaults = arguments(type(self))
        values = {name: getattr(self, self._kept_as.get(name, name)) for name in defaults}
        return {name: value for name, value in values.items() if value != defaults[name]}

    @staticmethod
    def from_config(config: Any) -> "Schedule":
        """Read the YAML form; a bare number is a `Constant`, and a schedule is returned as it is.

        Raises:
            ValueError: If it is no schedule, or has a wrong, missing or impossible argument.

        Example:
            >>> Schedule.from_config({"sinusoid": {"mean": 9.8, "amplitude": 4.0, "period": 20_000}})
            Sinusoid(mean=9.8, amplitude=4.0, period=20000.0)
        """
        if isinstance(config, Schedule):
            return config
        if is_number(config):
            return Constant(float(config))
        example = "{step: {before: 1.0, after: 2.0, at: 1000}} or a number"
        name, given = choose("schedule", SCHEDULES, config, example)
        return SCHEDULES[name](**given)


@dataclass(frozen=True, init=False, repr=False)
class Constant(Schedule):
    """The same value for ever.

    Args:
        value: The value, kept as ``level``.

    Raises:
        ValueError: If it is not a finite number.
    """

    name: ClassVar[str] = "constant"
    _kept_as: ClassVar[Mapping[str, str]] = {"value": "level"}

    level: float

    def __init__(self, value: float) -> None:
        object.__setattr__(self, "level", check_number("Constant: value", value))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """``value`` at every clock."""
        return np.full(np.shape(t), self.level)

    @property
    def amplitude(self) -> float:
        """0."""
        return 0.0

    def _timescale(self) -> float:
        return math.inf


@dataclass(frozen=True, repr=False)
class Step(Schedule):
    """One jump: ``before`` at clocks below ``at``, ``after`` from there on.

    Its timescale is ``at``, the time for which the first value holds; ``inf`` for ``at=0``, which never jumps.

    Args:
        before: First value.
        after: Second value.
        at: Clock of the jump, in env steps, >= 0.

    Raises:
        ValueError: If a value is not a finite number or ``at`` no whole number >= 0.
    """

    name: ClassVar[str] = "step"

    before: float
    after: float
    at: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "before", check_number("Step: before", self.before))
        object.__setattr__(self, "after", check_number("Step: after", self.after))
        object.__setattr__(self, "at", check_whole("Step: at", self.at, least=0, unit="env steps"))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """``before`` where ``t < at``, else ``after``."""
        return np.where(np.asarray(t) < self.at, self.before, self.after)

    @property
    def amplitude(self) -> float:
        """``|after - before| / 2``."""
        return abs(self.after - self.before) / 2

    def _timescale(self) -> float:
        return float(self.at) if self.at > 0 else math.inf

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """``at``, if it lies in ``(t0, t1]`` and the two values differ."""
        jumps = t0 < self.at <= t1 and self.before != self.after
        return np.array([self.at] if jumps else [], dtype=np.int64)


@dataclass(frozen=True, repr=False)
class Linear(Schedule):
    """A ramp: ``start + (end - start) * min(t / over, 1)``.

    Its timescale is ``over``.

    Args:
        start: Value at clock 0.
        end: Value from clock ``over`` on.
        over: Length of the ramp in env steps, > 0.

    Raises:
        ValueError: If an argument is not a finite number or ``over`` not above 0.
    """

    name: ClassVar[str] = "linear"

    start: float
    end: float
    over: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", check_number("Linear: start", self.start))
        object.__setattr__(self, "end", check_number("Linear: end", self.end))
        object.__setattr__(self, "over", check_number("Linear: over", self.over, above=0))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The ramp's values."""
        t = np.asarray(t)
        return np.where(t < self.over, self.start + (self.end - self.start) * t / self.over, self.end)

    @property
    def amplitude(self) -> float:
        """``|end - start| / 2``."""
        return abs(self.end - self.start) / 2

    def _timescale(self) -> float:
        return self.over


@dataclass(frozen=True, init=False, repr=False)
class Sinusoid(Schedule):
    """A swing: ``mean + amplitude * sin(2 pi t / period + phase)``.

    Its timescale is ``period / (2 pi)``, the inverse of the angular frequency by which alone a slow sinusoid sets
    the best half-life.

    Args:
        mean: Value about which it swings.
        amplitude: Largest distance from the mean, >= 0.
        period: Length of a swing in env steps, > 0.
        phase: Angle at clock 0, in radians.

    Raises:
        ValueError: If an argument is not a finite number or out of its range.
    """

    name: ClassVar[str] = "sinusoid"
    _kept_as: ClassVar[Mapping[str, str]] = {"amplitude": "swing"}

    mean: float
    swing: float
    period: float
    phase: float

    def __init__(self, mean: float, amplitude: float, period: float, phase: float = 0.0) -> None:
        object.__setattr__(self, "mean", check_number("Sinusoid: mean", mean))
        object.__setattr__(self, "swing", check_number("Sinusoid: amplitude", amplitude, least=0))
        object.__setattr__(self, "period", check_number("Sinusoid: period", period, above=0))
        object.__setattr__(self, "phase", check_number("Sinusoid: phase", phase))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The swing's values."""
        return self.mean + self.swing * np.sin(2 * math.pi * np.asarray(t) / self.period + self.phase)

    @property
    def amplitude(self) -> float:
        """As given."""
        return self.swing

    def _timescale(self) -> float:
        return self.period / (2 * math.pi)


@dataclass(frozen=True, init=False, repr=False)
class _Drawn(Schedule):
    """Levels drawn independently of each other, uniformly from an interval or from a list."""

    _kept_as: ClassVar[Mapping[str, str]] = {"values": "levels"}

    low: float | None
    high: float | None
    levels: tuple[float, ...] | None

    def _keep_levels(self, low: float | None, high: float | None, values: Sequence[float] | None) -> None:
        owner = type(self).__name__
        if (values is None) == (low is None and high is None) or (low is None) != (high is None):
            raise ValueError(
                f"{owner} needs either low and high, or values, got low={low!r}, high={high!r}, values={values!r}"
            )
        if values is not None and (not isinstance(values, (list, tuple)) or not values):
            raise ValueError(f"{owner}: values must be a list of numbers, got {values!r}")
        if low is not None and high is not None:
            low, high = check_number(f"{owner}: low", low), check_number(f"{owner}: high", high)
            if low > high:
                raise ValueError(f"{owner}: low must be <= high, got low={low!r}, high={high!r}")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        levels = None if values is None else tuple(check_number(f"{owner}: values", one) for one in values)
        object.__setattr__(self, "levels", levels)

    @property
    def amplitude(self) -> float:
        """Half of the distance between the lowest level and the highest."""
        if self.levels is not None:
            return (max(self.levels) - min(self.levels)) / 2
        assert self.low is not None
        assert self.high is not None
        return (self.high - self.low) / 2

    def _level(self, uniforms: Floats) -> Floats:
        """Levels for uniform numbers in [0, 1)."""
        if self.levels is not None:
            return np.array(self.levels)[(uniforms * len(self.levels)).astype(np.int64)]
        assert self.low is not None
        assert self.high is not None
        return self.low + (self.high - self.low) * uniforms

    def _where_changed(self, clocks: Ints, key: Key) -> Ints:
        """The clocks, of some >= 1, at which another level holds than one before: a list may repeat its own."""
        changed: Ints = clocks[self.values(clocks, key) != self.values(clocks - 1, key)]
        return changed


@dataclass(frozen=True, init=False, repr=False)
class Redraw(_Drawn):
    """A new level at clocks 0, ``every``, ``2 * every`` and so on, uniform in [low, high) or from a list.

    Its timescale is ``0.8 * every``: its autocovariance falls along a line to 0 at ``every``, and the exponential
    ``exp(-k / tau)`` that asks for about the same half-life has that tau.

    Args:
        low: Lowest level.
        high: Highest level, >= ``low``.
        every: Env steps from one level to the next, >= 1.
        values: The levels to choose from, in place of ``low`` and ``high``.

    Raises:
        ValueError: If it has neither an interval nor a list, or ``every`` is missing or out of range.
    """

    name: ClassVar[str] = "redraw"

    every: int

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        every: int | None = None,
        values: Sequence[float] | None = None,
    ) -> None:
        self._keep_levels(low, high, values)
        object.__setattr__(self, "every", check_whole("Redraw: every", every, least=1, unit="env steps"))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The level of draw number ``t // every``."""
        draws = np.asarray(t) // self.every
        blocks = draws // _DRAWS
        uniforms = np.empty(draws.shape)
        for block in np.unique(blocks):
            inside = blocks == block
            uniforms[inside] = _uniforms(key, int(block))[draws[inside] % _DRAWS]
        return self._level(uniforms)

    def _timescale(self) -> float:
        return 0.8 * self.every

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """The multiples of ``every`` in ``(t0, t1]`` that bring another level."""
        draws = np.arange(t0 // self.every + 1, t1 // self.every + 1, dtype=np.int64)
        return self._where_changed(draws * self.every, key)


@dataclass(frozen=True, init=False, repr=False)
class PoissonJumps(_Drawn):
    """A new level at random moments: at each clock >= 1 with probability ``1 / mean_dwell``.

    The times between two jumps are geometrically distributed. Its timescale is ``mean_dwell``: the autocovariance
    is ``S exp(-k / mean_dwell)``.

    Args:
        low: Lowest level.
        high: Highest level, >= ``low``.
        mean_dwell: Mean time between two jumps in env steps, >= 1.
        values: The levels to choose from, in place of ``low`` and ``high``.

    Raises:
        ValueError: If it has neither an interval nor a list, or ``mean_dwell`` is missing or out of range.
    """

    name: ClassVar[str] = "poisson_jumps"

    mean_dwell: float

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        mean_dwell: float | None = None,
        values: Sequence[float] | None = None,
    ) -> None:
        self._keep_levels(low, high, values)
        object.__setattr__(self, "mean_dwell", check_number("PoissonJumps: mean_dwell", mean_dwell, least=1))

    @property
    def _span(self) -> int:
        """Env steps in a block of draws; it grows with the dwell time, so that asking costs the same for any."""
        return math.ceil(_JUMPS * self.mean_dwell)

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The level of the last jump at or before ``t``."""
        t = np.asarray(t)
        blocks = t // self._span
        values = np.empty(t.shape)
        for block in np.unique(blocks):
            inside = blocks == block
            times, uniforms = self._jumps(key, int(block))
            # The level that holds at the block's start was drawn in an earlier block.
            levels = self._level(np.concatenate([[self._carried(key, int(block))], uniforms]))
            values[inside] = levels[np.searchsorted(times, t[inside], side="right")]
        return values

    def _timescale(self) -> float:
        return self.mean_dwell

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """The jumps in ``(t0, t1]`` that bring another level."""
        blocks = range(t0 // self._span, t1 // self._span + 1)
        times = np.concatenate([self._jumps(key, block)[0] for block in blocks])
        return self._where_changed(times[(times > t0) & (times <= t1)], key)

    def _jumps(self, key: Key, block: int) -> tuple[Ints, Floats]:
        return _jumps(self.mean_dwell, self._span, key, block)

    def _carried(self, key: Key, block: int) -> float:
        """The uniform number of the last jump before a block; before the first block, that of the first level."""
        while block > 0:
            block -= 1
            _, uniforms = self._jumps(key, block)
            if uniforms.size:
                return float(uniforms[-1])
        return float(_uniforms(key, 0, lane=2)[0])


SCHEDULES: dict[str, type[Schedule]] = {
    one.name: one for one in (Constant, Step, Linear, Sinusoid, Redraw, PoissonJumps)
}


def as_schedules(changes: Mapping[str, Any] | None, name: str = "changes") -> dict[str, Schedule]:
    """Read ``{target: schedule}``, where schedules may be in YAML form or bare numbers.

    Args:
        changes: The targets and their schedules; None for none.
        name: What errors call it.

    Raises:
        ValueError: If it is no such mapping; names the target.
    """
    if changes is None:
        return {}
    if not isinstance(changes, Mapping):
        raise ValueError(f"{name} must be a mapping of targets to schedules, got {changes!r}")
    schedules = {}
    for target, config in changes.items():
        try:
            schedules[str(target)] = Schedule.from_config(config)
        except ValueError as error:  # noqa: PERF203  # each error is to name its own target
            raise ValueError(f"{name}.{target}: {error}") from error
    return schedules


@lru_cache(maxsize=1024)
def _uniforms(key: Key, block: int, lane: int = 0) -> Floats:
    """A block's uniform numbers in [0, 1), shape ``(_DRAWS,)``; blocks and lanes are independent of each other."""
    words = np.array([key.seed % 2**64, key.stream << 32 | key.env_index], dtype=np.uint64)
    # Philox advances the counter's first word with every four numbers; the others tell the streams apart.
    counter = np.array([0, block, lane, 0], dtype=np.uint64)
    # Raw words, since NumPy keeps those of a bit generator the same for ever but not what Generator makes of them.
    raw = np.random.Philox(key=words, counter=counter).random_raw(_DRAWS)
    uniforms = np.ldexp((raw >> np.uint64(11)).astype(np.float64), -53)
    uniforms.flags.writeable = False
    return uniforms


@lru_cache(maxsize=1024)
def _jumps(mean_dwell: float, span: int, key: Key, block: int) -> tuple[Ints, Floats]:
    """Clocks of a block's jumps, ascending, and the uniform numbers of the levels that they bring.

    A geometric wait has no memory, so each block may draw its waits anew from its own first clock.
    """
    log_stay = math.log1p(-1.0 / mean_dwell) if mean_dwell > 1 else -math.inf
    waits = 1 + np.floor(np.log1p(-_uniforms(key, block, lane=0)) / log_stay).astype(np.int64)
    times = block * span - 1 + np.cumsum(waits)
    inside = times < (block + 1) * span
    return times[inside], _uniforms(key, block, lane=1)[inside]
