"""The update rule on lists of tensors, with few kernel launches.

This kernel supports all options except ``differentiable``, ``max_update_rms`` and ``cautious``. The last two need
a mean over each tensor.
"""

from collections import defaultdict
from typing import Any

from torch import Tensor

from rl_rms.optim.kernels.batch import Batch, UniformBatch, multiply_
from rl_rms.optim.kernels.kernel import Options
from rl_rms.optim.options import as_scalar, takes_tensor_means
from rl_rms.optim.rule import Scalar, State, as_dtype, largest_root, real
from rl_rms.optim.torch_private import (
    foreach_add,
    foreach_add_,
    foreach_addcmul_,
    foreach_clamp_max_,
    foreach_clamp_min,
    foreach_clamp_min_,
    foreach_copy_,
    foreach_div_,
    foreach_lerp_,
    foreach_mul,
    foreach_mul_,
    foreach_neg,
    foreach_sqrt_,
    foreach_sub,
)

# Kernel launches are expensive on these devices. On a CPU, temporary tensors make the update of large networks
# slower than a loop.
DEVICES = frozenset({"cuda", "xpu"})


class ForeachKernel:
    """Updates all parameters of one device and precision together."""

    def supports(self, batch: Batch, group: Options) -> bool:
        """Whether the kernel supports the group's options, and is requested or likely faster than a loop."""
        if takes_tensor_means(group):
            return False
        if group["foreach"] is not None:
            return bool(group["foreach"])
        is_costly = batch.is_uniform or all(param.device.type in DEVICES for param in batch.params)
        return is_costly and not group["differentiable"]

    def update(self, batch: Batch, group: Options, *, scale: float) -> None:
        """Update parameters and states in place."""
        batch.scale_(scale)
        have_past = [state["initial_weight"] != 1.0 for state in batch.states]
        batch.count_update(group["alpha"])
        if isinstance(batch, UniformBatch) and batch.is_small:
            _update_gathered(batch, group, had_past=have_past[0])
            return
        lists: dict[Any, list[tuple[Tensor, Tensor, State, Any]]] = defaultdict(list)
        for member in zip(batch.params, batch.grads, batch.states, have_past, strict=True):
            lists[member[0].device, member[0].dtype].append(member)
        for members in lists.values():
            _update(members, group)


def _update_gathered(batch: UniformBatch, group: Options, *, had_past: bool) -> None:
    """Update a small batch. Flat tensors hold the gradients and averages of the batch."""
    params, lr, weight_decay, bound = (
        batch.params,
        float(group["lr"]),
        group["weight_decay"],
        largest_root(batch.dtype),
    )
    (u,), (step, steps) = batch.tensors(), batch.flat("gradient")
    batch.changed()
    if group["maximize"]:
        u.neg_()
    if weight_decay != 0 and not group["decoupled_weight_decay"]:
        foreach_add_(steps, params, alpha=weight_decay)
    state: State = {"initial_weight": batch.initial_weight()}
    for name, averages in batch.averages.items():
        state[name], parts = batch.flat(name)
        foreach_copy_(parts, averages)
    (u,) = _advance_([u.clamp_(-bound, bound)], [state], [had_past], group, lr=lr)
    for name, averages in batch.averages.items():
        foreach_copy_(averages, batch.flat(name)[1])
    if u is not step:
        step.copy_(u)
    if weight_decay != 0 and group["decoupled_weight_decay"]:
        multiply_(params, 1 - lr * float(weight_decay))
    foreach_add_(params, steps, alpha=-1 if group["lr_in_momentum"] else -lr)


def _update(members: list[tuple[Tensor, Tensor, State, Any]], group: Options) -> None:
    """Update parameters of one device and precision.

    Args:
        members: Each parameter with its gradient, its state, and whether it had an earlier update.
        group: The options of the parameter group.
    """
    params, grads, states, have_past = (list(each) for each in zip(*members, strict=True))
    lr, weight_decay = as_scalar(group["lr"]), group["weight_decay"]
    dtype = real(states[0]["square_avg"]).dtype
    # In half precision, ps and gs are copies; otherwise they share memory with parameters and gradients.
    ps = [real(param).to(dtype) for param in params]
    gs = [real(grad).to(dtype) for grad in grads]
    if group["maximize"]:
        gs = list(foreach_neg(gs))
    if weight_decay != 0 and not group["decoupled_weight_decay"]:
        gs = list(foreach_add(gs, ps, alpha=weight_decay))
    bound = largest_root(dtype)
    gs = list(foreach_clamp_min(gs, -bound))
    foreach_clamp_max_(gs, bound)
    us = _advance_(gs, states, have_past, group, lr=lr)
    if weight_decay != 0 and group["decoupled_weight_decay"]:
        foreach_mul_(ps, 1 - lr * weight_decay)
    foreach_add_(ps, us if group["lr_in_momentum"] else list(foreach_mul(us, lr)), alpha=-1)
    if dtype != real(params[0]).dtype:
        foreach_copy_([real(param) for param in params], ps)


def _advance_(
    grads: list[Tensor], states: list[State], have_past: list[Any], group: Options, *, lr: Scalar
) -> list[Tensor]:
    """Update averages in place.

    Args:
        grads: Real gradients on one device, in the precision of the states, with finite squares. The gradients
            include coupled weight decay, and are overwritten.
        states: The states, whose counts include this update.
        have_past: Whether each state had an earlier update.
        group: The options of the parameter group.
        lr: Learning rate.

    Returns:
        u of `rl_rms.optim.rule` for each gradient, or ``lr u`` with ``lr_in_momentum``. The results may share
        memory with the states.
    """
    rho, momentum, optimism = group["alpha"], group["momentum"], group["optimism"]
    dtype = grads[0].dtype
    v = [real(state["square_avg"]) for state in states]
    us, ds = grads, list(foreach_mul(grads, grads))
    foreach_lerp_(v, ds, 1 - rho)
    foreach_copy_(ds, v)
    if group["centered"]:
        m = [real(state["grad_avg"]) for state in states]
        foreach_lerp_(m, us, 1 - rho)
        foreach_addcmul_(ds, m, m, value=-1.0)
        foreach_clamp_min_(ds, 0.0)
    if group["bias_correction"]:
        weights: list[Any] = [as_dtype(1 - state["initial_weight"], dtype) for state in states]
        foreach_div_(ds, weights)
    if group["eps_in_sqrt"]:
        foreach_add_(ds, group["eps"])
        foreach_sqrt_(ds)
    else:
        foreach_sqrt_(ds)
        foreach_add_(ds, group["eps"])
    foreach_div_(us, ds)

    if group["lr_in_momentum"]:
        foreach_mul_(us, lr)
    if momentum != 0:
        buffers = [real(state["momentum_buffer"]) for state in states]
        foreach_mul_(buffers, momentum)
        foreach_add_(buffers, us)
        us = list(foreach_add(us, buffers, alpha=momentum)) if group["nesterov"] else buffers
    if optimism != 0:
        before = [real(state["previous_update"]) for state in states]
        changes = list(foreach_sub(us, before))
        shares: list[Any] = [as_dtype(optimism * has, dtype) for has in have_past]
        foreach_mul_(changes, shares)
        foreach_copy_(before, us)
        us = list(foreach_add(us, changes))
    return us
