"""Separate clocks for the sub-environments."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_rms.envs.clocks import Clock, Column, Mask
from rl_rms.envs.drift import BLOCK, Block, compute_block, timescale, trace
from rl_rms.envs.noise import NoiseKey
from rl_rms.envs.schedules import Floats, Ints, Schedule


class IndependentClocks(Clock):
    """One clock for each sub-environment.

    The clock of sub-environment ``i``, counted over all processes, uses the random numbers of ``env_index=i``.
    """

    _readings: Ints
    # Index of each clock's reading in the concatenated values of all blocks.
    _at: Ints
    # Minimum number of vector steps until the block of a clock ends.
    _steps_left: int

    def __init__(
        self, changes: Mapping[str, Schedule], seed: int, num_envs: int, shard: tuple[int, int] = (0, 1)
    ) -> None:
        super().__init__(changes, num_envs, shard)
        self.seed = seed
        self._places = np.arange(num_envs)
        # First reading of each block; -1 if there is no block.
        self._starts = np.full(num_envs, -1, dtype=np.int64)
        self._values = np.empty((num_envs * BLOCK, len(changes)))
        self._regimes = np.empty(num_envs * BLOCK, dtype=np.int64)
        self._set(np.zeros(num_envs, dtype=np.int64), seed)

    @property
    def values(self) -> tuple[Column, ...]:
        """The current values of each target, shape ``(num_envs,)``."""
        return tuple(self._values.take(self._at, axis=0).T)

    @property
    def regime(self) -> Ints:
        """The current regimes, shape ``(num_envs,)``."""
        return self._regimes.take(self._at)

    @property
    def reading(self) -> int:
        """Env steps of all sub-environments together."""
        return int(self._readings.sum()) * self._rate

    @property
    def readings(self) -> Ints:
        """The env steps of each sub-environment."""
        return self._readings.copy()

    @property
    def noise_key(self) -> NoiseKey:
        """The noise key, with a separate drift for each sub-environment."""
        indices = tuple(self._indices.tolist())
        return NoiseKey(self.seed, indices, indices, tuple((self._readings + self._frozen_steps).tolist()))

    @property
    def timescale(self) -> float:
        """The shortest timescale of any target, in env steps of all sub-environments together."""
        return timescale(self._changes) * self._num_in_all

    def set(self, reading: int, seed: int | None = None) -> None:
        """Set the clocks to equal shares of ``reading``. The first clocks get the remainder, one env step each."""
        share, rest = divmod(reading, self._num_in_all)
        self._set(share + (self._indices < rest), self.seed if seed is None else seed)

    def advance(self, valid: Mask, number: int) -> None:
        """Count the transition of each ``valid`` sub-environment, unless the clocks are frozen."""
        if self.is_frozen:
            self._frozen_steps += 1
            return
        if number == valid.size:
            self._readings += 1
            self._at += 1
        else:
            self._readings += valid
            self._at += valid
        self._steps_left -= 1
        if self._steps_left == 0:
            for i in np.flatnonzero(self._readings - self._starts == BLOCK).tolist():
                self._load(i, int(self._readings[i]), is_next=True)
            self._look_ahead()

    def values_after(self, valid: Mask) -> tuple[Column, ...]:
        """Return the `values` after a transition of the ``valid`` sub-environments."""
        clocks = self._readings if self.is_frozen else self._readings + valid
        rows = self._indices.tolist()
        each = [trace(self._changes, clocks[i : i + 1], self.seed, row) for i, row in enumerate(rows)]
        return tuple(np.concatenate([one[target] for one in each]) for target in self._changes)

    def oracle(self, readings: Ints) -> dict[str, Floats]:
        """Return the values of each sub-environment at ``readings``, shape ``(num_envs, n)``."""
        each = [trace(self._changes, readings, self.seed, i) for i in self._indices.tolist()]
        return {target: np.stack([one[target] for one in each]) for target in self._changes}

    def state_dict(self) -> dict[str, Any]:
        """Return the readings and the seed."""
        return {"clock": self.reading, "clocks": self._readings.tolist(), "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`. For another number of clocks or processes, use equal shares."""
        clocks, seed = np.array(state["clocks"], dtype=np.int64), int(state["seed"])
        reading = int(clocks.sum()) * self._rate
        saved = int(state.get("clock", reading))  # older checkpoints have no entry "clock"
        if clocks.shape == self._indices.shape and saved == reading:
            self._set(clocks, seed)
        else:
            self.set(saved, seed)

    def _set(self, readings: Ints, seed: int) -> None:
        if seed != self.seed:
            self._starts[:] = -1
        self.seed = seed
        self._readings = readings.astype(np.int64)
        self._frozen_steps = 0
        for i, reading in enumerate(readings.tolist()):
            start = reading - reading % BLOCK
            if start != self._starts[i]:
                self._load(i, start, is_next=False)
        self._look_ahead()

    def _load(self, i: int, start: int, *, is_next: bool) -> None:
        block = slice(i * BLOCK, (i + 1) * BLOCK)
        before = Block(self._values[block], self._regimes[block]) if is_next else None
        row = int(self._indices[i])
        self._values[block], self._regimes[block] = compute_block(self._changes, start, self.seed, row, before)
        self._starts[i] = start

    def _look_ahead(self) -> None:
        index = self._readings - self._starts
        self._at = self._places * BLOCK + index
        self._steps_left = BLOCK - int(index.max())
