"""Markov processes with access at any clock, sampled from coarse to fine by bridges.

A process that goes on from its last value seems to need all values before. It does not: the value in the middle
between two others that are known has a law of its own, the process's bridge, since what a Markov process does
between two clocks depends on nothing outside them (Levy's construction of Brownian motion). So the values at clock
0 and at ``2**62`` are drawn first, then that in the middle, then those in the middle of each half, and so on, each
with random numbers that only its own clock names. At whole clocks this has exactly the law of the process that
goes step by step.

A clock far ahead costs 50 draws, and its neighbors in the same block of 4096 nothing more.
"""

from abc import abstractmethod
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rl_rms.envs.schedules.base import Schedule
from rl_rms.envs.schedules.rng import Floats, Key, by_block, draw

# Clocks in a block, whose ends are drawn one by one and whose inside at once: as many as a drift asks for.
_LEVELS = 12
BLOCK = 2**_LEVELS
# Blocks between clock 0 and the last clock.
_BLOCKS = 2**50
# The random numbers of a block's inside and those of its first clock.
_INSIDE, _END = 0, 1


class Bridged(Schedule):
    """A schedule that is drawn by bridges; its states may be any numbers, of which `_held` makes values."""

    @abstractmethod
    def _begin(self, uniform: Floats) -> Floats:
        """States at clock 0, of uniform numbers of shape ``(2, n)``; shape ``(n,)``."""

    @abstractmethod
    def _go_on(self, states: Floats, steps: int, uniform: Floats) -> Floats:
        """States ``steps`` clocks after others."""

    @abstractmethod
    def _between(self, before: Floats, after: Floats, steps: int, uniform: Floats) -> Floats:
        """States in the middle of others that lie ``steps`` clocks before and ``steps`` clocks after."""

    def _held(self, states: Floats) -> Floats:
        """The values that states stand for."""
        return states

    @property
    def random(self) -> bool:
        """True."""
        return True

    def values(self, t: npt.ArrayLike, key: Key) -> Floats:
        """The process's values."""
        return self._held(by_block(t, BLOCK, lambda block, inside: _states(self, key, block)[inside % BLOCK]))


# The caches bound the memory: 8 MB of blocks, and the ends that a few hundred streams go on from.
@lru_cache(maxsize=256)
def _states(schedule: Bridged, key: Key, block: int) -> Floats:
    """States at a block's clocks, shape ``(BLOCK,)``."""
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
    """State at a block's first clock."""
    uniform = draw(key, block, _END, 2).reshape(2, 1)
    if block == 0:
        return float(schedule._begin(uniform)[0])
    if block == _BLOCKS:
        begin = np.array([_end(schedule, key, 0)])
        return float(schedule._go_on(begin, _BLOCKS * BLOCK, uniform)[0])
    # The largest power of two that divides the block's number says between which it lies in the middle.
    distance = block & -block
    before = np.array([_end(schedule, key, block - distance)])
    after = np.array([_end(schedule, key, block + distance)])
    return float(schedule._between(before, after, distance * BLOCK, uniform)[0])
