"""The updates that a meta-gradient repeats: loss, form in checkpoints, and memory of their autograd graph."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rl_rms.agents.losses import Batch, LossCoefficients, actor_critic_loss
from rl_rms.agents.rollout import Rollout
from rl_rms.envs.encoding import decode, encode


@dataclass(frozen=True)
class Update:
    """One of the updates that a meta-gradient repeats.

    Attributes:
        batch: The batch of the update.
        groups: The arguments of `rl_rms.optim.rule.rmsprop_update` for each parameter group, with the configured
            hyperparameters; empty for a batch that only evaluates the hyperparameters.
    """

    batch: Batch
    groups: Sequence[Mapping[str, Any]] = ()


class LossModule(nn.Module):
    """The loss as a module, for `functional_call`.

    Args:
        policy: The policy. The names of the module's parameters begin with ``policy.``.
    """

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: Batch, *, with_critic: bool) -> Tensor:
        """Compute the loss of a batch; without the critic, the policy's loss with standardized advantages."""
        if not with_critic:
            coefficients = dataclasses.replace(batch.coefficients, vf_coef=0.0, normalize_advantage=True)
            batch = dataclasses.replace(batch, coefficients=coefficients)
        return actor_critic_loss(self.policy, batch)[0]


class SavedTensors:
    """Context that counts the memory of the tensors that autograd saves for backward passes.

    Attributes:
        bytes: Bytes of all tensors saved so far; a tensor that is saved twice counts twice.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._hooks: Any = None

    def __enter__(self) -> None:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor)
        self._hooks.__enter__()

    def __exit__(self, *raised: Any) -> None:
        self._hooks.__exit__(*raised)

    def _count(self, tensor: Tensor) -> Tensor:
        self.bytes += tensor.numel() * tensor.element_size()
        # The tensor is detached, because a node that saves its output would otherwise refer to itself and never be
        # freed. Autograd restores the history.
        return tensor.detach()


def to_plain(update: Update) -> dict[str, Any]:
    """An update as plain data, for checkpoints; without the rollout's episodes."""
    batch = update.batch
    arrays = {field.name: getattr(batch.rollout, field.name) for field in dataclasses.fields(batch.rollout)}
    arrays["episodes"] = []
    return {
        "rollout": json.dumps(encode({**arrays, "loss_mask": batch.loss_mask})),
        "coefficients": dataclasses.asdict(batch.coefficients),
        "state": batch.state,
        "groups": [dict(group) for group in update.groups],
    }


def from_plain(plain: Mapping[str, Any]) -> Update:
    """Rebuild an update from the plain data of `to_plain`."""
    arrays = decode(json.loads(plain["rollout"]))
    loss_mask = arrays.pop("loss_mask")
    batch = Batch(Rollout(**arrays), loss_mask, LossCoefficients(**plain["coefficients"]), plain["state"])
    return Update(batch, plain["groups"])
