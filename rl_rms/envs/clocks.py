"""The clocks of a vector environment: one that all sub-environments share, or one for each.

A shared clock counts the true transitions of all of them, as one learner lives them; all see the same drift, at
the same moment or each at another phase of it. Independent clocks count each sub-environment's own, and each
sub-environment has its own random numbers. Where the sub-environments of a world are spread over processes, each
process has the clocks of its part, and counts what it sees for what all see.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs.drift import BLOCK, Block, compute_block, count_regimes, regime_changes, timescale, trace
from rl_rms.envs.noise import Moment
from rl_rms.envs.schedules import Floats, Ints, Key, Schedule, stream_of

Mask = npt.NDArray[np.bool_]
# A target's value: one for all sub-environments, or one for each, shape (num_envs,).
Column = float | npt.NDArray[np.float64]


class Clocks(ABC):
    """What holds in the sub-environments of a vector environment, and when.

    Attributes:
        seed: Seed of the drift, >= 0.
        columns: Value of each target now, in the order of the schedules.
        regime: The regime now: of all, or of each, shape ``(num_envs,)``.
        is_frozen: Whether the clocks stand still; chance does not.
    """

    seed: int
    columns: tuple[Column, ...]
    regime: int | Ints
    is_frozen = False
    # Which sub-environments of a world these are, and how many it has.
    _rows: Ints
    _num_in_world: int
    # Vector steps that a clock has stood still for: chance goes on.
    _frozen_steps = 0

    @property
    @abstractmethod
    def clock(self) -> int:
        """Env steps that all sub-environments have lived together."""

    @property
    @abstractmethod
    def clocks(self) -> Ints:
        """The reading by which each sub-environment goes, in env steps, shape ``(num_envs,)``."""

    @property
    @abstractmethod
    def moment(self) -> Moment:
        """Who draws numbers by chance, and when."""

    @property
    @abstractmethod
    def timescale(self) -> float:
        """The shortest timescale of any target, in env steps of all sub-environments together."""

    @abstractmethod
    def set(self, clock: int, seed: int | None = None) -> None:
        """Set the clock, in env steps of all together, and the seed where one is given."""

    @abstractmethod
    def advance(self, valid: Mask, number: int) -> None:
        """Count the true transitions of a vector step, unless the clocks are frozen.

        Args:
            valid: Where there was one, shape ``(num_envs,)``.
            number: How many there were.
        """

    @abstractmethod
    def columns_after(self, valid: Mask) -> tuple[Column, ...]:
        """The values that will hold after these transitions, in the order of the schedules."""

    @abstractmethod
    def oracle(self, clocks: Ints) -> dict[str, Floats]:
        """Values at other readings, shape ``(n,)``; where sub-environments differ ``(num_envs, n)``."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Readings and seed as plain JSON data."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""


class SharedClock(Clocks):
    """One clock for all.

    Args:
        changes: Targets and their schedules.
        seed: Seed of the drift, >= 0.
        num_envs: Number of sub-environments.
        shard: See `rl_rms.envs.NonStationaryVector`.
    """

    _block: Block
    regime: int | Ints = 0
    # Readings that are prepared at once.
    _span = BLOCK

    def __init__(
        self, changes: Mapping[str, Schedule], seed: int, num_envs: int, shard: tuple[int, int] = (0, 1)
    ) -> None:
        self._changes = dict(changes)
        self._num_envs = num_envs
        self._rows, self._num_in_world = _rows(num_envs, shard)
        self._indices = tuple(self._rows.tolist())
        # Env steps of all parts for one of this one.
        self._rate = shard[1]
        self.set(0, seed)

    @property
    def clock(self) -> int:
        """Env steps that all sub-environments have lived together."""
        return self._clock

    @property
    def clocks(self) -> Ints:
        """The one clock's reading for each."""
        return np.full(self._num_envs, self._clock, dtype=np.int64)

    @property
    def moment(self) -> Moment:
        """One world, in which each sub-environment draws its own noise."""
        n = self._num_envs
        return Moment(self.seed, (0,) * n, self._indices, (self._clock + self._frozen_steps,) * n)

    @property
    def changes(self) -> dict[str, Schedule]:
        """Targets and their schedules."""
        return dict(self._changes)

    @changes.setter
    def changes(self, changes: Mapping[str, Schedule]) -> None:
        self._changes = dict(changes)
        self.set(self._clock)

    @property
    def timescale(self) -> float:
        """The shortest timescale of any target: the clock counts the env steps of all."""
        return timescale(self._changes)

    def set(self, clock: int, seed: int | None = None) -> None:
        """Set the clock, and the seed where one is given."""
        self.seed = self.seed if seed is None else seed
        self._clock = clock
        self._frozen_steps = 0
        self._start = clock - clock % self._span
        self._load(goes_on=False)
        self._read()

    def advance(self, valid: Mask, number: int) -> None:
        """Count the true transitions of all."""
        if self.is_frozen:
            self._frozen_steps += 1
            return
        self._clock += number * self._rate
        while self._clock - self._start >= self._span:
            self._start += self._span
            self._load(goes_on=True)
        self._read()

    def columns_after(self, valid: Mask) -> tuple[Column, ...]:
        """The values that will hold after these transitions, in the order of the schedules."""
        clock = self._clock if self.is_frozen else self._clock + int(np.count_nonzero(valid)) * self._rate
        return tuple(values[..., 0] for values in self.oracle(np.array([clock])).values())

    def oracle(self, clocks: Ints) -> dict[str, Floats]:
        """Values at other readings, shape ``(n,)``."""
        return trace(self._changes, clocks, self.seed)

    def state_dict(self) -> dict[str, Any]:
        """Reading and seed."""
        return {"clock": self.clock, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self.set(int(state["clock"]), int(state["seed"]))

    def _load(self, *, goes_on: bool) -> None:
        """Compute what holds from ``_start`` on; ``goes_on`` from the block before it."""
        before = self._block if goes_on else None
        self._block = compute_block(self._changes, self._start, self.seed, before=before)
        self._view()

    def _view(self) -> None:
        # Views give Python's own numbers, in a fraction of the time that an array takes.
        self._values = [memoryview(column) for column in np.ascontiguousarray(self._block.values.T)]
        self._regimes = memoryview(self._block.regimes)  # type: ignore[arg-type]

    def _read(self) -> None:
        """Look up what holds at the reading."""
        index = self._clock - self._start
        self.columns = tuple([values[index] for values in self._values])
        regime = self._regimes[index]
        if regime != self.regime:
            # The same object as long as it is the same number, which tells at a glance.
            self.regime = regime

    def __getstate__(self) -> dict[str, Any]:
        # Views can be neither copied nor pickled.
        return {name: value for name, value in self.__dict__.items() if name not in ("_values", "_regimes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._view()


class PhaseClocks(SharedClock):
    """One clock, by which sub-environments live in the same world at evenly spread phases of it.

    Sub-environment ``i`` of ``n`` is ``i / n`` of each target's cycle ahead of the clock; of its timescale where
    it has no cycle. Where nothing changes they are alike.
    """

    # Each one's regime before the readings that are prepared, and its changes in these.
    _before: Ints
    _events: list[Ints]
    _next_event: int

    def __init__(
        self, changes: Mapping[str, Schedule], seed: int, num_envs: int, shard: tuple[int, int] = (0, 1)
    ) -> None:
        rows, num_in_world = _rows(num_envs, shard)
        self._span = BLOCK * num_in_world
        shares = rows / num_in_world
        self._offsets = {target: _phases(schedule, shares) for target, schedule in changes.items()}
        self._each = [
            {target: schedule.ahead(int(self._offsets[target][i])) for target, schedule in changes.items()}
            for i in range(num_envs)
        ]
        super().__init__(changes, seed, num_envs, shard)

    def oracle(self, clocks: Ints) -> dict[str, Floats]:
        """Values at other readings, shape ``(num_envs, n)``."""
        each = [trace(changes, clocks, self.seed) for changes in self._each]
        return {target: np.stack([one[target] for one in each]) for target in self._changes}

    def _view(self) -> None:
        """There are no blocks of values."""

    def _load(self, *, goes_on: bool) -> None:
        """Find each one's regime before ``_start``, and its changes in the readings prepared from there."""
        first, last = self._start - 1, self._start + self._span - 1
        if goes_on:
            self._before = self._before + np.array([events.size for events in self._events])
        else:
            counts = [count_regimes(one, max(first, 0), self.seed) for one in self._each]
            self._before = np.array(counts, dtype=np.int64)
        self._events = [regime_changes(one, max(first, 0), last, self.seed) for one in self._each]
        self._next_event = self._start

    def _read(self) -> None:
        # Blocks of values would mostly be of readings that one clock for many passes over.
        self.columns = tuple(
            schedule.values(self._clock + self._offsets[target], Key(self.seed, stream_of(target)))
            for target, schedule in self._changes.items()
        )
        if self._clock >= self._next_event:
            passed = [int(np.searchsorted(events, self._clock, side="right")) for events in self._events]
            self.regime = self._before + passed
            ahead = [
                int(events[one]) for events, one in zip(self._events, passed, strict=True) if one < events.size
            ]
            self._next_event = min(ahead, default=self._start + self._span)


class IndependentClocks(Clocks):
    """One clock for each.

    Args:
        changes: Targets and their schedules.
        seed: Seed of the drift, >= 0; sub-environment ``i`` has the stream of ``env_index=i``.
        num_envs: Number of sub-environments.
        shard: See `rl_rms.envs.NonStationaryVector`.
    """

    _clocks: Ints
    # Where each one's reading stands in the values of all blocks, one after the other.
    _at: Ints
    # Vector steps for which no block can come to its end.
    _steps_left: int

    def __init__(
        self, changes: Mapping[str, Schedule], seed: int, num_envs: int, shard: tuple[int, int] = (0, 1)
    ) -> None:
        self.seed = seed
        self._changes = dict(changes)
        self._rows, self._num_in_world = _rows(num_envs, shard)
        self._places = np.arange(num_envs)
        self._rate = shard[1]
        self._starts = np.zeros(num_envs, dtype=np.int64)
        self._values = np.empty((num_envs * BLOCK, len(changes)))
        self._regimes = np.empty(num_envs * BLOCK, dtype=np.int64)
        self._set(np.zeros(num_envs, dtype=np.int64))

    @property
    def clock(self) -> int:
        """Env steps that all sub-environments have lived together."""
        return int(self._clocks.sum()) * self._rate

    @property
    def clocks(self) -> Ints:
        """Each one's own env steps."""
        return self._clocks.copy()

    @property
    def moment(self) -> Moment:
        """A world for each."""
        indices = tuple(self._rows.tolist())
        return Moment(self.seed, indices, indices, tuple((self._clocks + self._frozen_steps).tolist()))

    @property
    def timescale(self) -> float:
        """The shortest timescale of any target; all together live ``num_envs`` env steps in one of each."""
        return timescale(self._changes) * self._num_in_world

    def set(self, clock: int, seed: int | None = None) -> None:
        """Set the clocks to equal shares of ``clock``, the first ones one more where it does not divide."""
        self.seed = self.seed if seed is None else seed
        share, rest = divmod(clock, self._num_in_world)
        self._set(share + (self._rows < rest))

    def advance(self, valid: Mask, number: int) -> None:
        """Count each one's own."""
        if self.is_frozen:
            self._frozen_steps += 1
            return
        if number == valid.size:
            self._clocks += 1
            self._at += 1
        else:
            self._clocks += valid
            self._at += valid
        self._steps_left -= 1
        if self._steps_left == 0:
            for i in np.flatnonzero(self._clocks - self._starts == BLOCK).tolist():
                self._load(i, int(self._clocks[i]), goes_on=True)
            self._look_ahead()
        self._read()

    def columns_after(self, valid: Mask) -> tuple[Column, ...]:
        """The values that will hold after these transitions, in the order of the schedules."""
        clocks = self._clocks if self.is_frozen else self._clocks + valid
        rows = self._rows.tolist()
        each = [trace(self._changes, clocks[i : i + 1], self.seed, row) for i, row in enumerate(rows)]
        return tuple(np.concatenate([one[target] for one in each]) for target in self._changes)

    def oracle(self, clocks: Ints) -> dict[str, Floats]:
        """Values at other readings of each one's own clock, shape ``(num_envs, n)``."""
        each = [trace(self._changes, clocks, self.seed, i) for i in self._rows.tolist()]
        return {target: np.stack([one[target] for one in each]) for target in self._changes}

    def state_dict(self) -> dict[str, Any]:
        """Readings and seed."""
        return {"clocks": self._clocks.tolist(), "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self.seed = int(state["seed"])
        self._set(np.array(state["clocks"], dtype=np.int64))

    def _set(self, clocks: Ints) -> None:
        self._clocks = clocks.astype(np.int64)
        self._frozen_steps = 0
        for i, clock in enumerate(clocks.tolist()):
            self._load(i, clock - clock % BLOCK, goes_on=False)
        self._look_ahead()
        self._read()

    def _read(self) -> None:
        self.columns = tuple(self._values.take(self._at, axis=0).T)
        self.regime = self._regimes.take(self._at)

    def _load(self, i: int, start: int, *, goes_on: bool) -> None:
        block = slice(i * BLOCK, (i + 1) * BLOCK)
        before = Block(self._values[block], self._regimes[block]) if goes_on else None
        row = int(self._rows[i])
        self._values[block], self._regimes[block] = compute_block(self._changes, start, self.seed, row, before)
        self._starts[i] = start

    def _look_ahead(self) -> None:
        index = self._clocks - self._starts
        self._at = self._places * BLOCK + index
        self._steps_left = BLOCK - int(index.max())


def _rows(num_envs: int, shard: tuple[int, int]) -> tuple[Ints, int]:
    """Which sub-environments of a world a part of it has, and how many the world has."""
    rank, size = shard
    return rank * num_envs + np.arange(num_envs), num_envs * size


def _phases(schedule: Schedule, shares: Floats) -> Ints:
    """Shares of a schedule's cycle in env steps, or of its timescale where it has none."""
    span = schedule.cycle if math.isfinite(schedule.cycle) else schedule.timescale
    return np.rint(shares * (span if math.isfinite(span) else 0.0)).astype(np.int64)
