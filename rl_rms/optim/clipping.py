"""Clipping of gradients in place: by coordinate, by tensor, and where they are not finite."""

import torch
from torch import Tensor

from rl_rms.optim.rule import State, gathered, largest_root, real, second_moment


def mend_(grads: list[Tensor]) -> None:
    """Put 0 for nan, and the largest finite magnitude among all gradients for infinities, in place."""
    finite = [torch.nan_to_num(grad, nan=0.0, posinf=0.0, neginf=0.0) for grad in grads if grad.numel() > 0]
    largest = max((float(gathered(grad.abs().max())) for grad in finite), default=0.0)
    for grad in grads:
        grad.nan_to_num_(nan=0.0, posinf=largest, neginf=-largest)


def total_norm(grads: list[Tensor]) -> float:
    """Norm of all coordinates on all processes. A single gradient needs no sorting by device and precision."""
    if len(grads) == 1:
        return float(gathered(torch.linalg.vector_norm(grads[0])))
    return float(gathered(torch.nn.utils.get_total_norm(grads)))


def describe_nonfinite(params: list[Tensor]) -> str:
    """A sentence about the first gradient that is not finite, empty if all are."""
    for index, param in enumerate(params):
        if param.grad is not None and not gathered(param.grad.isfinite().all()):
            wrong = int(gathered((~param.grad.isfinite()).sum()))
            return (
                f"the gradient of parameter {index}, of shape {tuple(param.shape)}, is nan or infinite in "
                f"{wrong} of {param.numel()} coordinates; nothing was updated; mend the loss, or use "
                'on_nonfinite="skip" to pass over such steps'
            )
    return ""


def clip_by_value_(grads: list[Tensor], bound: float) -> bool:
    """Bring every coordinate into ``[-bound, bound]``, in place.

    Args:
        grads: Real gradients.
        bound: The largest magnitude, > 0.

    Returns:
        Whether any was outside.
    """
    clipped = False
    for grad in grads:
        if grad.numel() > 0 and bool(gathered(torch.linalg.vector_norm(grad, ord=torch.inf)) > bound):
            grad.clamp_(-bound, bound)
            clipped = True
    return clipped


def clip_by_second_moment_(
    grads: list[Tensor], states: list[State], ratio: float, *, eps: float, centered: bool, bias_correction: bool
) -> bool:
    """Bring every coordinate within ``ratio * sqrt(v^)`` of 0, in place; v^ is the one before these gradients.

    A burst in a single coordinate, which the norm of all gradients hardly shows, is contained where it is. A
    coordinate of which nothing is known, ``sqrt(v^) <= eps``, is left as it is: it would never learn otherwise.

    Args:
        grads: Real gradients.
        states: Their states, empty or of step 0 where there was no update: an initial v is no gradient's.
        ratio: The largest magnitude in root second moments, > 1.
        eps: Below which a root second moment means nothing.
        centered: As in `rl_rms.optim.rule.rmsprop_update`.
        bias_correction: Likewise.

    Returns:
        Whether any was outside.
    """
    clipped = False
    for grad, state in zip(grads, states, strict=True):
        if not state or not state["step"]:
            continue
        root = second_moment(state, centered=centered, bias_correction=bias_correction).sqrt()
        bound = torch.where(root > eps, ratio * root, torch.inf).to(grad.dtype)
        if bool(gathered((grad.abs() > bound).any())):
            grad.copy_(torch.clamp(grad, -bound, bound))
            clipped = True
    return clipped


def clip_by_tensor_norm_(grads: list[Tensor], max_norm: float) -> bool:
    """Scale every tensor whose own norm is above ``max_norm`` down to it, in place.

    Args:
        grads: Real gradients.
        max_norm: The largest norm of one tensor, > 0.

    Returns:
        Whether any was above.
    """
    clipped = False
    for grad in grads:
        norm = float(gathered(torch.linalg.vector_norm(grad)))
        if norm > max_norm:
            grad.mul_(max_norm / norm)
            clipped = True
    return clipped


@torch.no_grad()
def cut_squares_off_(params: list[Tensor], scale: float) -> None:
    """Scale gradients, and bring coordinates whose squares would be infinite to the largest finite root, in place.

    Args:
        params: Parameters; those without a gradient are passed over.
        scale: Factor of the gradients.
    """
    for param in params:
        if param.grad is not None:
            bound = largest_root(torch.promote_types(real(param).dtype, torch.float32))
            real(param.grad).mul_(scale).clamp_(-bound, bound)
