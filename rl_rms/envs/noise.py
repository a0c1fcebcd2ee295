"""Random numbers for noise, vectors and permutations, as pure functions of a seed, a target and a counter.

The generator is Philox, as in `rl_rms.envs.schedules`. The key is (seed, target). The counter is (env index,
clock, lane) for noise, and (drift, number of the draw, lane) for vectors and permutations. The noise of an
environment at a clock reading is therefore equal in a single environment, a worker, a row of a batch and a resumed
run.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rl_rms.envs.schedules import Floats, Ints, stream_of
from rl_rms.envs.schedules.rng import philox

# Separate lanes for noise in transitions, for noise in first observations of episodes, and for vectors and
# permutations.
_TRANSITION, _FIRST, _ONCE = 0, 1, 2


class NoiseKey(NamedTuple):
    """The environments of a batch that draw random numbers, and their clocks.

    Attributes:
        seed: Seed of the changes, >= 0.
        drifts: Index of each environment's drift, the course of the changes over time. Environments with the same
            drift share vectors and permutations.
        env_indices: Index of each environment.
        clocks: Clock reading of each environment, in env steps.
    """

    seed: int
    drifts: tuple[int, ...]
    env_indices: tuple[int, ...]
    clocks: tuple[int, ...]


def normals(target: str, noise_key: NoiseKey, size: int, first: Sequence[bool]) -> Floats:
    """Draw independent standard normal numbers.

    The Box-Muller transform ``sqrt(-2 ln(1 - u)) (cos, sin)(2 pi u')`` makes them from uniform ``u`` and ``u'``.

    Args:
        target: Name of the target; each target has its own numbers.
        noise_key: The environments and their clocks.
        size: Number of random numbers for each environment.
        first: Whether each environment draws for the first observation of an episode; False for a transition.

    Returns:
        Numbers, shape ``(num_envs, size)``.
    """
    return _normal(_rows(target, noise_key, 2 * math.ceil(size / 2), first))[:, :size]


def uniforms(target: str, noise_key: NoiseKey, size: int, first: Sequence[bool]) -> Floats:
    """Draw independent uniform numbers in [0, 1), with the arguments of `normals`."""
    return _rows(target, noise_key, size, first)


@lru_cache(maxsize=1024)
def vector(target: str, seed: int, drift: int, number: int, size: int) -> Floats:
    """Draw a vector of standard normal numbers, shape ``(size,)``. Equal arguments give equal vectors."""
    words = 2 * math.ceil(size / 2)
    return _frozen(_normal(_draw(target, seed, number, _ONCE, drift, 1, words))[0, :size])


@lru_cache(maxsize=1024)
def permutation(target: str, seed: int, drift: int, number: int, size: int) -> Ints:
    """Draw a permutation of ``range(size)``, the identity for number 0. Equal arguments give equal results."""
    if number == 0:
        return _frozen(np.arange(size))
    return _frozen(np.argsort(_draw(target, seed, number, _ONCE, drift, 1, size)[0], kind="stable"))


def _rows(target: str, noise_key: NoiseKey, size: int, first: Sequence[bool]) -> Floats:
    """Draw uniform numbers for each environment, with one call of `_draw` per clock reading and lane."""
    rows = np.empty((len(noise_key.clocks), size))
    groups: dict[tuple[int, bool], list[int]] = {}
    for row, when in enumerate(zip(noise_key.clocks, map(bool, first), strict=True)):
        groups.setdefault(when, []).append(row)
    for (clock, begins), members in groups.items():
        indices = np.array([noise_key.env_indices[row] for row in members])
        low = int(indices.min())
        lane = _FIRST if begins else _TRANSITION
        drawn = _draw(target, noise_key.seed, clock, lane, low, int(indices.max()) - low + 1, size)
        rows[members] = drawn[indices - low]
    return rows


def _draw(target: str, seed: int, clock: int, lane: int, start: int, count: int, size: int) -> Floats:
    """Draw uniform numbers in [0, 1) for the indices ``start`` to ``start + count - 1``, one row per index."""
    # A separate stream makes the numbers independent of the target's schedule.
    key = (seed % 2**64, _stream(target) << 32)
    # Each increment of the counter's first word yields four numbers.
    stride = math.ceil(size / 4)
    uniform = philox(key, (start * stride, clock, lane, 0), count * stride * 4)
    return uniform.reshape(count, stride * 4)[:, :size]


@lru_cache(maxsize=64)
def _stream(target: str) -> int:
    return stream_of(f"{target} by chance")


def _normal(uniform: Floats) -> Floats:
    radius = np.sqrt(-2 * np.log1p(-uniform[:, 0::2]))
    angle = 2 * math.pi * uniform[:, 1::2]
    normal = np.empty_like(uniform)
    normal[:, 0::2] = radius * np.cos(angle)
    normal[:, 1::2] = radius * np.sin(angle)
    return normal


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    # Cached arrays must not be modified.
    array.flags.writeable = False
    return array
