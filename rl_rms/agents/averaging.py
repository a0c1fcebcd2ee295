"""Means of gradients and of optimizer steps over the workers that train a policy together."""

from typing import Literal, get_args

from torch import Tensor, nn
from torch.optim import Optimizer

from rl_rms.agents.workers import Workers
from rl_rms.optim.torch_private import foreach_mul_

Sync = Literal["global", "local"]
"""Whether workers clip and normalize the mean gradient or their own gradients, see `Agent.join`."""


def check_sync(sync: Sync) -> None:
    """Check a value of ``sync``.

    Raises:
        ValueError: If it is not an allowed value.
    """
    if sync not in get_args(Sync):
        raise ValueError(f"sync must be one of {', '.join(get_args(Sync))}, got {sync!r}")


def average(tensors: list[Tensor], share: float, workers: Workers) -> None:
    """Replace tensors by the mean over all workers.

    Args:
        tensors: This worker's tensors; changed in place.
        share: This worker's share of the transitions, which weights its tensors.
        workers: The workers.
    """
    foreach_mul_(tensors, share)
    workers.all_reduce(tensors)


def average_step(policy: nn.Module, optimizer: Optimizer, share: float, workers: Workers) -> None:
    """Take a step of the optimizer, then replace it by the mean over all workers.

    Args:
        policy: The policy whose parameters the optimizer moves; equal in all workers.
        optimizer: This worker's optimizer.
        share: This worker's share of the transitions, which weights its step.
        workers: The workers.
    """
    params = [param for param in policy.parameters() if param.requires_grad]
    before = [param.detach().clone() for param in params]
    optimizer.step()
    steps = [param.detach() - start for param, start in zip(params, before, strict=True)]
    average(steps, share, workers)
    for param, start, step in zip(params, before, steps, strict=True):
        param.detach().copy_(start + step)
