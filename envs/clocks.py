"""The clocks of a vector environment: one that all sub-environments share, or one for each.

A shared clock counts the true transitions of all of them, as one learner lives them; all see the same drift, at
the same moment or each at another phase of it. Independent clocks count each sub-environment's own, and each
sub-environment has its own random numbers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs.chance import Moment
from rl_rms.envs.drift import BLOCK, Block, compute_block, timescale, trace
from rl_rms.envs.schedules import Floats, Ints, Schedule

Mask = npt.NDArray[np.bool_]
# A target's value: one for all sub-environments, or one for each, shape (num_envs,).
Column = float | npt.NDArray[np.float64]


class Clocks(ABC):
    """What holds in the sub-environments of a vector environment, and when.

    Attributes:
        seed: Seed of the drift, >= 0.
        is_frozen: Whether the clocks stand still; chance does not.
    """

    seed: int
    is_frozen = False
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
    def columns(self) -> tuple[Column, ...]:
        """Value of each target now, in the order of the schedules."""

    @property
    @abstractmethod
    def regime(self) -> int | Ints:
        """The regime now: of all, or of each, shape ``(num_envs,)``."""

    @property
    @abstractmethod
    def timescale(self) -> float:
        """The shortest timescale of any target, in env steps of all sub-environments together."""

    @abstractmethod
    def set(self, clock: int, seed: int | None = None) -> None:
        """Set the clock, in env steps of all together, and the seed where one is given."""

    @abstractmethod
    def advance(self, valid: Mask) -> None:
        """Count the true transitions of a vector step, shape ``(num_envs,)``, unless the clocks are frozen."""

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
    """

    _block: Block

    def __init__(self, changes: Mapping[str, Schedule], seed: int, num_envs: int) -> None:
        self._changes = dict(changes)
        self._num_envs = num_envs
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
        return Moment(self.seed, (0,) * n, tuple(range(n)), (self._clock + self._frozen_steps,) * n)

    @property
    def columns(self) -> tuple[Column, ...]:
        """One value for all."""
        return tuple(self._block.values[self._clock - self._start].tolist())

    @property
    def regime(self) -> int | Ints:
        """The regime of all."""
        return int(self._block.regimes[self._clock - self._start])

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
        self._start = clock - clock % BLOCK
        self._load(goes_on=False)

    def advance(self, valid: Mask) -> None:
        """Count the true transitions of all."""
        if self.is_frozen:
            self._frozen_steps += 1
            return
        self._clock += int(np.count_nonzero(valid))
        while self._clock >= self._start + BLOCK:
            self._start += BLOCK
            self._load(goes_on=True)

    def columns_after(self, valid: Mask) -> tuple[Column, ...]:
        """The values that will hold after these transitions, in the order of the schedules."""
        clock = self._clock if self.is_frozen else self._clock + int(np.count_nonzero(valid))
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


class PhaseClocks(SharedClock):
    """One clock, by which sub-environments live in the same world at evenly spread phases of it.

    Sub-environment ``i`` of ``n`` is ``i / n`` of each target's cycle ahead of the clock; of its timescale where
    it has no cycle. Where nothing changes they are alike.
    """

    _blocks: list[Block]

    def __init__(self, changes: Mapping[str, Schedule], seed: int, num_envs: int) -> None:
        self._each = [
            {target: schedule.ahead(_phase(schedule, i / num_envs)) for target, schedule in changes.items()}
            for i in range(num_envs)
        ]
        super().__init__(changes, seed, num_envs)

    @property
    def columns(self) -> tuple[Column, ...]:
        """One value for each."""
        return tuple(self._values[:, self._clock - self._start].T)

    @property
    def regime(self) -> Ints:
        """The regime of each."""
        regimes: Ints = self._regimes[:, self._clock - self._start]
        return regimes

    def oracle(self, clocks: Ints) -> dict[str, Floats]:
        """Values at other readings, shape ``(num_envs, n)``."""
        each = [trace(changes, clocks, self.seed) for changes in self._each]
        return {target: np.stack([one[target] for one in each]) for target in self._changes}

    def _load(self, *, goes_on: bool) -> None:
        before: Sequence[Block | None] = self._blocks if goes_on else [None] * self._num_envs
        self._blocks = [
            compute_block(changes, self._start, self.seed, before=block)
            for changes, block in zip(self._each, before, strict=True)
        ]
        self._values = np.stack([block.values for block in self._blocks])
        self._regimes = np.stack([block.regimes for block in self._blocks])


class IndependentClocks(Clocks):
    """One clock for each.

    Args:
        changes: Targets and their schedules.
        seed: Seed of the drift, >= 0; sub-environment ``i`` has the stream of ``env_index=i``.
        num_envs: Number of sub-environments.
    """

    _clocks: Ints
    _index: Ints

    def __init__(self, changes: Mapping[str, Schedule], seed: int, num_envs: int) -> None:
        self.seed = seed
        self._changes = dict(changes)
        self._rows = np.arange(num_envs)
        self._starts = np.zeros(num_envs, dtype=np.int64)
        self._values = np.empty((num_envs, BLOCK, len(changes)))
        self._regimes = np.empty((num_envs, BLOCK), dtype=np.int64)
        self._set(np.zeros(num_envs, dtype=np.int64))

    @property
    def clock(self) -> int:
        """Env steps that all sub-environments have lived together."""
        return int(self._clocks.sum())

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
    def columns(self) -> tuple[Column, ...]:
        """One value for each."""
        return tuple(self._values[self._rows, self._index].T)

    @property
    def regime(self) -> Ints:
        """The regime of each."""
        regimes: Ints = self._regimes[self._rows, self._index]
        return regimes

    @property
    def timescale(self) -> float:
        """The shortest timescale of any target; all together live ``num_envs`` env steps in one of each."""
        return timescale(self._changes) * len(self._rows)

    def set(self, clock: int, seed: int | None = None) -> None:
        """Set the clocks to equal shares of ``clock``, the first ones one more where it does not divide."""
        self.seed = self.seed if seed is None else seed
        share, rest = divmod(clock, len(self._rows))
        self._set(share + (self._rows < rest))

    def advance(self, valid: Mask) -> None:
        """Count each one's own."""
        if self.is_frozen:
            self._frozen_steps += 1
            return
        self._clocks = self._clocks + valid
        self._index = self._clocks - self._starts
        for i in np.flatnonzero(self._index == BLOCK).tolist():
            self._load(i, int(self._clocks[i]), Block(self._values[i], self._regimes[i]))
            self._index[i] = 0

    def columns_after(self, valid: Mask) -> tuple[Column, ...]:
        """The values that will hold after these transitions, in the order of the schedules."""
        clocks = self._clocks if self.is_frozen else self._clocks + valid
        each = [trace(self._changes, clocks[i : i + 1], self.seed, i) for i in self._rows.tolist()]
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
        self._clocks = clocks
        self._frozen_steps = 0
        self._index = clocks % BLOCK
        for i, start in enumerate((clocks - self._index).tolist()):
            self._load(i, start)

    def _load(self, i: int, start: int, before: Block | None = None) -> None:
        self._starts[i] = start
        self._values[i], self._regimes[i] = compute_block(self._changes, start, self.seed, i, before)


def _phase(schedule: Schedule, share: float) -> int:
    """A share of a schedule's cycle in env steps, or of its timescale where it has none."""
    span = schedule.cycle if math.isfinite(schedule.cycle) else schedule.timescale
    return round(share * span) if math.isfinite(span) else 0
