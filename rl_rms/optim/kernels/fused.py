"""The update rule as one call of torch's fused AdamW, which takes lists of tensors and passes over memory once.

With ``beta1 = 0``, the gradient as its own first moment and a step count at which its bias correction is 1, it
computes RMSprop. Its weight decay is the decoupled one. It checks no sizes: `FlatBucket.collect` does before each
call, and `verified_adamw` compares it with `rl_rms.optim.rule.rmsprop_update` before the first.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rl_rms.optim import torch_private
from rl_rms.optim.kernels.buckets import FlatBucket, FlatGradients
from rl_rms.optim.kernels.kernel import Options
from rl_rms.optim.rule import rmsprop_init, rmsprop_update
from rl_rms.optim.torch_private import foreach_add_, foreach_addcmul_, foreach_mul_

# AdamW rounds rho to the buffers' precision, but not 1 - rho. Where that could make v larger or smaller by more
# than this share (in float32, at half-lives from 23 260 updates on) another kernel is used.
_MOST_BIAS = 1e-3
_ROUNDING = {dtype: torch.finfo(dtype).eps / 4.0 for dtype in (torch.float32, torch.float64)}
# Learning rates that numbers are divided by before AdamW multiplies them again; smaller ones give infinities.
_LEAST_LR = 1e-290


class FusedKernel:
    """Updates all parameters of a bucket in one call; not centered, and without optimism."""

    def supports(self, gradients: FlatGradients, group: Options) -> bool:
        """Whether AdamW is the rule with a group's options, in the bucket's precision."""
        if group["centered"] or group["optimism"]:
            return False
        rho, dtype = group["alpha"], gradients.bucket.dtype
        if rho == 0.0 and group["eps_in_sqrt"]:
            return False  # eps is divided by rho
        divides_by_lr = group["decoupled_weight_decay"] or (group["momentum"] and group["lr_in_momentum"])
        if divides_by_lr and group["lr"] < _LEAST_LR:
            return False
        return _ROUNDING[dtype] <= _MOST_BIAS * (1.0 - rho) and verified_adamw(dtype) is not None

    @torch.no_grad()
    def update(self, gradients: FlatGradients, group: Options, *, scale: float) -> None:
        """Update parameters and states in place."""
        bucket, lr, weight_decay = gradients.bucket, float(group["lr"]), float(group["weight_decay"])
        momentum, decoupled = float(group["momentum"]), group["decoupled_weight_decay"]
        kept = 1.0 - lr * weight_decay if decoupled else 1.0
        coupled = 0.0 if decoupled else weight_decay
        grads, divisor = gradients.grads, None
        is_direct = gradients.are_plain and not (group["maximize"] or coupled or group["eps_in_sqrt"])
        if scale != 1.0:
            if is_direct and 0.0 < scale < 1.0 and bucket.dtype is torch.float32:
                # AdamW scales gradients by a float32 number on its way, which saves a pass over memory.
                gradients.changed()
                divisor = bucket.divisor.fill_(1.0 / scale)
            else:
                gradients.scale_(scale)
        if not is_direct:
            _, grads = gradients.descended(maximize=group["maximize"], weight_decay=coupled)
        bucket.count_update(group["alpha"])
        if not momentum:
            _move(bucket, bucket.params, grads, group, length=lr, kept=kept, divisor=divisor)
        else:
            # The buffer takes the place of the parameter, and momentum takes the place of its decay. Nesterov's
            # step u + momentum b is (1 + momentum) b - momentum b', b' being the buffer before.
            length, buffers = (1.0 if group["lr_in_momentum"] else lr), bucket.parts["momentum_buffer"]
            if kept != 1.0:
                foreach_mul_(bucket.params, kept)
            if group["nesterov"]:
                foreach_add_(bucket.params, buffers, alpha=momentum * length)
            own = -lr if group["lr_in_momentum"] else -1.0
            _move(bucket, buffers, grads, group, length=own, kept=momentum, divisor=divisor)
            foreach_add_(bucket.params, buffers, alpha=-length * (1.0 + momentum if group["nesterov"] else 1.0))
        # AdamW does not tell autograd that it has written to the parameters.
        torch.autograd.graph.increment_version(bucket.params)


def _move(
    bucket: FlatBucket,
    targets: list[Tensor],
    grads: list[Tensor],
    group: Options,
    *,
    length: float,
    kept: float,
    divisor: Tensor | None,
) -> None:
    """``target <- kept * target - length * g / d`` and ``v <- rho v + (1 - rho) g*g`` in one pass."""
    rho, eps, v, squares = group["alpha"], group["eps"], bucket.state["square_avg"], bucket.parts["square_avg"]
    # g / (sqrt(v / c) + eps) = sqrt(c) g / (sqrt(v) + sqrt(c) eps), with c the weight of gradients in v.
    weight = 1.0 - bucket.state["initial_weight"] if group["bias_correction"] else 1.0
    root = math.sqrt(weight)
    inside = eps if group["eps_in_sqrt"] else 0.0
    if inside:
        # With v + c eps / rho for v AdamW divides by the root of rho v + (1 - rho) g*g + c eps.
        shifted, squares = bucket.scratch("shifted")
        torch.add(v, inside * weight / rho, out=shifted)
    torch_private.fused_adamw_(
        targets,
        grads,
        grads,
        squares,
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
        # The kernel's sum less eps would lose a small v in rounding.
        v.mul_(rho)
        foreach_addcmul_(bucket.parts["square_avg"], grads, grads, value=1.0 - rho)


# A step count at which AdamW's bias correction is 1 for every rho below 1 - 1e-7.
_STEP = torch.tensor(1e9)


@functools.cache
def verified_adamw(dtype: torch.dtype) -> Callable[..., None] | None:
    """The fused AdamW of torch, if it is there and is RMSprop when it is called as RMSprop.

    Returns:
        The kernel, or None where torch has none or it gives other numbers than `rmsprop_update`.
    """
    kernel: Callable[..., None] | None = torch_private.fused_adamw_
    if kernel is None:
        return None
    param = torch.linspace(-2.0, 3.0, 33, dtype=dtype)
    state, v = rmsprop_init(param), torch.zeros_like(param)
    flat = param.clone()
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01, "eps": 1e-5}
    # Scaling is asked of it in float32 alone.
    divisor = torch.tensor(4.0) if dtype is torch.float32 else None
    for size in (1e-3, 1.0, 1e2):
        grad = size * torch.sin(param)
        g = grad.clone() if divisor is None else grad * divisor
        settings = {"beta1": 0.0, "beta2": 0.9, "amsgrad": False, "maximize": False, "grad_scale": divisor}
        try:
            kernel([flat], [g], [g], [v], [], [_STEP], **settings, **options)
        except (RuntimeError, TypeError, NotImplementedError):
            return None
        param, state = rmsprop_update(param, grad, state, rho=0.9, decoupled_weight_decay=True, **options)
        pairs = ((flat, param), (v, state["square_avg"]), (g, grad))
        if not all(torch.allclose(own, other, rtol=1e-5) for own, other in pairs):
            return None
    return kernel
