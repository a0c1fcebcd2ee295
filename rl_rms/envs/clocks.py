"""Clocks, which count env steps and look up the targets' values at each reading.

`SharedClock` counts the transitions of all sub-environments, which see the same drift. A step that only starts an
episode is not a transition. `SingleClock` is the clock of one environment. With `rl_rms.envs.phase_clocks` and
`rl_rms.envs.independent_clocks`, a target can have a different value in each sub-environment. If sub-environments
are divided among processes, each process multiplies its own count by the number of processes.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import repeat
from operator import length_hint
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs.drift import BLOCK, Block, compute_block, timescale, trace
from rl_rms.envs.noise import NoiseKey
from rl_rms.envs.schedules import Floats, Ints, Schedule

Mask = npt.NDArray[np.bool_]
# A target's value: a scalar for all sub-environments, or shape (num_envs,).
Column = float | npt.NDArray[np.float64]


class Clock(ABC):
    """Counts env steps, and gives the current regime and the current value of each target.

    The regime is the number of readings so far at which a target jumped.

    Attributes:
        seed: Seed of the drift, >= 0.
        is_frozen: Whether env steps leave the reading unchanged. New noise is still drawn at each step.
    """

    seed: int
    # Indices of this process's sub-environments among the sub-environments of all processes, and the total number
    # of sub-environments.
    _indices: Ints
    _num_in_all: int
    # Number of vector steps with a frozen clock since the reading was last set.
    _frozen_steps = 0

    def __init__(self, changes: Mapping[str, Schedule], num_envs: int, shard: tuple[int, int]) -> None:
        rank, size = shard
        self._changes = dict(changes)
        self._indices = rank * num_envs + np.arange(num_envs)
        self._num_in_all = num_envs * size
        # The ratio of the env steps of all processes to the env steps of this process.
        self._rate = size
        # CPython reads an attribute of the instance faster than an attribute of the class.
        self.is_frozen = False

    @property
    @abstractmethod
    def values(self) -> tuple[Column, ...]:
        """The current value of each target, in the order of the schedules."""

    @property
    @abstractmethod
    def regime(self) -> int | Ints:
        """The current regime: a scalar, or shape ``(num_envs,)`` if sub-environments differ."""

    @property
    @abstractmethod
    def reading(self) -> int:
        """Env steps of all sub-environments together."""

    @property
    @abstractmethod
    def readings(self) -> Ints:
        """The reading of each sub-environment in env steps, shape ``(num_envs,)``."""

    @property
    @abstractmethod
    def noise_key(self) -> NoiseKey:
        """The environments that draw random numbers, with their clock readings."""

    @property
    @abstractmethod
    def timescale(self) -> float:
        """The shortest timescale of any target, in env steps of all sub-environments together."""

    @abstractmethod
    def set(self, reading: int, seed: int | None = None) -> None:
        """Set the reading, in env steps of all sub-environments together, and optionally the seed."""

    @abstractmethod
    def advance(self, valid: Mask, number: int) -> None:
        """Count the transitions of a vector step, unless the clock is frozen.

        Args:
            valid: Whether each sub-environment made a transition, shape ``(num_envs,)``.
            number: Number of transitions.
        """

    @abstractmethod
    def values_after(self, valid: Mask) -> tuple[Column, ...]:
        """Return the `values` after a transition of the ``valid`` sub-environments."""

    @abstractmethod
    def oracle(self, readings: Ints) -> dict[str, Floats]:
        """Return the values at ``readings``, shape ``(n,)``, or ``(num_envs, n)`` if sub-environments differ."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the readings and the seed as plain JSON data."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""


class SharedClock(Clock):
    """One clock for all sub-environments. The values of a whole block of readings are computed at once.

    Args:
        changes: Targets and their schedules.
        seed: Seed of the drift, >= 0.
        num_envs: Number of sub-environments.
        shard: See `rl_rms.envs.NonStationaryVector`.

    Attributes:
        index: Position of the reading in the current block of readings.
    """

    index: int
    # The values of each target in the current block of readings, and the regimes in this block.
    _columns: Any
    _regimes: Any
    # Number of readings in a block.
    _span = BLOCK
    # Index of the sub-environment whose random numbers the schedules use.
    _env_index = 0
    _block: Block
    # First reading of the current block; -1 if there is no block.
    _start = -1

    def __init__(
        self, changes: Mapping[str, Schedule], seed: int, num_envs: int, shard: tuple[int, int] = (0, 1)
    ) -> None:
        super().__init__(changes, num_envs, shard)
        self.seed = seed
        self.set(0)

    @property
    def values(self) -> tuple[Column, ...]:
        """The current value of each target, in the order of the schedules."""
        index = self.index
        return tuple([column[index] for column in self._columns])

    @property
    def regime(self) -> int | Ints:
        """The current regime."""
        regime: int = self._regimes[self.index]
        return regime

    @property
    def reading(self) -> int:
        """Env steps of all sub-environments together."""
        return self._start + self.index

    @property
    def readings(self) -> Ints:
        """The reading, repeated for each sub-environment, shape ``(num_envs,)``."""
        return np.full(self._indices.size, self.reading, dtype=np.int64)

    @property
    def noise_key(self) -> NoiseKey:
        """The noise key, in which all sub-environments have the same drift but separate noise."""
        n = self._indices.size
        now = self.reading + self._frozen_steps
        return NoiseKey(self.seed, (self._env_index,) * n, tuple(self._indices.tolist()), (now,) * n)

    @property
    def changes(self) -> dict[str, Schedule]:
        """Targets and their schedules."""
        return dict(self._changes)

    @changes.setter
    def changes(self, changes: Mapping[str, Schedule]) -> None:
        reading = self.reading
        self._changes = dict(changes)
        self._start = -1
        self.set(reading)

    @property
    def timescale(self) -> float:
        """The shortest timescale of any target, in env steps of all sub-environments together."""
        return timescale(self._changes)

    def set(self, reading: int, seed: int | None = None) -> None:
        """Set the reading, and optionally the seed."""
        seed = self.seed if seed is None else seed
        index = reading % self._span
        start = reading - index
        # `frozen` often sets a reading of the current block. Regimes are counted from 0, so another block takes
        # long to compute if many env steps were made.
        is_current = (start, seed) == (self._start, self.seed)
        self.seed, self._start, self._frozen_steps = seed, start, 0
        if not is_current:
            self._load(is_next=False)
        self.index = index

    def advance(self, valid: Mask | None = None, number: int = 1) -> None:
        """Count the transitions of all sub-environments, unless the clock is frozen."""
        if self.is_frozen:
            self._frozen_steps += 1
            return
        index = self.index + number * self._rate
        while index >= self._span:
            index -= self._span
            self._start += self._span
            self._load(is_next=True)
        self.index = index

    def values_after(self, valid: Mask) -> tuple[Column, ...]:
        """Return the `values` after a transition of the ``valid`` sub-environments."""
        made = 0 if self.is_frozen else int(np.count_nonzero(valid)) * self._rate
        return tuple(values[..., 0] for values in self.oracle(np.array([self.reading + made])).values())

    def oracle(self, readings: Ints) -> dict[str, Floats]:
        """Return the values at ``readings``, shape ``(n,)``."""
        return trace(self._changes, readings, self.seed, self._env_index)

    def state_dict(self) -> dict[str, Any]:
        """Return the reading and the seed."""
        return {"clock": self.reading, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.set(int(state["clock"]), int(state["seed"]))

    def _load(self, *, is_next: bool) -> None:
        """Compute the block that begins at ``_start``. With ``is_next``, the new block continues the old block."""
        before = self._block if is_next else None
        self._block = compute_block(self._changes, self._start, self.seed, self._env_index, before)
        self._unpack()

    def _unpack(self) -> None:
        # Indexing a memoryview returns Python numbers, and is much faster than indexing an array.
        self._columns = [memoryview(column) for column in np.ascontiguousarray(self._block.values.T)]
        self._regimes = memoryview(self._block.regimes)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        # Memoryviews cannot be copied or pickled.
        return {name: value for name, value in self.__dict__.items() if name not in ("_columns", "_regimes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._unpack()


class SingleClock(SharedClock):
    """The clock of one environment.

    Attributes:
        now: The current value if there is one target, else the tuple of the current values.
        ahead: An iterator over the later values of ``now`` in the block, until the regime changes. Assigning the
            next item of the iterator to ``now`` advances the clock by one.
        regime: The current regime.
    """

    now: Any
    ahead: Iterator[Any]
    regime: int = 0
    _columns: list[list[float]]

    def __init__(self, changes: Mapping[str, Schedule], seed: int, env_index: int = 0) -> None:
        self._env_index = env_index
        super().__init__(changes, seed, 1)
        self._indices += env_index

    @property
    def values(self) -> tuple[Column, ...]:
        """The current value of each target, in the order of the schedules."""
        return (self.now,) if len(self._columns) == 1 else self.now

    @property
    def index(self) -> int:
        """Position of the reading in the current block of readings."""
        return self._end - 1 - length_hint(self._left)

    @index.setter
    def index(self, index: int) -> None:
        self.regime = self._regimes[index]
        self._end = bisect_right(self._regimes, self.regime)
        columns: list[Iterator[Any]] = [iter(column[index : self._end]) for column in self._columns]
        self._left = columns[0] if columns else repeat((), self._end - index)
        # The tuples are made one at a time, because thousands of tuples at once would start Python's garbage
        # collector.
        self.ahead = zip(*columns, strict=True) if len(columns) > 1 else self._left
        self.now = next(self.ahead)

    def advance(self, valid: Mask | None = None, number: int = 1) -> None:
        """Count one transition, unless the clock is frozen."""
        if not self.is_frozen:
            for now in self.ahead:
                self.now = now
                return
        super().advance()

    def _unpack(self) -> None:
        # A list gives its numbers faster than a memoryview.
        self._columns = self._block.values.T.tolist()
        self._regimes = memoryview(self._block.regimes)  # type: ignore[arg-type]

    def __getstate__(self) -> dict[str, Any]:
        # Pickling an iterator over a list would also pickle the list.
        state = super().__getstate__()
        return {**{name: state[name] for name in state if name not in ("ahead", "_left")}, "index": self.index}

    def __setstate__(self, state: dict[str, Any]) -> None:
        index = state.pop("index")
        super().__setstate__(state)
        self.index = index
