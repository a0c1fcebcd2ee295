"""Transforms observations, or parts of them, with the current values of the targets ``observation.*``."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box

from rl_rms.envs import transforms
from rl_rms.envs.draws import Draws
from rl_rms.envs.spaces import components, with_part
from rl_rms.envs.targets import TransformTarget, neutral_values
from rl_rms.envs.transforms import Array

First = npt.NDArray[np.bool_] | bool


class BoxTransform:
    """Transforms observations of a Box of floats or uint8, see `rl_rms.envs.transforms`.

    Args:
        targets: The targets of the Box.
        space: The Box.
        draws: The source of random numbers.
        is_batch: Whether observations are batches, shape ``(num_envs, *observation)``.

    Attributes:
        values: The value of each kind of target, including kinds without a target.
    """

    def __init__(self, targets: Iterable[TransformTarget], space: Box, draws: Draws, is_batch: bool) -> None:
        self.values = neutral_values("observation")
        # The name of each target, by kind.
        self._names = {one.kind: one.name for one in targets}
        self._space, self._size = space, components(space)
        self._draws = draws
        self._is_batch = is_batch
        self._is_integer = space.dtype == np.uint8
        self._is_affine = self._names.keys() <= {"observation.gain", "observation.offset"}

    def __call__(self, observation: Any, first: First = False) -> Array:
        """Return the transformed observations.

        Args:
            observation: One observation, or a batch.
            first: Whether an observation is the first of its episode: a scalar, or shape ``(num_envs,)``.
        """
        values = self.values
        if self._is_integer:
            observation = np.asarray(observation, np.float32)
        moved = transforms.observation(observation, values["observation.gain"], values["observation.offset"])
        if not self._is_affine:
            moved = (
                self._rearranged(moved, first) if self._is_batch else self._rearranged(moved[None], first)[0, ...]
            )
        return transforms.to_uint8(moved, self._space) if self._is_integer else moved

    def _rearranged(self, batch: Array, first: First) -> Array:
        """Apply the transforms other than gain and offset to a batch."""
        values, names, draws, size = self.values, self._names, self._draws, self._size
        offsets, noise = names.get("observation.offsets"), names.get("observation.noise")
        if offsets is not None or noise is not None:
            shift = np.zeros((1, size))
            if offsets is not None:
                vectors = draws.vectors(offsets, values["observation.offsets_draw"], size)
                shift = shift + transforms.column(values["observation.offsets"]) * vectors
            if noise is not None:
                shift = shift + transforms.column(values["observation.noise"]) * draws.normals(noise, size, first)
            batch = batch + shift.reshape(-1, *batch.shape[1:]).astype(batch.dtype)
        permute, mask = names.get("observation.permute"), names.get("observation.mask")
        if permute is not None:
            batch = transforms.permute(batch, draws.permutations(permute, values["observation.permute"], size))
        if mask is not None:
            batch = transforms.hide(batch, draws.permutations(mask, 1, size), values["observation.mask"])
        return batch


class PartsTransform:
    """Transforms parts of Dict and Tuple observations.

    Args:
        parts: The transform of each part, by the keys of the part.
    """

    def __init__(self, parts: Mapping[tuple[str, ...], BoxTransform]) -> None:
        self._parts = parts

    def __call__(self, observation: Any, first: First = False) -> Any:
        """Return the transformed observations. The arguments are the same as in ``BoxTransform.__call__``."""
        for keys, transform in self._parts.items():
            observation = with_part(observation, keys, partial(transform, first=first))
        return observation
