"""The base of schedules."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number, is_number
from rl_rms.envs.configurable import Configurable
from rl_rms.envs.schedules.plotting import plot
from rl_rms.envs.schedules.rng import Floats, Ints, Key
from rl_rms.laws import matched_half_life

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bounds = tuple[float, float]


class Schedule(
    Configurable,
    ABC,
    kind="schedule",
    example="{step: {before: 1.0, after: 2.0, at: 1000}} or a number (write the values of a Python function to a "
    "file and use trace)",
):
    """A value over time, in whatever unit the parameter has.

    Schedules can be added and multiplied, with each other and with numbers; see `rl_rms.envs.schedules.algebra`.

    Examples:
        >>> from rl_rms.envs.schedules import Key, Sinusoid, Step
        >>> swing = Sinusoid(mean=9.8, amplitude=4.0, period=8)
        >>> (swing * Step(before=1, after=2, at=6)).values([2, 6], Key(seed=0)).round(3).tolist()
        [13.8, 11.6]
    """

    # A NumPy number on the left of + or * leaves the work to the schedule.
    __array_ufunc__: ClassVar[None] = None

    @abstractmethod
    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Values at clocks.

        Args:
            t: Clocks in env steps, whole numbers >= 0 and below ``2**62`` in any order, shape ``(n,)``.
            key: Stream of random numbers; schedules that are not random ignore it.

        Returns:
            Values, shape ``(n,)``.
        """

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """Lowest and highest value that it can take; infinite where there is no such value."""

    @property
    def center(self) -> float:
        """The middle of the bounds; where there is none, the value about which it moves."""
        low, high = self.bounds
        return low + (high - low) / 2

    @property
    def amplitude(self) -> float:
        """Distance of the extremes from the center.

        Half of the range between the bounds; where that is infinite, the standard deviation in the long run, which
        is itself infinite for a random walk without walls.
        """
        low, high = self.bounds
        return (high - low) / 2

    @property
    def timescale(self) -> float:
        """Autocorrelation time tau in env steps; ``inf`` where nothing changes."""
        return self._timescale() if self.amplitude > 0 else math.inf

    @property
    def cycle(self) -> float:
        """Env steps after which the value repeats itself, in the long run; ``inf`` where it does not."""
        return math.inf

    @abstractmethod
    def _timescale(self) -> float:
        """The autocorrelation time of a schedule whose value changes."""

    @property
    def random(self) -> bool:
        """Whether the values depend on the key."""
        return False

    def half_life(self, *, steps_per_update: float, snr: float) -> float:
        """The half-life of the exponential average that tracks the value with least mean squared error.

        By the laws of `rl_rms.laws`, for one measurement an update whose noise is independent of the value: that
        of a sinusoid, that of a ramp, and `matched_half_life` with the timescale for everything else. It is exact
        for jumps at random moments to independent levels and for an Ornstein-Uhlenbeck process, and for the others
        where it is short against the timescale; periodic jumps ask for a third less where it comes near to that.

        Args:
            steps_per_update: Env steps between two measurements, > 0.
            snr: Variance of the value over time divided by the variance of one measurement's noise, >= 0.

        Returns:
            Half-life in updates; ``inf`` where nothing changes or forgetting does not pay.

        Raises:
            ValueError: If an argument is out of range, or the schedule is a random walk without walls, whose
                variance over time is not a number.

        Examples:
            >>> from rl_rms.envs.schedules import OrnsteinUhlenbeck
            >>> round(OrnsteinUhlenbeck(mean=0, std=1, tau=3_200).half_life(steps_per_update=16, snr=0.1), 1)
            26.0
        """
        check_number("steps_per_update", steps_per_update, above=0)
        check_number("snr", snr, least=0)
        if self.amplitude == 0 or snr == 0:
            return math.inf
        return self._half_life(steps_per_update, snr)

    def _half_life(self, steps_per_update: float, snr: float) -> float:
        """The half-life of a schedule whose value changes, for arguments in their range and ``snr > 0``."""
        return matched_half_life(self.timescale / steps_per_update, snr)

    def value(self, t: int, key: Key) -> float:
        """Value at one clock."""
        return float(self.values(np.array([t]), key)[0])

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """The clocks at which the value jumps.

        Args:
            t0: Clock in env steps.
            t1: Clock in env steps.
            key: Stream of random numbers.

        Returns:
            The clocks in ``(t0, t1]``, ascending, from which on another value holds. Continuous drift has none.
        """
        return np.empty(0, dtype=np.int64)

    def _keep_number(self, name: str, **limits: float) -> None:
        """Check a field that must be a number, and keep it as a float."""
        value = check_number(f"{type(self).__name__}: {name}", getattr(self, name), **limits)
        object.__setattr__(self, name, value)

    def _keep_int(self, name: str, *, least: int, unit: str = "env steps") -> None:
        """Check a field that must be a whole number, and keep it as an int."""
        value = check_int(f"{type(self).__name__}: {name}", getattr(self, name), least=least, unit=unit)
        object.__setattr__(self, name, value)

    def _where_changed(self, clocks: Ints, key: Key) -> Ints:
        """The clocks, of some >= 1, at which another value holds than one before."""
        changed: Ints = clocks[self.values(clocks, key) != self.values(clocks - 1, key)]
        return changed

    def _telling_span(self) -> float:
        """Env steps from clock 0 in which one sees what the schedule does."""
        return 12 * self.timescale if math.isfinite(self.timescale) else 1_000.0

    def plot(self, ax: "Axes | None" = None, *, until: float | None = None, seeds: int = 3) -> "Axes":
        """Draw the value over the clock, as `rl_rms.envs.schedules.plotting.draw` does.

        Args:
            ax: Where to draw; None for new axes.
            until: Last clock in env steps; None for some timescales.
            seeds: How many seeds of a random schedule are drawn, >= 1.

        Returns:
            The axes.
        """
        return plot(self, ax, until=until, seeds=seeds)

    def __add__(self, other: "Schedule | float") -> "Schedule":
        """The sum of both values at each clock."""
        if not _is_operand(other):
            return NotImplemented
        return _make("sum", [self, other])

    def __radd__(self, other: float) -> "Schedule":
        return self + other

    def __mul__(self, other: "Schedule | float") -> "Schedule":
        """The product of both values at each clock."""
        if not _is_operand(other):
            return NotImplemented
        return _make("product", [self, other])

    def __rmul__(self, other: float) -> "Schedule":
        return self * other

    def clip(self, low: float | None = None, high: float | None = None) -> "Schedule":
        """The value, or the nearer limit where it is outside; see `Clip`."""
        return _make("clip", self, low, high)

    def reflect(self, low: float | None = None, high: float | None = None) -> "Schedule":
        """The value as mirrors at the limits throw it back; see `Reflect`."""
        return _make("reflect", self, low, high)

    def delay(self, steps: int) -> "Schedule":
        """The same, ``steps`` env steps later; see `Delay`."""
        return _make("delay", self, steps)

    def ahead(self, steps: int) -> "Schedule":
        """The same, ``steps`` env steps earlier; see `Ahead`."""
        return _make("ahead", self, steps)

    def during(self, start: int, end: int, rest: float | None = None) -> "Schedule":
        """The same between two clocks, at rest before and after; see `During`."""
        return _make("during", self, start, end, rest)

    def then(self, second: "Schedule | float", at: int) -> "Schedule":
        """This until clock ``at``, from there on another, begun anew; see `Then`."""
        return _make("then", self, second, at)

    @staticmethod
    def from_config(config: Any) -> "Schedule":
        """Read the YAML form; a bare number is a `Constant`, and a schedule is returned as it is.

        Raises:
            ValueError: If it is no schedule, or has a wrong, missing or impossible argument.

        Examples:
            >>> Schedule.from_config({"sinusoid": {"mean": 9.8, "amplitude": 4.0, "period": 20_000}})
            Sinusoid(mean=9.8, amplitude=4.0, period=20000.0)
            >>> walk = {"random_walk": {"start": 0, "std": 0.1}}
            >>> Schedule.from_config({"sum": [9.8, {"delay": {"schedule": walk, "steps": 5}}]})
            Sum(schedules=(Constant(value=9.8), Delay(schedule=RandomWalk(start=0.0, std=0.1), steps=5)))
        """
        schedule: Schedule = _make("constant", config) if is_number(config) else Schedule._read(config)
        return schedule


SCHEDULES: dict[str, type[Schedule]] = Schedule._classes
"""The schedules by their names in YAML."""


def _make(name: str, *arguments: Any) -> Schedule:
    """A schedule of a class that is defined above this module."""
    return SCHEDULES[name](*arguments)


def read_part(owner: str, config: Any) -> Schedule:
    """A schedule that is an argument of another.

    Raises:
        ValueError: If it is none; names the argument.
    """
    try:
        return Schedule.from_config(config)
    except ValueError as error:
        raise ValueError(f"{owner}: {error}") from error


def _is_operand(other: Any) -> bool:
    return isinstance(other, Schedule) or is_number(other)


def as_schedules(changes: Mapping[str, Any] | None, name: str = "changes") -> dict[str, Schedule]:
    """Read ``{target: schedule}``, where schedules may be in YAML form or bare numbers.

    Args:
        changes: The targets and their schedules; None for none.
        name: The name of ``changes`` in errors.

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
