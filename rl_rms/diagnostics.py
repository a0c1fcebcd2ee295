"""What an optimizer is doing, as a few numbers for a log: read from its state on demand, never while it steps."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rl_rms.update import denominator, real, second_moment

if TYPE_CHECKING:
    from rl_rms.optimizer import RMSprop


@torch.no_grad()
def diagnostics(optimizer: "RMSprop") -> dict[str, float]:
    """The memory in force and what the last step did.

    Means go over all coordinates of the parameters that have been updated, for the step and the gradient of those
    that still hold their gradient; where there are none (before the first update, after ``zero_grad()``) they
    are 0.

    Args:
        optimizer: An `rl_rms.RMSprop`.

    Returns:
        - ``half_life_updates``: the first group's half-life in updates.
        - ``half_life_steps``: the same in env steps; left out while ``steps_per_update`` is not set.
        - ``rho``: the decay per update that it comes to. The three are left out while a half-life in env steps
          cannot be converted yet.
        - ``effective_step``: root mean square of ``lr * g / d``, the last step without momentum and weight decay;
          it equals lr where v tracks the gradients' second moment.
        - ``second_moment``: mean of v^, the debiased and centered estimate where those options are set.
        - ``gradient_norm``: global norm of the gradients, before the optimizer's own clipping.
    """
    values: dict[str, float] = {}
    steps_per_update = optimizer.steps_per_update
    if optimizer.param_groups[0]["half_life"] is None or steps_per_update is not None:
        values["half_life_updates"] = optimizer.half_life
        if steps_per_update is not None:
            values["half_life_steps"] = optimizer.half_life * steps_per_update
        values["rho"] = optimizer.rho

    steps, second_moments, grads = [], [], []
    for group in optimizer.param_groups:
        for param in group["params"]:
            state = optimizer.state.get(param)
            if not state:
                continue
            v_hat = second_moment(state, centered=group["centered"], debias=group["debias"])
            second_moments.append(v_hat)
            if param.grad is not None:
                grad = real(param.grad).to(v_hat.dtype)
                d = denominator(v_hat, group["eps"], eps_inside_sqrt=group["eps_inside_sqrt"])
                grads.append(grad)
                steps.append(float(group["lr"]) * grad / d)
    norm = optimizer.gradient_norm
    return {
        **values,
        "effective_step": _mean(step.square() for step in steps) ** 0.5,
        "second_moment": _mean(second_moments),
        "gradient_norm": sum(float(grad.square().sum()) for grad in grads) ** 0.5 if norm is None else norm,
    }


def _mean(tensors: Iterable[Tensor]) -> float:
    """Mean over all coordinates of all tensors, 0 where there are none."""
    total, count = 0.0, 0
    for tensor in tensors:
        total += float(tensor.sum())
        count += tensor.numel()
    return total / max(count, 1)
