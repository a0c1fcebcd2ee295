"""Transforms actions with the current values of the targets ``action.*``, such as ``action.delay``."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from rl_rms.envs import transforms
from rl_rms.envs.delays import Delays
from rl_rms.envs.draws import Draws
from rl_rms.envs.spaces import components
from rl_rms.envs.targets import TransformTarget, neutral_values
from rl_rms.envs.transforms import Array


class ActionTransform:
    """Transforms one action or a batch, see `rl_rms.envs.transforms`.

    Args:
        targets: The targets ``action.*`` that change.
        space: The space of one action.
        draws: Draws the random numbers.
        num_envs: Number of actions in a batch; None for one action.

    Attributes:
        values: The current value of each target ``action.*``. A target that is not in ``targets`` keeps the value
            that has no effect.
        delays: Stores the delayed actions; None if no target delays actions.
    """

    def __init__(
        self, targets: Iterable[TransformTarget], space: Box | Discrete, draws: Draws, num_envs: int | None
    ) -> None:
        self.values = neutral_values("action")
        self._kinds = {one.kind for one in targets}
        self._space = space
        self._draws = draws
        self._is_batch = num_envs is not None
        self._is_affine = self._kinds <= {"action.flip", "action.gain"}
        self.delays = Delays(space, num_envs or 1) if "action.delay" in self._kinds else None

    def __call__(self, action: Any) -> Any:
        """Return the transformed action or batch."""
        values, space = self.values, self._space
        if self._is_affine:
            return transforms.action(action, space, values["action.flip"], values["action.gain"])
        batch = np.asarray(action) if self._is_batch else np.asarray(action)[None]
        if self.delays is not None:
            batch = self.delays.exchange(batch, np.broadcast_to(values["action.delay"], len(batch)))
        moved = self._discrete(batch, space) if isinstance(space, Discrete) else self._box(batch, space)
        if self._is_batch:
            return moved
        return moved[0].item() if isinstance(space, Discrete) else moved[0, ...]

    def _discrete(self, batch: Array, space: Discrete) -> Array:
        values, draws = self.values, self._draws
        batch = np.asarray(transforms.action(batch, space, values["action.flip"], 1.0))
        if "action.permute" in self._kinds:
            orders = draws.permutations("action.permute", values["action.permute"], components(space))
            batch = transforms.relabel(batch, space, orders)
        if "action.noise" in self._kinds:
            batch = transforms.replace(batch, space, values["action.noise"], draws.uniforms("action.noise", 2))
        return batch

    def _box(self, batch: Array, space: Box) -> Array:
        values, draws, size = self.values, self._draws, components(space)
        if "action.permute" in self._kinds:
            batch = transforms.permute(batch, draws.permutations("action.permute", values["action.permute"], size))
        shift = transforms.column(values["action.bias"])
        if "action.noise" in self._kinds:
            shift = shift + transforms.column(values["action.noise"]) * draws.normals("action.noise", size)
            shift = shift.reshape(-1, *batch.shape[1:])
        else:
            shift = shift.reshape(-1, *(1,) * (batch.ndim - 1))
        moved: Array = transforms.action(batch, space, values["action.flip"], values["action.gain"], shift)
        return moved
