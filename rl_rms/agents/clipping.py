"""Clips gradients by norm for optimizers other than `rl_rms.RMSprop`."""

import math
from collections.abc import Sequence

from torch import nn

from rl_rms.agents.config import OnNonfinite
from rl_rms.optim.guard import GradientGuard
from rl_rms.optim.torch_private import foreach_mul_


def clip_gradients(params: Sequence[nn.Parameter], max_norm: float | None, on_nonfinite: OnNonfinite) -> float:
    """Clip gradients by their global norm.

    Args:
        params: Parameters that have gradients.
        max_norm: The largest norm; None for no limit.
        on_nonfinite: Response to non-finite gradients.

    Returns:
        The norm before clipping; nan if a gradient was not finite.

    Raises:
        FloatingPointError: If a gradient is not finite and ``on_nonfinite`` is ``"raise"``.
    """
    grads = [param.grad for param in params if param.grad is not None]
    limit = math.inf if max_norm is None else max_norm
    total = nn.utils.get_total_norm(grads)
    norm = float(total)
    if math.isfinite(norm):
        nn.utils.clip_grads_with_norm_(params, limit, total)
        return norm
    guard = GradientGuard(max_grad_norm=max_norm, on_nonfinite=on_nonfinite)
    admitted = guard.admit(grads)
    if admitted is not None:
        # The gradients are finite; only their squares overflow.
        foreach_mul_(grads, guard.scale(admitted.value))
        return admitted.value
    return math.nan
