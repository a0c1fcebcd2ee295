"""The update rule for many parameters at once: fewer, larger kernels where launching each one is what costs.

The same function as `rl_rms.optim.rule.rmsprop_update`, in place, on lists of tensors of one device and precision,
but for the options that look at a whole tensor or at the normalizer of the update before. It is meant for
accelerators; on a CPU its temporaries of the network's size make large networks slower than a loop.
"""

from typing import Any

import torch
from torch import Tensor

from rl_rms.optim.rule import Scalar, State, as_dtype, largest_root, real


def rmsprop_update_foreach(
    params: list[Tensor],
    grads: list[Tensor],
    states: list[State],
    *,
    lr: Scalar,
    rho: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    optimism: float,
    centered: bool,
    bias_correction: bool,
    eps_in_sqrt: bool,
    decoupled_weight_decay: bool,
    nesterov: bool,
    lr_in_momentum: bool,
) -> None:
    """Update parameters and states in place, outside of autograd.

    Args:
        params: Parameters of one device and precision.
        grads: Their gradients, which are left as they are.
        states: From `rl_rms.optim.rule.rmsprop_init` or the update before.
        lr: Learning rate; a tensor must be a scalar.
        rho: As in `rl_rms.optim.rule.rmsprop_update`, like everything that follows.
        eps: Epsilon.
        weight_decay: Weight decay.
        momentum: Momentum.
        optimism: Optimism.
        centered: Whether to subtract the squared mean gradient.
        bias_correction: Whether to divide v by the weight that gradients have in it.
        eps_in_sqrt: Whether epsilon stands under the root.
        decoupled_weight_decay: Whether weight decay bypasses the gradient.
        nesterov: Whether the step looks ahead along the momentum buffer.
        lr_in_momentum: Whether the buffer holds steps with their learning rate.
    """
    square_avgs = [real(state["square_avg"]) for state in states]
    dtype = square_avgs[0].dtype
    # Copies for half precision, the parameters' own memory otherwise.
    ps = [real(param).to(dtype) for param in params]
    gs = [real(grad).to(dtype) for grad in grads]

    if weight_decay != 0 and not decoupled_weight_decay:
        gs = list(torch._foreach_add(gs, ps, alpha=weight_decay))
    bound = largest_root(dtype)
    gs = list(torch._foreach_clamp_max(torch._foreach_clamp_min(gs, -bound), bound))
    torch._foreach_add_([state["step"] for state in states], 1)
    torch._foreach_lerp_(square_avgs, torch._foreach_mul(gs, gs), 1 - rho)
    have_past = [state["initial_weight"] != 1.0 for state in states]
    for state in states:
        state["initial_weight"] *= rho

    v_hats = square_avgs
    if centered:
        grad_avgs = [real(state["grad_avg"]) for state in states]
        torch._foreach_lerp_(grad_avgs, gs, 1 - rho)
        v_hats = list(torch._foreach_addcmul(v_hats, grad_avgs, grad_avgs, value=-1.0))
        torch._foreach_clamp_min_(v_hats, 0.0)
    if bias_correction:
        weights: list[Any] = [as_dtype(1 - state["initial_weight"], dtype) for state in states]
        v_hats = list(torch._foreach_div(v_hats, weights))
    if eps_in_sqrt:
        ds = torch._foreach_add(v_hats, eps)
        torch._foreach_sqrt_(ds)
    else:
        ds = torch._foreach_sqrt(v_hats)
        torch._foreach_add_(ds, eps)
    us = list(torch._foreach_div(gs, ds))

    if lr_in_momentum:
        torch._foreach_mul_(us, lr)
    if momentum != 0:
        buffers = [real(state["momentum_buffer"]) for state in states]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, us)
        us = list(torch._foreach_add(us, torch._foreach_mul(buffers, momentum))) if nesterov else buffers
    if optimism != 0:
        before = [real(state["previous_update"]) for state in states]
        changes = torch._foreach_sub(us, before)
        shares: list[Any] = [as_dtype(optimism * has_past, dtype) for has_past in have_past]
        torch._foreach_mul_(changes, shares)
        torch._foreach_copy_(before, us)
        us = list(torch._foreach_add(us, changes))
    if weight_decay != 0 and decoupled_weight_decay:
        torch._foreach_mul_(ps, 1 - lr * weight_decay)
    torch._foreach_sub_(ps, us if lr_in_momentum else torch._foreach_mul(us, lr))
    if dtype != real(params[0]).dtype:
        torch._foreach_copy_([real(param) for param in params], ps)
