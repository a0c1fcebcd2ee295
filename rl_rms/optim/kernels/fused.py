"""The update rule as one call of torch's fused AdamW, which takes lists of tensors and passes over memory once.

AdamW computes RMSprop with three settings: ``beta1`` is 0, the gradient is the first moment, and the step count is
so large that the bias correction is 1. AdamW's weight decay is decoupled. AdamW does not check sizes;
`UniformBatch.collect` checks them before each call. `verified_adamw` compares AdamW with
`rl_rms.optim.rule.rmsprop_update` before the first call.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rl_rms.optim import torch_private
from rl_rms.optim.kernels.batch import Batch, UniformBatch, multiply_
from rl_rms.optim.kernels.kernel import Options
from rl_rms.optim.rule import rmsprop_init, rmsprop_update
from rl_rms.optim.torch_private import foreach_add, foreach_add_, foreach_addcmul_

# AdamW rounds rho to the averages' precision, but not 1 - rho. If the rounding can change v by more than this
# share, another kernel makes the update. In float32, this applies to half-lives above about 23,258 updates.
_MOST_BIAS = 1e-3
_ROUNDING = {dtype: torch.finfo(dtype).eps / 4.0 for dtype in (torch.float32, torch.float64)}
# This kernel divides some arguments by the learning rate, because AdamW multiplies them by the learning rate. At
# learning rates below this limit, the quotient may overflow.
_LEAST_LR = 1e-290


class FusedKernel:
    """Updates a uniform batch with one call of AdamW. ``centered`` and ``optimism`` are not supported."""

    def supports(self, batch: Batch, group: Options) -> bool:
        """Whether AdamW computes the rule with a group's options, in the precision of the batch."""
        if not isinstance(batch, UniformBatch) or group["centered"] or group["optimism"]:
            return False
        rho, dtype = group["alpha"], batch.dtype
        if group["eps_in_sqrt"] and (batch.is_small or rho == 0.0):
            return False  # `_move` divides eps by rho, and needs additional operations
        divides_by_lr = group["decoupled_weight_decay"] or (group["momentum"] and group["lr_in_momentum"])
        if divides_by_lr and group["lr"] < _LEAST_LR:
            return False
        return _ROUNDING[dtype] <= _MOST_BIAS * (1.0 - rho) and verified_adamw(dtype) is not None

    def update(self, batch: Batch, group: Options, *, scale: float) -> None:
        """Update parameters and states in place."""
        assert isinstance(batch, UniformBatch)
        lr, weight_decay, momentum = float(group["lr"]), float(group["weight_decay"]), float(group["momentum"])
        params, grads, divisor = batch.params, batch.grads, None
        is_coupled = weight_decay != 0.0 and not group["decoupled_weight_decay"]
        if 0.0 < scale < 1.0 and batch.dtype is torch.float32 and not is_coupled:
            # AdamW divides gradients by a float32 number in the same pass, which saves a pass over memory.
            batch.changed()
            divisor = batch.divisor.fill_(1.0 / scale)
        else:
            batch.scale_(scale)
        if is_coupled:
            grads = list(foreach_add(grads, params, alpha=-weight_decay if group["maximize"] else weight_decay))
        kept = 1.0 - lr * weight_decay if group["decoupled_weight_decay"] else 1.0
        batch.count_update(group["alpha"])
        # AdamW's option ``maximize`` would negate the gradients, which are also its first moments here.
        sign = -1.0 if group["maximize"] else 1.0
        if not momentum:
            _move(batch, params, grads, group, length=sign * lr, kept=kept, divisor=divisor)
            # The kernel of AdamW does not increment the versions of the parameters, which autograd compares.
            torch.autograd.graph.increment_version(params)
            return
        # AdamW updates the momentum buffer instead of the parameter, and multiplies the buffer by momentum.
        # Nesterov's step u + momentum b is (1 + momentum) b - momentum b', where b' is the previous buffer.
        length, buffers = (1.0 if group["lr_in_momentum"] else lr), batch.averages["momentum_buffer"]
        if kept != 1.0:
            multiply_(params, kept)
        if group["nesterov"]:
            foreach_add_(params, buffers, alpha=momentum * length)
        own = -sign * lr if group["lr_in_momentum"] else -sign
        _move(batch, buffers, grads, group, length=own, kept=momentum, divisor=divisor)
        foreach_add_(params, buffers, alpha=-length * (1.0 + momentum if group["nesterov"] else 1.0))


def _move(
    batch: UniformBatch,
    targets: list[Tensor],
    grads: list[Tensor],
    group: Options,
    *,
    length: float,
    kept: float,
    divisor: Tensor | None,
) -> None:
    """``target <- kept * target - length * g / d`` and ``v <- rho v + (1 - rho) g*g`` in one pass."""
    rho, eps, squares = group["alpha"], group["eps"], batch.averages["square_avg"]
    # g / (sqrt(v / c) + eps) = sqrt(c) g / (sqrt(v) + sqrt(c) eps), with c the weight of gradients in v.
    weight = 1.0 - batch.initial_weight() if group["bias_correction"] else 1.0
    root = math.sqrt(weight)
    inside = eps if group["eps_in_sqrt"] else 0.0
    # With v + c eps / rho in place of v, AdamW divides by the root of rho v + (1 - rho) g*g + c eps.
    v = list(foreach_add(squares, torch.tensor(inside * weight / rho, dtype=torch.float64))) if inside else squares
    torch_private.fused_adamw_(
        targets,
        grads,
        grads,
        v,
        [],
        [_STEP] * len(targets),
        lr=length * root,
        beta1=0.0,
        beta2=rho,
        weight_decay=0.0 if kept == 1.0 else (1.0 - kept) / (length * root),
        eps=0.0 if inside else eps * root,
        amsgrad=False,
        maximize=False,
        grad_scale=divisor,
    )
    if inside:
        # AdamW updated a copy of v plus a constant. Subtracting the constant would round a small v to 0, so v is
        # updated here.
        multiply_(squares, rho)
        foreach_addcmul_(squares, grads, grads, value=1.0 - rho)


# At this step count, AdamW's bias correction is 1 for every rho that `FusedKernel` supports.
_STEP = torch.tensor(1e18)


@functools.cache
def verified_adamw(dtype: torch.dtype) -> Callable[..., None] | None:
    """The fused AdamW of torch, if it exists and computes RMSprop in this precision.

    Returns:
        The kernel. None if torch does not have it, or if its results differ from `rmsprop_update`.
    """
    kernel: Callable[..., None] | None = torch_private.fused_adamw_
    if kernel is None:
        return None
    param = torch.linspace(-2.0, 3.0, 33, dtype=dtype)
    state, v = rmsprop_init(param), torch.zeros_like(param)
    target = param.clone()
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01, "eps": 1e-5}
    # Gradients are scaled only in float32.
    divisor = torch.tensor(4.0) if dtype is torch.float32 else None
    for size in (1e-3, 1.0, 1e2):
        grad = size * torch.sin(param)
        g = grad.clone() if divisor is None else grad * divisor
        settings = {"beta1": 0.0, "beta2": 0.9, "amsgrad": False, "maximize": False, "grad_scale": divisor}
        try:
            kernel([target], [g], [g], [v], [], [_STEP], **settings, **options)
        except (RuntimeError, TypeError, NotImplementedError):
            return None
        param, state = rmsprop_update(param, grad, state, rho=0.9, decoupled_weight_decay=True, **options)
        pairs = ((target, param), (v, state["square_avg"]), (g, grad))
        if not all(torch.allclose(own, other, rtol=1e-5) for own, other in pairs):
            return None
    return kernel
