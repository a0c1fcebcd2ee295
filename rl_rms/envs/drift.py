"""The definition of a drift: the values and the regime at each reading of a clock.

A clock counts env steps, which are the transitions of an environment across episodes. At the reading ``t`` each
target has the value ``schedule.values(t, key)``. The regime is the number of distinct readings in ``(0, t]`` at
which a target jumped. The values of a whole block of readings are computed at once, so that an env step only looks
up values.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rl_rms.envs.schedules import Floats, Ints, Key, Schedule, stream_of

# Number of readings in a block.
BLOCK = 4096
# Maximum number of readings that are searched for jumps at once, which limits memory use.
COUNTED_AT_ONCE = 2**20


class Block(NamedTuple):
    """Values and regimes at ``BLOCK`` successive readings.

    Attributes:
        values: Shape ``(BLOCK, num_targets)``, targets in the order of the schedules.
        regimes: Shape ``(BLOCK,)``.
    """

    values: Floats
    regimes: Ints


def trace(
    changes: Mapping[str, Schedule], clocks: npt.ArrayLike, seed: int, env_index: int = 0
) -> dict[str, Floats]:
    """Compute the values of targets over time from their schedules.

    Args:
        changes: Targets and their schedules.
        clocks: Readings in env steps, integers >= 0 in any order, shape ``(n,)``.
        seed: Seed of the drift, >= 0.
        env_index: Index of the sub-environment whose random numbers the schedules use.

    Returns:
        The values of each target, shape ``(n,)``.
    """
    t = np.asarray(clocks, dtype=np.int64)
    return {
        target: schedule.values(t, Key(seed, stream_of(target), env_index)) for target, schedule in changes.items()
    }


def regime_changes(changes: Mapping[str, Schedule], t0: int, t1: int, seed: int, env_index: int = 0) -> Ints:
    """Return the readings in ``(t0, t1]`` at which any target jumps, ascending and distinct.

    Args:
        changes: Targets and their schedules.
        t0: Reading in env steps, >= 0.
        t1: Reading in env steps.
        seed: Seed of the drift, >= 0.
        env_index: Index of the sub-environment.
    """
    events = [
        schedule.events(t0, t1, Key(seed, stream_of(target), env_index)) for target, schedule in changes.items()
    ]
    return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *events]))


def count_regimes(changes: Mapping[str, Schedule], clock: int, seed: int, env_index: int = 0) -> int:
    """Return the regime at a reading: the number of `regime_changes` in ``(0, clock]``."""
    starts = range(0, clock, COUNTED_AT_ONCE)
    return sum(
        regime_changes(changes, start, min(start + COUNTED_AT_ONCE, clock), seed, env_index).size
        for start in starts
    )


def compute_block(
    changes: Mapping[str, Schedule], start: int, seed: int, env_index: int = 0, before: Block | None = None
) -> Block:
    """Compute the block of readings from ``start`` on.

    Args:
        changes: Targets and their schedules.
        start: First reading of the block.
        seed: Seed of the drift, >= 0.
        env_index: Index of the sub-environment.
        before: The block of the readings just before ``start``; None counts regimes from clock 0.
    """
    if before is None:
        last, regime = start, count_regimes(changes, start, seed, env_index)
    else:
        last, regime = start - 1, int(before.regimes[-1])
    values = trace(changes, np.arange(start, start + BLOCK), seed, env_index)
    regimes = np.full(BLOCK, regime, dtype=np.int64)
    for event in regime_changes(changes, last, start + BLOCK - 1, seed, env_index):
        regimes[event - start :] += 1
    columns = list(values.values()) or [np.empty((BLOCK, 0))]
    return Block(np.column_stack(columns), regimes)


def timescale(changes: Mapping[str, Schedule]) -> float:
    """Return the shortest timescale of any target, in env steps of the clock; ``inf`` if nothing changes."""
    return min((schedule.timescale for schedule in changes.values()), default=math.inf)
