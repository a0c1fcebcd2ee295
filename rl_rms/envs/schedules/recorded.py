"""Schedules from recorded values or from a user's function."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from rl_rms.envs.checks import check_int, check_number, check_one_of
from rl_rms.envs.schedules.base import Bounds, Schedule
from rl_rms.envs.schedules.rng import Floats, Ints, Key

Between = Literal["hold", "linear"]
End = Literal["hold", "repeat"]
TRACE_SUFFIXES = (".csv", ".npy")
"""Suffixes of the files that `Trace` reads."""


@dataclass(frozen=True, init=False, repr=False)
class Trace(Schedule):
    """Recorded values at regular intervals.

    The timescale is the lag at which the autocorrelation first falls below ``1 / e``. If the autocorrelation never
    falls so low, the timescale is the length of the recording.

    Args:
        values: The values, or the path of a file: ``.npy`` with a one-dimensional array, or ``.csv`` with one
            number per line. The file is read once. Relative paths start at the working directory.
        every: Env steps between two values, >= 1.
        between: ``hold`` keeps each value until the next value. ``linear`` interpolates.
        end: ``hold`` keeps the last value after the recording's end. ``repeat`` starts again with the first value.

    Raises:
        ValueError: If an argument is invalid, or the file cannot be read.

    Examples:
        >>> trace = Trace([1.0, 3.0, 2.0], every=10, end="repeat")
        >>> trace.values([0, 9, 10, 29, 30], Key(seed=0)).tolist()
        [1.0, 1.0, 3.0, 2.0, 1.0]
    """

    name: ClassVar[str] = "trace"
    _kept_as: ClassVar[Mapping[str, str]] = {"values": "_source_or_samples"}

    source: str | None
    samples: tuple[float, ...]
    every: int
    between: Between
    end: End

    def __init__(
        self,
        values: Sequence[float] | npt.NDArray[Any] | str | Path,
        every: int = 1,
        between: Between = "hold",
        end: End = "hold",
    ) -> None:
        from_file = isinstance(values, (str, Path))
        samples = _read(Path(values)) if isinstance(values, (str, Path)) else values
        object.__setattr__(self, "source", str(values) if from_file else None)
        object.__setattr__(self, "samples", _check_samples(samples, f" in {values}" if from_file else ""))
        object.__setattr__(self, "every", check_int("Trace: every", every, least=1, unit="env steps"))
        for name, value, allowed in (("between", between, get_args(Between)), ("end", end, get_args(End))):
            check_one_of(f"Trace: {name}", value, allowed)
            object.__setattr__(self, name, value)

    @property
    def _source_or_samples(self) -> str | tuple[float, ...]:
        return self.samples if self.source is None else self.source

    @cached_property
    def _array(self) -> Floats:
        return np.array(self.samples)

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the recorded or interpolated values."""
        index, rest = np.divmod(np.asarray(t), self.every)
        held = self._array[self._wrap(index)]
        if self.between == "hold":
            return held
        share = rest / self.every
        following = self._array[self._wrap(index + 1)]
        # The rounded sum may lie beyond the two values.
        lowest, highest = np.minimum(held, following), np.maximum(held, following)
        return np.clip((1 - share) * held + share * following, lowest, highest)

    @property
    def bounds(self) -> Bounds:
        """The lowest value and the highest."""
        return float(self._array.min()), float(self._array.max())

    @property
    def cycle(self) -> float:
        """The length of the recording if it repeats, else infinite."""
        return float(len(self.samples) * self.every) if self.end == "repeat" else math.inf

    def _timescale(self) -> float:
        values = _near_one(self._array)
        deviations = _near_one(values - values.mean())
        number = len(deviations)
        # Because of the zero padding, the recording's end does not correlate with its beginning.
        power = np.abs(np.fft.rfft(deviations, 2 * number)) ** 2
        products = np.fft.irfft(power, 2 * number)[:number] / np.arange(number, 0, -1)
        correlation = products / products[0]
        below = np.flatnonzero(correlation < math.exp(-1))
        if not below.size:
            return float(number * self.every)
        lag = int(below[0])
        # Linear interpolation between the last lag above 1 / e and the first lag below 1 / e.
        share = (correlation[lag - 1] - math.exp(-1)) / (correlation[lag - 1] - correlation[lag])
        return float((lag - 1 + share) * self.every)

    def _plot_span(self) -> float:
        return 1.25 * len(self.samples) * self.every

    def events(self, t0: int, t1: int, key: Key) -> Ints:
        """Return the clock readings in ``(t0, t1]`` at which the value jumps; none if values are interpolated."""
        if self.between == "linear":
            return np.empty(0, dtype=np.int64)
        last = t1 if self.end == "repeat" else min(t1, (len(self.samples) - 1) * self.every)
        draws = np.arange(t0 // self.every + 1, last // self.every + 1, dtype=np.int64)
        return self._where_changed(draws * self.every, key)

    def _wrap(self, index: Ints) -> Ints:
        number = len(self.samples)
        return index % number if self.end == "repeat" else np.minimum(index, number - 1)


@dataclass(frozen=True, init=False, repr=False)
class Function(Schedule, in_yaml=False):
    """A user's function of the clock, without a YAML form, finite bounds or events.

    `values` raises a ValueError if the function returns an array of a wrong shape.

    Args:
        function: Pure function that takes clock readings in env steps, shape ``(n,)``, and returns values of the
            same shape. To pickle the schedule, define the function in a module.
        timescale: Autocorrelation time of the values in env steps, > 0, stored as ``tau``.
        amplitude: Standard deviation of the values over time or half of their range, >= 0, stored as
            ``deviation``.
        center: The value around which the values move.

    Raises:
        ValueError: If an argument is invalid.

    Examples:
        >>> import numpy as np
        >>> Function(np.sqrt, timescale=1_000, amplitude=30).values([0, 4, 9], Key(seed=0)).tolist()
        [0.0, 2.0, 3.0]
    """

    name: ClassVar[str] = "function"
    _kept_as: ClassVar[Mapping[str, str]] = {"timescale": "tau", "amplitude": "deviation", "center": "middle"}

    function: Callable[[Ints], npt.ArrayLike]
    tau: float
    deviation: float
    middle: float

    def __init__(
        self,
        function: Callable[[Ints], npt.ArrayLike],
        timescale: float,
        amplitude: float,
        center: float = 0.0,
    ) -> None:
        if not callable(function):
            raise ValueError(f"Function: function must be a function of clock readings, got {function!r}")
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "tau", check_number("Function: timescale", timescale, above=0))
        object.__setattr__(self, "deviation", check_number("Function: amplitude", amplitude, least=0))
        object.__setattr__(self, "middle", check_number("Function: center", center))

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the values that the function returns."""
        clocks = np.asarray(t, dtype=np.int64)
        values = np.asarray(self.function(clocks), dtype=np.float64)
        if values.shape != clocks.shape:
            raise ValueError(
                f"Function: function must return one value for each clock reading, got shape {values.shape} for "
                f"clock readings of shape {clocks.shape}"
            )
        return values

    @property
    def bounds(self) -> Bounds:
        """Minus and plus infinity, because the bounds are unknown."""
        return -math.inf, math.inf

    @property
    def center(self) -> float:
        """``center``, as given to the constructor."""
        return self.middle

    @property
    def amplitude(self) -> float:
        """``amplitude``, as given to the constructor."""
        return self.deviation

    def _timescale(self) -> float:
        return self.tau

    def to_config(self) -> dict[str, Any]:
        """Raise an error, because YAML cannot contain functions.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{self!r} cannot be written as YAML, because YAML cannot hold Python functions; write its "
            "values to a file and use trace"
        )


def _read(path: Path) -> npt.NDArray[Any]:
    """Read the numbers in a file.

    Raises:
        ValueError: If the file is missing, has a wrong suffix, or does not contain numbers.
    """
    if path.suffix not in TRACE_SUFFIXES:
        raise ValueError(f"Trace: values must be numbers or the path of a .csv or .npy file, got {str(path)!r}")
    if not path.is_file():
        raise ValueError(f"Trace: there is no file {str(path)!r}; relative paths start at {str(Path.cwd())!r}")
    if path.suffix == ".npy":
        try:
            numbers: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise ValueError(f"Trace: {str(path)!r} is not a .npy file of numbers: {error}") from error
        return numbers
    try:
        lines = [line.strip() for line in path.read_text().splitlines()]
        return np.array([float(line) for line in lines if line])
    except (OSError, ValueError) as error:
        raise ValueError(f"Trace: {str(path)!r} must contain one number per line: {error}") from error


def _near_one(values: Floats) -> Floats:
    """Scale values by a power of two, so that neither their sum nor their squares overflow."""
    scaled: Floats = np.ldexp(values, -math.frexp(np.abs(values).max())[1])
    return scaled


def _check_samples(samples: Any, where: str) -> tuple[float, ...]:
    """Convert recorded values to a tuple.

    Raises:
        ValueError: If the values are not a list of finite numbers.
    """
    try:
        array = np.asarray(samples)
    except ValueError:
        array = np.empty(())
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(
            f"Trace: values must be a list of finite numbers{where}, got shape {array.shape} of {array.dtype}"
        )
    return tuple(float(value) for value in array)
