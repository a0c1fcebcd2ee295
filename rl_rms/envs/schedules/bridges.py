"""The base class of Markov processes whose values can be computed at any clock, without a simulation from clock 0.

Given the values of a Markov process at two clock readings, the value at the middle reading has a known
distribution, the bridge. The bridge does not depend on earlier or later values (Levy's construction of Brownian
motion). The values at clock 0 and at ``2**62`` are drawn first, then the value in the middle, then the middles of
both halves, and so on. The random numbers of each value depend only on the key and on the value's own clock
reading. The result has exactly the distribution of a process that is simulated step by step.

The first value that is computed in a block of 4096 env steps needs the states at up to about 50 clock readings
outside the block. All states of the block are then drawn at once.
"""

from abc import abstractmethod
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rl_rms.envs.schedules.base import Schedule
from rl_rms.envs.schedules.rng import Floats, Key, by_block, draw

# Both ends of a block are drawn one by one, and the states between the ends at once. `rl_rms.envs.drift` requests
# values in blocks of the same length.
_LEVELS = 12
BLOCK = 2**_LEVELS
# Number of blocks from clock 0 to the last clock.
_BLOCKS = 2**50
# Lanes of the random numbers for the inside of a block and for its first clock.
_INSIDE, _END = 0, 1


class Bridged(Schedule):
    """A schedule that is sampled by bridges. `_held` converts its states to values."""

    @abstractmethod
    def _begin(self, uniform: Floats) -> Floats:
        """Draw states at clock 0, shape ``(n,)``, from uniform random numbers of shape ``(2, n)``."""

    @abstractmethod
    def _advance(self, states: Floats, steps: int, uniform: Floats) -> Floats:
        """Draw states ``steps`` env steps after the given states."""

    @abstractmethod
    def _between(self, before: Floats, after: Floats, steps: int, uniform: Floats) -> Floats:
        """Draw states midway between the states ``steps`` env steps before and ``steps`` env steps after."""

    def _held(self, states: Floats) -> Floats:
        """Convert states to values."""
        return states

    @property
    def random(self) -> bool:
        """Whether the values depend on the key; always True."""
        return True

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """Return the process's values."""
        return self._held(by_block(t, BLOCK, lambda block, inside: _states(self, key, block)[inside % BLOCK]))


# The caches store at most 8 MB of blocks, and the block ends of a few hundred streams.
@lru_cache(maxsize=256)
def _states(schedule: Bridged, key: Key, block: int) -> Floats:
    """Return the states at a block's clock readings, shape ``(BLOCK,)``."""
    states = np.empty(BLOCK + 1)
    states[0], states[BLOCK] = _end(schedule, key, block), _end(schedule, key, block + 1)
    uniform = draw(key, block, _INSIDE, 2 * BLOCK).reshape(2, BLOCK)
    for level in reversed(range(_LEVELS)):
        steps = 2**level
        middle = np.arange(steps, BLOCK, 2 * steps)
        states[middle] = schedule._between(
            states[middle - steps], states[middle + steps], steps, uniform[:, middle]
        )
    states.flags.writeable = False
    return states[:BLOCK]


@lru_cache(maxsize=16_384)
def _end(schedule: Bridged, key: Key, block: int) -> float:
    """Return the state at a block's first clock."""
    uniform = draw(key, block, _END, 2).reshape(2, 1)
    if block == 0:
        return float(schedule._begin(uniform)[0])
    if block == _BLOCKS:
        begin = np.array([_end(schedule, key, 0)])
        return float(schedule._advance(begin, _BLOCKS * BLOCK, uniform)[0])
    # Let d be the largest power of two that divides the block's index. The block lies midway between the blocks at
    # the distance d before and after it.
    distance = block & -block
    before = np.array([_end(schedule, key, block - distance)])
    after = np.array([_end(schedule, key, block + distance)])
    return float(schedule._between(before, after, distance * BLOCK, uniform)[0])
