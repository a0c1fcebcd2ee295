"""Clips gradients in place by coordinate and by tensor, and describes non-finite gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor

from rl_rms.optim.rule import State, gathered, largest_root, real, second_moment


def total_norm(grads: list[Tensor]) -> float:
    """The Euclidean norm of all gradients together, with all parts of distributed gradients."""
    if len(grads) == 1:
        return gathered(torch.linalg.vector_norm(grads[0])).item()
    return float(gathered(torch.nn.utils.get_total_norm(grads)))


def describe_nonfinite(params: Iterable[tuple[str, Tensor]]) -> str:
    """An error message about the first non-finite gradient; empty if all gradients are finite.

    Args:
        params: Parameters with their names.
    """
    for name, param in params:
        if param.grad is not None and not gathered(param.grad.isfinite().all()):
            grad = gathered(param.grad)
            nonfinite = grad[~grad.isfinite()]
            return (
                f"the gradient of {name} must be finite, got {nonfinite[0].item()} (not finite: {len(nonfinite)} "
                f"of {grad.numel()} numbers); no weight was updated. Fix the loss, or skip such updates with "
                'on_nonfinite="skip"'
            )
    return ""


def clip_by_value_(grads: list[Tensor], bound: float) -> bool:
    """Clip every coordinate to ``[-bound, bound]``, in place.

    Args:
        grads: Real gradients.
        bound: The largest magnitude, > 0.

    Returns:
        Whether any coordinate was clipped.
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
    """Clip every coordinate to the magnitude ``ratio * sqrt(v^)``, in place.

    v^ is the second moment after centering and bias correction, without these gradients. The clipping limits a
    burst in a single coordinate, which may hardly change the norm of all gradients. A coordinate with
    ``sqrt(v^) <= eps`` is not clipped, because with v^ = 0 all its gradients would become 0.

    Args:
        grads: Real gradients.
        states: States of the gradients' parameters. If a state is empty or at step 0, the gradient is not clipped.
        ratio: The largest magnitude, as a multiple of the root second moment, > 1.
        eps: Root second moments up to this value count as unknown.
        centered: As in `rl_rms.optim.rule.rmsprop_update`.
        bias_correction: As in `rl_rms.optim.rule.rmsprop_update`.

    Returns:
        Whether any coordinate was clipped.
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
    """Scale every tensor with a norm above ``max_norm`` down to the norm ``max_norm``, in place.

    Args:
        grads: Real gradients.
        max_norm: The largest norm of one tensor, > 0.

    Returns:
        Whether any tensor was scaled.
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
    """Scale gradients, and clip coordinates whose squares would overflow, in place.

    Args:
        params: Parameters; those without a gradient are skipped.
        scale: Factor of the gradients.
    """
    for param in params:
        if param.grad is not None:
            bound = largest_root(torch.promote_types(real(param).dtype, torch.float32))
            real(param.grad).mul_(scale).clamp_(-bound, bound)
