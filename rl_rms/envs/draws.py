"""Draws the random numbers of the transforms of rewards, observations and actions.

Noise is drawn at each env step. Offset vectors and permutations are drawn for each value of their target.
Sub-environments with the same drift get the same offset vectors and permutations.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs import noise
from rl_rms.envs.noise import NoiseKey

Array = npt.NDArray[Any]


class Draws:
    """Draws random numbers for the environments of a batch, one row each.

    Attributes:
        noise_key: The environments that draw, and their clocks.
    """

    def __init__(self) -> None:
        self.noise_key = NoiseKey(0, (0,), (0,), (0,))
        # For each target, the arguments and the result of its last draw.
        self._cache: dict[str, tuple[Any, Array]] = {}

    def normals(self, target: str, size: int, first: npt.NDArray[np.bool_] | bool = False) -> Array:
        """Draw standard normal numbers for an env step, shape ``(num_envs, size)``.

        Args:
            target: Name of the target.
            size: Number of random numbers for each environment.
            first: Whether the draw is for the first observation of an episode: a scalar, or shape ``(num_envs,)``.
        """
        return noise.normals(target, self.noise_key, size, self._each(first))

    def uniforms(self, target: str, size: int) -> Array:
        """Draw uniform numbers in [0, 1) for an env step, shape ``(num_envs, size)``."""
        return noise.uniforms(target, self.noise_key, size, self._each(False))

    def vectors(self, target: str, numbers: Any, size: int) -> Array:
        """Draw a standard normal vector for each environment, which depends on the drift and on ``numbers``.

        Args:
            target: Name of the target.
            numbers: Indices of the draws, a scalar or shape ``(num_envs,)``. Fractions are rounded.
            size: Number of components.

        Returns:
            Vectors, shape ``(num_envs, size)``, or ``(1, size)`` if ``numbers`` is a scalar and all environments
            have the same drift.
        """
        return self._cached(noise.vector, target, numbers, size)

    def permutations(self, target: str, numbers: Any, size: int) -> Array:
        """Draw permutations, with the arguments of `vectors`. Number 0 is the identity."""
        return self._cached(noise.permutation, target, numbers, size)

    def _each(self, first: npt.NDArray[np.bool_] | bool) -> list[bool]:
        each: list[bool] = np.broadcast_to(first, len(self.noise_key.clocks)).tolist()
        return each

    def _cached(
        self, draw: Callable[[str, int, int, int, int], Array], target: str, numbers: Any, size: int
    ) -> Array:
        seed, drifts = self.noise_key[:2]
        arguments = (numbers.tobytes() if isinstance(numbers, np.ndarray) else numbers, seed, drifts)
        last, rows = self._cache.get(target, (None, None))
        if rows is None or arguments != last:
            if np.ndim(numbers) == 0 and len(set(drifts)) == 1:
                drifts = drifts[:1]
            each = np.broadcast_to(np.rint(numbers), len(drifts)).astype(np.int64).tolist()
            rows = np.stack([draw(target, seed, *one, size) for one in zip(drifts, each, strict=True)])
            self._cache[target] = arguments, rows
        return rows
