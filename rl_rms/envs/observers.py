"""What an agent is shown of the change itself, where it asks for it: the parameters, the time, or that one came.

A one-dimensional Box of floats gets further components; any other observation becomes an entry of a Dict.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict

from rl_rms.envs.config import check_observe
from rl_rms.envs.transforms import Array, Space, is_float_box


class Observer:
    """Adds what is asked for to observations.

    ==========  ====================================================================================
    asked for   what is added
    ==========  ====================================================================================
    params      the value of each target for the transition to come
    time        the clock in timescales of the drift; in env steps where nothing changes
    change      1 where the regime has changed since the last observation, else 0
    ==========  ====================================================================================

    Args:
        observe: One of these or several, in the order in which they are added.
        space: The space of one observation as it is without.
        num_targets: Number of targets.
        timescale: The drift's timescale in env steps.

    Attributes:
        space: The space of one observation as it is with them.

    Raises:
        ValueError: If another word is given, one twice, or params where there is no target.
    """

    def __init__(self, observe: str | Sequence[str], space: Space, num_targets: int, timescale: float) -> None:
        self.observe = check_observe(observe)
        if "params" in self.observe and num_targets == 0:
            raise ValueError("observe='params' needs changes or a curriculum; there is no target to be observed")
        self._unit = timescale if math.isfinite(timescale) else 1.0
        self._joins = is_float_box(space) and len(space.shape or ()) == 1
        sizes = {"params": num_targets, "time": 1, "change": 1}
        dtype = space.dtype if self._joins else np.dtype(np.float32)
        limits = {"params": (-np.inf, np.inf), "time": (0.0, np.inf), "change": (0.0, 1.0)}
        boxes = {name: Box(*limits[name], (sizes[name],), dtype.type) for name in self.observe}  # type: ignore[union-attr]
        self._dtype = dtype
        if self._joins:
            assert isinstance(space, Box)
            low, high = ([getattr(one, end) for one in (space, *boxes.values())] for end in ("low", "high"))
            self.space: Space = Box(np.concatenate(low), np.concatenate(high), dtype=dtype.type)  # type: ignore[union-attr]
        else:
            self.space = Dict({"observation": space, **boxes})

    def add(self, observation: Any, values: Sequence[Any], clock: Any, changed: Any) -> Any:
        """An observation, or a batch, with what is asked for.

        Args:
            observation: One, or a batch of ``num_envs``.
            values: Of each target: a number, or in a batch one for each, shape ``(num_envs,)``.
            clock: Env steps: a number, or in a batch one for each.
            changed: Whether the regime has changed: one, or in a batch one for each.
        """
        told = {"params": values, "time": [np.asarray(clock) / self._unit], "change": [changed]}
        # The batch's shape is the clock's: () or (num_envs,).
        shape = np.shape(clock)
        parts = {name: self._stack(told[name], shape) for name in self.observe}
        if self._joins:
            return np.concatenate([observation, *parts.values()], axis=-1)
        return {"observation": observation, **parts}

    def _stack(self, numbers: Sequence[Any], shape: tuple[int, ...]) -> Array:
        return np.stack([np.broadcast_to(one, shape) for one in numbers], axis=-1).astype(self._dtype)
