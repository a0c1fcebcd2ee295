"""The base class of schedules."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number
from rl_rms.envs.configurable import Configurable
from rl_rms.envs.schedules.plotting import plot
from rl_rms.envs.schedules.rng import Floats, Ints, Key
from rl_rms.half_life import is_number
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
    """A value over time, in the unit of the parameter.

    Schedules can be added and multiplied, with each other and with numbers; see `rl_rms.envs.schedules.algebra`.

    Examples:
        >>> from rl_rms.envs.schedules import Key, Sinusoid, Step
        >>> swing = Sinusoid(mean=9.8, amplitude=4.0, period=8)
        >>> (swing * Step(before=1, after=2, at=6)).values([2, 6], Key(seed=0)).round(3).tolist()
        [13.8, 11.6]
    """

    # This attribute makes a NumPy number on the left of + or * call the schedule's operator.
    __array_ufunc__: ClassVar[None] = None

    @abstractmethod
    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values at the given clock readings.

        Args:
            t: Clock readings in env steps, integers >= 0 and below ``2**62`` in any order, shape ``(n,)``.
            key: Stream of random numbers; only random schedules use it.

        Returns:
            Values, shape ``(n,)``.
        """

    @property
    @abstractmethod
    def bounds(self) -> Bounds:
        """Lower and upper limit of the values, which need not reach the limits; infinite without a limit."""

    @property
    def center(self) -> float:
        """The middle of finite bounds, else the value around which the schedule moves."""
        low, high = self.bounds
        return low + (high - low) / 2

    @property
    def amplitude(self) -> float:
        """Half of the range between finite bounds, else an estimate of the standard deviation over time.

        The amplitude of a random walk without two walls is infinite.
        """
        low, high = self.bounds
        return (high - low) / 2

    @property
    def timescale(self) -> float:
        """Autocorrelation time tau in env steps; ``inf`` if the value is constant or its variance is infinite."""
        return self._timescale() if self.amplitude > 0 else math.inf

    @property
    def cycle(self) -> float:
        """Period of the values in env steps; ``inf`` if no period is known."""
        return math.inf

    @abstractmethod
    def _timescale(self) -> float:
        """Compute the autocorrelation time of a schedule whose value changes."""

    @property
    def random(self) -> bool:
        """Whether the values depend on the key."""
        return False

    def half_life(self, *, steps_per_update: float, snr: float) -> float:
        """Estimate the half-life of the exponential average that tracks the value with least mean squared error.

        The laws of `rl_rms.laws` assume one measurement per update, with noise independent of the value. Smooth
        transitions use the law of ramps, and sinusoids have their own law. A schedule made from other schedules
        uses their half-lives. All other schedules use `matched_half_life` with their timescale.

        For jumps at random times to independent levels and for an Ornstein-Uhlenbeck process, the result is
        accurate if it is many updates. For other schedules, the result is accurate if it is short compared with
        the timescale. If the result is a third of the timescale, the best half-life for a sawtooth or a square
        wave is 20 to 30 % shorter.

        Args:
            steps_per_update: Env steps between two measurements, > 0.
            snr: Variance of the value over time divided by the variance of one measurement's noise, >= 0.

        Returns:
            Half-life in updates; ``inf`` if the value is constant, or if the measurements are so noisy that the
            average of all measurements is best.

        Raises:
            ValueError: If an argument is out of range, or the schedule is or contains a random walk without two
                walls, whose variance over time is infinite.

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
        """Compute `half_life` for a schedule that changes, valid arguments and a positive ``snr``."""
        return matched_half_life(self.timescale / steps_per_update, snr)

    def value(self, t: int, key: Key) -> float:
        """Value at one clock reading."""
        return float(self.values(np.array([t]), key)[0])

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings at which the value jumps.

        Args:
            t0: Clock reading before the interval, in env steps.
            t1: Last clock reading of the interval, in env steps.
            key: Stream of random numbers.

        Returns:
            The clock readings in ``(t0, t1]`` at which the value jumps, ascending. Continuous drift has no events.
        """
        return np.empty(0, dtype=np.int64)

    def _keep_number(self, name: str, **limits: float) -> None:
        """Check that a field is a number, and convert it to float."""
        value = check_number(f"{type(self).__name__}: {name}", getattr(self, name), **limits)
        object.__setattr__(self, name, value)

    def _keep_int(self, name: str, *, least: int, unit: str = "env steps") -> None:
        """Check that a field is a whole number, and convert it to int."""
        value = check_int(f"{type(self).__name__}: {name}", getattr(self, name), least=least, unit=unit)
        object.__setattr__(self, name, value)

    def _where_changed(self, clocks: Ints, key: Key) -> Ints:
        """Return the given clock readings (>= 1) at which the value differs from the value one env step before."""
        changed: Ints = clocks[self.values(clocks, key) != self.values(clocks - 1, key)]
        return changed

    def _plot_span(self) -> float:
        """Default length of a plot, in env steps from clock 0."""
        return 12 * self.timescale if math.isfinite(self.timescale) else 1_000.0

    def plot(self, ax: "Axes | None" = None, *, until: float | None = None, seeds: int = 3) -> "Axes":
        """Plot the value over the clock, see `rl_rms.envs.schedules.plotting.plot`.

        Args:
            ax: Matplotlib axes; None for new axes.
            until: Last clock in env steps; None for a length that shows the schedule's behavior.
            seeds: Number of seeds drawn for a random schedule, >= 1.

        Returns:
            The axes.
        """
        return plot(self, ax, until=until, seeds=seeds)

    def __add__(self, other: "Schedule | float") -> "Schedule":
        """Return the sum of this schedule and another schedule or a number."""
        if not _is_operand(other):
            return NotImplemented
        return _make("sum", [self, other])

    def __radd__(self, other: float) -> "Schedule":
        return self + other

    def __mul__(self, other: "Schedule | float") -> "Schedule":
        """Return the product of this schedule and another schedule or a number."""
        if not _is_operand(other):
            return NotImplemented
        return _make("product", [self, other])

    def __rmul__(self, other: float) -> "Schedule":
        return self * other

    def clip(self, low: float | None = None, high: float | None = None) -> "Schedule":
        """Clip the values to limits; see `Clip`."""
        return _make("clip", self, low, high)

    def reflect(self, low: float | None = None, high: float | None = None) -> "Schedule":
        """Reflect the values at limits; see `Reflect`."""
        return _make("reflect", self, low, high)

    def delay(self, steps: int) -> "Schedule":
        """Shift the schedule ``steps`` env steps later; see `Delay`."""
        return _make("delay", self, steps)

    def ahead(self, steps: int) -> "Schedule":
        """Shift the schedule ``steps`` env steps earlier; see `Ahead`."""
        return _make("ahead", self, steps)

    def during(self, start: int, end: int, rest: float | None = None) -> "Schedule":
        """Limit the changes to an interval of the clock; see `During`."""
        return _make("during", self, start, end, rest)

    def then(self, second: "Schedule | float", at: int) -> "Schedule":
        """Continue with another schedule from clock ``at`` on; see `Then`."""
        return _make("then", self, second, at)

    @staticmethod
    def from_config(config: Any) -> "Schedule":
        """Read the YAML form; a bare number becomes a `Constant`, and a schedule is returned unchanged.

        Raises:
            ValueError: If the form is not a schedule, or an argument is unknown, missing or invalid.

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
"""The schedule classes by their names in YAML."""


def _make(name: str, *arguments: Any) -> Schedule:
    """Make a schedule from the YAML name of its class. Importing the class here would be a circular import."""
    return SCHEDULES[name](*arguments)


def read_part(owner: str, config: Any) -> Schedule:
    """Read a schedule that is an argument of another schedule.

    Raises:
        ValueError: If the argument is not a schedule. The message begins with ``owner``, the class of the other
            schedule.
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
        changes: The targets and their schedules; None for no targets.
        name: The name of ``changes`` in errors.

    Raises:
        ValueError: If ``changes`` is not a mapping, or a schedule is invalid. The message names an invalid
            schedule's target.
    """
    if changes is None:
        return {}
    if not isinstance(changes, Mapping):
        raise ValueError(f"{name} must be a mapping of targets to schedules, got {changes!r}")
    schedules = {}
    for target, config in changes.items():
        try:
            schedules[str(target)] = Schedule.from_config(config)
        except ValueError as error:  # noqa: PERF203  # each error names its target
            raise ValueError(f"{name}.{target}: {error}") from error
    return schedules
