"""Counter-based random numbers, which can be drawn for any clock in any order.

The generator is Philox (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
The key is (seed, target, env index). The counter is (0, block of draws, lane, part of the expression). The lanes
of a block contain independent random numbers for different purposes, such as the times and the levels of jumps.
"""

import hashlib
import math
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
"""Array of floats, such as values."""
Ints = npt.NDArray[np.int64]
"""Array of integers, such as clock readings."""
Numbers = TypeVar("Numbers", Floats, Ints)

# Number of uniform numbers in a block. Making a Philox generator takes longer than drawing this many numbers.
DRAWS = 512
# Mean number of jumps in a block. The standard deviation is at most 16. A block with more than DRAWS jumps or
# without a jump is 16 standard deviations away from the mean and practically does not occur.
_JUMPS = 256
# The end of the clock readings, see `rl_rms.envs.schedules.Schedule.values`.
_END = 2**62


class Key(NamedTuple):
    """Identifies a stream of random numbers.

    Attributes:
        seed: Seed of the drift, >= 0.
        stream: Number of the target, see `stream_of`.
        env_index: Index of the sub-environment.
        part: Number made from the position of a part in an expression such as ``a + b``, see `of_part`; 0 for the
            whole expression.
    """

    seed: int
    stream: int = 0
    env_index: int = 0
    part: int = 0

    def of_part(self, index: int) -> "Key":
        """Return the key of a part of an expression. Different indices give independent random numbers."""
        digest = hashlib.blake2b(f"{self.part}/{index}".encode(), digest_size=8).digest()
        return self._replace(part=int.from_bytes(digest, "big"))


def stream_of(target: str) -> int:
    """Return a number for the name of a target. Unlike Python's ``hash``, it is equal in all processes."""
    return zlib.crc32(target.encode())


@lru_cache(maxsize=1024)
def uniforms(key: Key, block: int, lane: int = 0) -> Floats:
    """Return a block's uniform numbers in [0, 1), shape ``(DRAWS,)``.

    The numbers of different blocks or different lanes are independent.
    """
    drawn = draw(key, block, lane, DRAWS)
    drawn.flags.writeable = False
    return drawn


def draw(key: Key, block: int, lane: int, count: int) -> Floats:
    """Draw the first ``count`` uniform numbers in [0, 1) of a block, without caching.

    Args:
        key: Stream of random numbers.
        block: Index of the block, >= 0.
        lane: Index of the lane, >= 0.
        count: Number of draws.
    """
    return philox((key.seed % 2**64, key.stream << 32 | key.env_index), (0, block, lane, key.part), count)


def philox(key: tuple[int, int], counter: tuple[int, int, int, int], count: int) -> Floats:
    """Draw uniform numbers in [0, 1), 53 random bits each.

    Args:
        key: Two words of 64 bits.
        counter: Four words of 64 bits; the generator increments the first word once for every four numbers.
        count: Number of draws.
    """
    generator = np.random.Philox(key=np.array(key, dtype=np.uint64), counter=np.array(counter, dtype=np.uint64))
    # NumPy keeps the raw output of a bit generator stable across versions, but not the output of Generator.
    raw = generator.random_raw(count)
    drawn: Floats = np.ldexp((raw >> np.uint64(11)).astype(np.float64), -53)
    return drawn


def normals(first: Floats, second: Floats) -> Floats:
    """Compute standard normal numbers by the Box-Muller transform ``sqrt(-2 ln(1 - u)) cos(2 pi w)``.

    Args:
        first: Uniform numbers u in [0, 1), any shape.
        second: Independent uniform numbers w in [0, 1), same shape.
    """
    normal: Floats = np.sqrt(-2.0 * np.log1p(-first)) * np.cos(2 * math.pi * second)
    return normal


def by_block(clocks: npt.ArrayLike, span: int, read: Callable[[int, Ints], Numbers]) -> Numbers:
    """Compute values at clock readings, block by block.

    Args:
        clocks: Clock readings in any order, shape ``(n,)``.
        span: Env steps of a block.
        read: Function that takes a block's index and clock readings inside the block, and returns the values.

    Returns:
        Values, shape ``(n,)``.
    """
    clocks = np.asarray(clocks)
    if not clocks.size:
        return read(0, clocks)
    blocks = clocks // span
    order = np.argsort(blocks, kind="stable")
    numbers, starts = np.unique(blocks[order], return_index=True)
    groups = np.split(order, starts[1:])
    values = [read(number, clocks[its]) for number, its in zip(numbers.tolist(), groups, strict=True)]
    # Restore the order of the given clock readings.
    restored: Numbers = np.concatenate(values)[np.argsort(order, kind="stable")]  # pyright: ignore[reportAssignmentType]
    return restored


def jump_span(mean_dwell: float) -> int:
    """Return the number of env steps in a block of jumps, proportional to ``mean_dwell``, at most all clocks."""
    return min(math.ceil(_JUMPS * mean_dwell), _END)


@lru_cache(maxsize=1024)
def jumps(mean_dwell: float, key: Key, block: int) -> tuple[Ints, Floats]:
    """Draw a block's jumps. A jump occurs at each clock with probability ``1 / mean_dwell``.

    Geometric waiting times are memoryless, so each block of ``jump_span(mean_dwell)`` env steps can draw its own
    waiting times.

    Args:
        mean_dwell: Mean time between two jumps in env steps, >= 1.
        key: Stream of random numbers.
        block: Index of the block, >= 0.

    Returns:
        The clock readings of the jumps, ascending, and for each jump a uniform number that selects the new level.
    """
    span = jump_span(mean_dwell)
    log_stay = math.log1p(-1.0 / mean_dwell) if mean_dwell > 1 else -math.inf
    waits = 1 + np.floor(np.log1p(-uniforms(key, block, lane=0)) / log_stay)
    # Longer sums may not fit into int64.
    fits = np.cumsum(waits) < _END
    times = block * span - 1 + np.cumsum(np.where(fits, waits, 0).astype(np.int64))
    inside = fits & (times < (block + 1) * span)
    return times[inside], uniforms(key, block, lane=1)[inside]


def last_jump(mean_dwell: float, key: Key, block: int) -> tuple[int, float] | None:
    """Return the clock and the uniform number of the last jump before a block; None if there was no jump."""
    while block > 0:
        block -= 1
        times, brought = jumps(mean_dwell, key, block)
        if times.size:
            return int(times[-1]), float(brought[-1])
    return None


def jumps_between(mean_dwell: float, key: Key, t0: int, t1: int) -> Ints:
    """Return the clock readings in ``(t0, t1]`` of the jumps that `jumps` draws, ascending and >= 0."""
    span = jump_span(mean_dwell)
    blocks = range(max(t0, 0) // span, t1 // span + 1)
    times = np.concatenate([np.empty(0, dtype=np.int64), *(jumps(mean_dwell, key, block)[0] for block in blocks)])
    within: Ints = times[(times > t0) & (times <= t1)]
    return within
