"""Averages optimizer steps over the workers that train a policy together."""

from typing import Literal

from torch import nn
from torch.optim import Optimizer

from rl_rms.agents.workers import Workers

Sync = Literal["global", "local"]
"""Whether optimizers use the mean of the workers' gradients or each worker's gradient, see `Agent.join`."""


def average_step(policy: nn.Module, optimizer: Optimizer | None, share: float, workers: Workers) -> None:
    """Take a step of the optimizer, then replace this step by the weighted mean of all workers' steps.

    Args:
        policy: The policy. Before the call, its parameters are equal in all workers.
        optimizer: This worker's optimizer; None if this worker skips its step, which then counts as 0.
        share: Weight of this worker's step, which is the worker's share of the transitions.
        workers: The workers.
    """
    params = [param for param in policy.parameters() if param.requires_grad]
    before = [param.detach().clone() for param in params]
    if optimizer is not None:
        optimizer.step()
    steps = [param.detach() - start for param, start in zip(params, before, strict=True)]
    workers.average(steps, share)
    for param, start, step in zip(params, before, steps, strict=True):
        param.detach().copy_(start + step)
