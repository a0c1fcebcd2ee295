"""What gradients pass before the second moment sees them: a guard against those that are not finite, and clipping.

One outlier that reaches the second moment shortens every step for as long as the memory lasts; one nan stays for
ever. Clipping goes by coordinate, by tensor and by the norm of all gradients, in this order.
"""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rl_rms.half_life import is_number
from rl_rms.optim.estimators import ChangeDetector
from rl_rms.optim.rule import State, gathered, real, second_moment

OnNonfinite = Literal["raise", "skip", "clip"]

_CLIPS = ("max_grad_value", "max_grad_ratio", "max_tensor_norm", "max_grad_norm")
_COUNTS = ("num_updates", "num_clipped", "num_nonfinite", "clip_share")
# Norms are looked at together: one by one that would cost as much as the norm itself.
_BLOCK = 64
# The share of clipped updates is an average over about this many.
_RECENT = 100


class GradientGuard:
    """Checks and clips the gradients of an update, in place, and counts what it does.

    Args:
        max_grad_norm: As in `rl_rms.RMSprop`, like the others.
        max_tensor_norm: Largest norm of one tensor.
        max_grad_value: Largest magnitude of a coordinate.
        max_grad_ratio: Largest magnitude of a coordinate in root second moments.
        on_nonfinite: What to do about gradients that are not finite.

    Attributes:
        gradient_norm: Global norm of the last gradients before clipping; None where nothing asks for it.
        num_updates: Updates let through.
        num_clipped: Those of them whose gradients were clipped.
        num_nonfinite: Updates whose gradients were not finite, and that were skipped, or made with mended ones.
        overflows: Whether squares of the last gradients, which are finite, may be too large for their precision.
        clip_share: Share of clipped updates among the last hundred or so.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        *,
        max_grad_norm: float | None = None,
        max_tensor_norm: float | None = None,
        max_grad_value: float | None = None,
        max_grad_ratio: float | None = None,
        on_nonfinite: OnNonfinite | None = None,
    ) -> None:
        self.max_grad_norm = max_grad_norm
        self.max_tensor_norm = max_tensor_norm
        self.max_grad_value = max_grad_value
        self.max_grad_ratio = max_grad_ratio
        self.on_nonfinite = on_nonfinite
        for name in _CLIPS:
            bound, least = getattr(self, name), 1 if name == "max_grad_ratio" else 0
            if bound is not None and not (is_number(bound) and bound > least):
                raise ValueError(f"{name} must be > {least}, or None for no clipping, got {bound!r}")
        if on_nonfinite not in (*get_args(OnNonfinite), None):
            raise ValueError(f'on_nonfinite must be "raise", "skip", "clip" or None, got {on_nonfinite!r}')
        self.gradient_norm: float | None = None
        self.overflows = False
        self.num_updates = 0
        self.num_clipped = 0
        self.num_nonfinite = 0
        self.clip_share = 0.0
        self._change_points = 0
        self._detector = ChangeDetector()
        self._norms: list[float] = []

    @property
    def num_change_points(self) -> int:
        """Changes of regime that were found in the gradients' norm, where something asks for that."""
        self._look_for_changes()
        return self._change_points

    def _look_for_changes(self) -> None:
        self._change_points += sum(map(self._detector.update, self._norms))
        self._norms.clear()

    def in_use(self) -> list[str]:
        """The arguments that are set."""
        return [name for name in (*_CLIPS, "on_nonfinite") if getattr(self, name) is not None]

    @property
    def needs_norm(self) -> bool:
        """Whether the norm of all gradients is looked at."""
        return self.max_grad_norm is not None or self.on_nonfinite is not None

    @property
    def clips_in_place(self) -> bool:
        """Whether gradients are clipped by coordinate or by tensor."""
        return not (self.max_grad_value is None and self.max_grad_ratio is None and self.max_tensor_norm is None)

    def admit(self, grads: list[Tensor]) -> bool:
        """Look at the norm of all gradients.

        Args:
            grads: All gradients, in any grouping.

        Returns:
            Whether the update may be made; if not, it has been counted.

        Raises:
            FloatingPointError: If it is not finite and ``on_nonfinite="raise"``.
        """
        norm = total_norm(grads)
        self.overflows = not math.isfinite(norm)
        if self.overflows:
            # In float32 the squares of finite gradients may overflow.
            norm = total_norm([grad.double() for grad in grads])
        self.gradient_norm = norm
        if not math.isfinite(norm) and self.on_nonfinite is not None:
            if self.on_nonfinite == "raise":
                raise FloatingPointError(
                    f"the gradients' norm must be finite, got {norm}; nothing was updated. Lower the learning "
                    'rate, or leave such updates out by on_nonfinite="skip"'
                )
            self.num_nonfinite += 1
            return False
        self._norms.append(norm)
        if len(self._norms) >= _BLOCK:
            self._look_for_changes()
        return True

    def clip_in_place(self, params: list[Tensor], states: list[State], group: dict[str, Any]) -> bool:
        """Clip the gradients of some parameters by coordinate, then by tensor.

        Args:
            params: Parameters with dense gradients.
            states: Their states, empty before their first update.
            group: The options of their group.

        Returns:
            Whether any gradient was clipped.
        """
        grads = [real(param.grad) for param in params if param.grad is not None]
        clipped = False
        if self.max_grad_value is not None:
            clipped |= clip_by_value_(grads, self.max_grad_value)
        if self.max_grad_ratio is not None:
            options = {name: group[name] for name in ("eps", "centered", "bias_correction")}
            clipped |= clip_by_second_moment_(grads, states, self.max_grad_ratio, **options)
        if self.max_tensor_norm is not None:
            clipped |= clip_by_tensor_norm_(grads, self.max_tensor_norm)
        return clipped

    def scale(self, norm: float) -> float:
        """What gradients of a global norm are multiplied with, as `torch.nn.utils.clip_grad_norm_` does it."""
        scale = 1.0 if self.max_grad_norm is None else self.max_grad_norm / (norm + 1e-6)
        return 1.0 if scale >= 1.0 else scale

    def count(self, *, clipped: bool) -> None:
        """Count an update that is made."""
        self.num_updates += 1
        self.num_clipped += clipped
        # The average of a short past is that past's, not one that starts at 0.
        self.clip_share += (clipped - self.clip_share) / min(self.num_updates, _RECENT)

    def state_dict(self) -> dict[str, Any]:
        """The counts, as numbers."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return {**counts, "num_change_points": self.num_change_points, "detector": self._detector.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            ValueError: If a count is missing, or is no number >= 0.
        """
        for name in (*_COUNTS, "num_change_points", "detector"):
            if not isinstance(state, dict) or name not in state:
                raise ValueError(f"the state of the guard must hold {name!r}, got {state!r:.200}")
            kind = (float, int) if name == "clip_share" else int
            value = state[name]
            if name != "detector" and (
                not isinstance(value, kind) or isinstance(value, bool) or not 0 <= value < math.inf
            ):
                raise ValueError(f"{name} in the state of the guard must be a number >= 0, got {value!r}")
        self._detector.load_state_dict(state["detector"])
        for name in _COUNTS:
            setattr(self, name, state[name])
        self._change_points = state["num_change_points"]
        self._norms.clear()


def mend_(grads: list[Tensor]) -> None:
    """Put 0 for nan, and the largest finite magnitude among all gradients for infinities, in place.

    Args:
        grads: Real gradients.
    """
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
