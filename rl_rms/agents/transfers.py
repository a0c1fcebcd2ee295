"""Copies arrays to the policy's device, and scalars back to the CPU.

The CPU waits for a GPU whenever the CPU reads a value from the GPU. An update therefore copies each array of a
rollout to the GPU only once, from pinned memory and without waiting. An update reads its metrics in one copy. PPO
with ``target_kl`` also reads the KL divergence of each minibatch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from rl_rms.agents.rollout import Rollout
from rl_rms.agents.trees import Tree, tree_map

Scalars = Mapping[str, Tensor | float]
"""Metrics by TensorBoard tag; tensors are on the policy's device."""


def to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """A tensor with an array's values; a tensor on the CPU shares the array's memory.

    A copy to CUDA does not wait for the GPU. Later changes of the array do not change the copy.
    """
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_floats(rows: Sequence[Scalars]) -> list[dict[str, float]]:
    """The values of all metrics, read from the device in one copy."""
    tensors = [value for row in rows for value in row.values() if isinstance(value, Tensor)]
    values = iter(torch.stack(tensors).cpu().tolist() if tensors else [])
    return [
        {name: next(values) if isinstance(value, Tensor) else value for name, value in row.items()} for row in rows
    ]


@dataclass(frozen=True)
class DeviceRollout:
    """The parts of a rollout that the policy gets, as tensors on the policy's device.

    The row ``step * num_envs + env_index`` of the observations, actions and masks belongs to one step of one
    sub-environment.

    Attributes:
        observations: Shape ``((num_steps + 1) * num_envs, *observation)``.
        final_observations: See `Rollout`; None if there are no final observations.
        actions: Shape ``(num_steps * num_envs, *action)``.
        action_masks: Shape ``(num_steps * num_envs, entries)``; None if all actions are valid.
        starts: See `Rollout`, shape ``(num_steps + 1, num_envs)``; None unless the policy is recurrent.
    """

    observations: Tree
    final_observations: Tree
    actions: Tensor
    action_masks: Tensor | None
    starts: Tensor | None

    @classmethod
    def of(cls, rollout: Rollout, device: torch.device, *, is_recurrent: bool) -> "DeviceRollout":
        """Copy a rollout to a device."""

        def copied(leaf: npt.NDArray[Any]) -> Tensor:
            return to_device(leaf, device)

        def in_rows(leaf: npt.NDArray[Any]) -> Tensor:
            return copied(leaf).flatten(0, 1)

        masks, has_finals = rollout.action_masks, len(rollout.final_index) > 0
        return cls(
            observations=tree_map(in_rows, rollout.observations),
            final_observations=tree_map(copied, rollout.final_observations) if has_finals else None,
            actions=in_rows(rollout.actions),
            action_masks=None if masks is None else in_rows(masks),
            starts=copied(rollout.starts) if is_recurrent else None,
        )
