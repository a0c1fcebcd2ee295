"""Adds the parameters, the time or a flag for a regime change to observations.

A one-dimensional Box of floats gets additional components. Any other observation becomes the entry
``"observation"`` of a Dict.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict

from rl_rms.envs.config import check_observe
from rl_rms.envs.spaces import Space, is_float_box
from rl_rms.envs.transforms import Array


class Observer:
    """Adds the requested entries to observations.

    ==========  ====================================================================================
    entry       added value
    ==========  ====================================================================================
    params      the value of each target for the next transition
    time        the clock divided by ``timescale``; in env steps if ``timescale`` is infinite
    change      1 if ``info["rl_rms.regime"]`` has changed since the last observation, else 0
    ==========  ====================================================================================

    Args:
        observe: One or more entries of the table, in the order in which they are added.
        space: The space of one observation without the entries.
        num_targets: Number of targets.
        timescale: The shortest timescale of a schedule, in env steps; infinite if the schedules are constant.

    Attributes:
        space: The space of one observation with the entries.

    Raises:
        ValueError: If an entry is unknown or repeated, or params is requested without a target.
    """

    def __init__(self, observe: str | Sequence[str], space: Space, num_targets: int, timescale: float) -> None:
        self.observe = check_observe(observe)
        if "params" in self.observe and num_targets == 0:
            raise ValueError(
                "observe='params' needs a target, got none; give changes or a curriculum, or leave 'params' out"
            )
        self._unit = timescale if math.isfinite(timescale) else 1.0
        self._is_concatenated = is_float_box(space) and len(space.shape or ()) == 1
        sizes = {"params": num_targets, "time": 1, "change": 1}
        dtype = space.dtype if self._is_concatenated else np.dtype(np.float32)
        limits = {"params": (-np.inf, np.inf), "time": (0.0, np.inf), "change": (0.0, 1.0)}
        boxes = {name: Box(*limits[name], (sizes[name],), dtype.type) for name in self.observe}  # type: ignore[union-attr]
        self._dtype = dtype
        if self._is_concatenated:
            assert isinstance(space, Box)
            low, high = ([getattr(box, end) for box in (space, *boxes.values())] for end in ("low", "high"))
            self.space: Space = Box(np.concatenate(low), np.concatenate(high), dtype=dtype.type)  # type: ignore[union-attr]
        else:
            self.space = Dict({"observation": space, **boxes})

    def add(self, observation: Any, values: Sequence[Any], clock: Any, changed: Any) -> Any:
        """Add the entries to an observation or to a batch of observations.

        Args:
            observation: One observation, or a batch of ``num_envs``.
            values: Value of each target: a scalar, or shape ``(num_envs,)`` in a batch.
            clock: Clock in env steps: a scalar, or shape ``(num_envs,)`` in a batch.
            changed: Whether the regime has changed: a scalar, or shape ``(num_envs,)`` in a batch.
        """
        entries = {"params": values, "time": [np.asarray(clock) / self._unit], "change": [changed]}
        # The shape is () for one observation, and (num_envs,) for a batch.
        shape = np.shape(clock)
        parts = {name: self._stack(entries[name], shape) for name in self.observe}
        if self._is_concatenated:
            return np.concatenate([observation, *parts.values()], axis=-1)
        return {"observation": observation, **parts}

    def _stack(self, values: Sequence[Any], shape: tuple[int, ...]) -> Array:
        return np.stack([np.broadcast_to(value, shape) for value in values], axis=-1).astype(self._dtype)
