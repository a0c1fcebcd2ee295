"""The guard: checks and clips gradients before the second moment accumulates them.

An outlier in the second moment shortens every step for several half-lives. A nan in the second moment never
disappears. Gradients are clipped by coordinate, by tensor and by the norm of all gradients, in this order.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from rl_rms.half_life import is_number
from rl_rms.optim.clipping import (
    clip_by_second_moment_,
    clip_by_tensor_norm_,
    clip_by_value_,
    cut_squares_off_,
    describe_nonfinite,
    total_norm,
)
from rl_rms.optim.kernels.batch import Batch
from rl_rms.optim.rule import State, real

OnNonfinite = Literal["raise", "skip"]

# Limits of gradients. Each limit must be above the given number.
_CLIPS = {"max_grad_value": 0, "max_grad_ratio": 1, "max_tensor_norm": 0, "max_grad_norm": 0}
_COUNTS = ("num_updates", "num_nonfinite", "clip_share")
# The share of clipped updates is averaged over roughly this many updates.
_RECENT = 100


class Norm(NamedTuple):
    """The norm of all gradients.

    Attributes:
        value: The norm over all coordinates.
        overflows: Whether squares of the gradients may overflow in their precision.
    """

    value: float
    overflows: bool


class GradientGuard:
    """Checks and clips gradients in place, and counts updates. `rl_rms.RMSprop` documents the arguments.

    Attributes:
        gradient_norm: Global norm of the last gradients before clipping; None if no option needs it, or before
            the first update.
        num_updates: Number of updates that were not skipped.
        num_nonfinite: Number of updates that were skipped because a gradient was not finite.
        clip_share: Share of clipped updates among roughly the last hundred updates.

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
        for name, least in _CLIPS.items():
            bound = getattr(self, name)
            if bound is not None and not (is_number(bound) and bound > least):
                raise ValueError(f"{name} must be > {least}, or None for no clipping, got {bound!r}")
        if on_nonfinite not in (*get_args(OnNonfinite), None):
            raise ValueError(f'on_nonfinite must be "raise", "skip" or None, got {on_nonfinite!r}')
        self.gradient_norm: float | None = None
        self.num_updates = 0
        self.num_nonfinite = 0
        self.clip_share = 0.0

    def check_can_read(self, *, is_symbolic: bool) -> None:
        """Raise an error if an argument of the guard is set, but the guard cannot read the values of gradients.

        Args:
            is_symbolic: Whether the step is differentiable or capturable.

        Raises:
            ValueError: If the step is differentiable or capturable, and an argument of the guard is set.
        """
        if is_symbolic and self.in_use():
            raise ValueError(
                f"{self.in_use()[0]} must be None in a differentiable or capturable step, which cannot read the "
                "values of gradients; clip the gradients before the step"
            )

    def in_use(self) -> list[str]:
        """Names of the arguments that are not None."""
        return [name for name in (*_CLIPS, "on_nonfinite") if getattr(self, name) is not None]

    @property
    def needs_norm(self) -> bool:
        """Whether the norm of all gradients is needed."""
        return self.max_grad_norm is not None or self.on_nonfinite is not None

    @property
    def clips_in_place(self) -> bool:
        """Whether gradients are clipped by coordinate or by tensor."""
        return not (self.max_grad_value is None and self.max_grad_ratio is None and self.max_tensor_norm is None)

    def admit(self, grads: list[Tensor]) -> Norm | None:
        """Check the norm of all gradients.

        Returns:
            The norm; None if the update must be skipped. A skipped update is counted.

        Raises:
            FloatingPointError: If the norm is not finite and ``on_nonfinite="raise"``.
        """
        norm = total_norm(grads)
        overflows = not math.isfinite(norm)
        if overflows:
            # The gradients may be finite although their squares overflow float32.
            norm = total_norm([grad.double() for grad in grads])
        self.gradient_norm = norm
        if not math.isfinite(norm) and self.on_nonfinite is not None:
            if self.on_nonfinite == "raise":
                raise FloatingPointError(
                    f"the gradients' norm must be finite, got {norm}; no weight was updated. Lower the learning "
                    'rate, or skip such updates with on_nonfinite="skip"'
                )
            self.num_nonfinite += 1
            return None
        return Norm(norm, overflows)

    def prepare(
        self, batches: Sequence[Batch], groups: list[dict[str, Any]], states: Mapping[Tensor, State]
    ) -> float | None:
        """Check and clip the gradients of a step.

        Returns:
            The factor by which the kernel must scale the gradients, so that their norm is at most
            ``max_grad_norm``. None if the step must be skipped.

        Raises:
            FloatingPointError: If a gradient is not finite and ``on_nonfinite="raise"``.
        """
        norm = None
        if self.needs_norm:
            norm = self._admit(batches, groups)
            if norm is None:
                return None
        clipped = False
        if self.clips_in_place:
            for group in groups:
                clipped |= self.clip_in_place(group, states)
            if clipped:
                _mark_changed(batches)
        scale = 1.0
        if norm is not None and self.max_grad_norm is not None:
            scale = self.scale(total_norm(_tensors(batches)) if clipped else norm.value)
        self.count(clipped=clipped or scale < 1.0)
        if norm is not None and norm.overflows:
            cut_squares_off_(_params(groups), scale)
            _mark_changed(batches)
            return 1.0
        return scale

    def _admit(self, batches: Sequence[Batch], groups: list[dict[str, Any]]) -> Norm | None:
        """Call `admit`, and name the parameter in the error."""
        try:
            return self.admit(_tensors(batches))
        except FloatingPointError as error:
            params = enumerate(_params(groups))
            named = ((f"parameter {index}, of shape {tuple(param.shape)},", param) for index, param in params)
            raise FloatingPointError(describe_nonfinite(named) or str(error)) from None

    @torch.no_grad()
    def clip_in_place(self, group: dict[str, Any], states: Mapping[Tensor, State]) -> bool:
        """Clip the gradients of a group by coordinate, then by tensor.

        Returns:
            Whether any gradient was clipped.
        """
        params = [param for param in group["params"] if param.grad is not None]
        grads = [real(param.grad) for param in params if param.grad is not None]
        clipped = False
        if self.max_grad_value is not None:
            clipped |= clip_by_value_(grads, self.max_grad_value)
        if self.max_grad_ratio is not None:
            options = {name: group[name] for name in ("eps", "centered", "bias_correction")}
            clipped |= clip_by_second_moment_(
                grads, [states.get(param, {}) for param in params], self.max_grad_ratio, **options
            )
        if self.max_tensor_norm is not None:
            clipped |= clip_by_tensor_norm_(grads, self.max_tensor_norm)
        return clipped

    def scale(self, norm: float) -> float:
        """The clipping factor for a global norm, as in `torch.nn.utils.clip_grad_norm_`."""
        scale = 1.0 if self.max_grad_norm is None else self.max_grad_norm / (norm + 1e-6)
        return 1.0 if scale >= 1.0 else scale

    def count(self, *, clipped: bool) -> None:
        """Count an update that is not skipped."""
        self.num_updates += 1
        # The first updates have equal weights, so the average is not biased towards 0.
        self.clip_share += (clipped - self.clip_share) / min(self.num_updates, _RECENT)

    def state_dict(self) -> dict[str, Any]:
        """``num_updates``, ``num_nonfinite`` and ``clip_share``."""
        return {name: getattr(self, name) for name in _COUNTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a `state_dict`.

        Raises:
            ValueError: If an entry is missing, if ``clip_share`` is not a number >= 0, or if another entry is not
                a whole number >= 0.
        """
        for name, kinds, wanted in (
            ("num_updates", (int,), "a whole number >= 0"),
            ("num_nonfinite", (int,), "a whole number >= 0"),
            ("clip_share", (int, float), "a number >= 0"),
        ):
            if not isinstance(state, dict) or name not in state:
                raise ValueError(
                    f"the state of the guard must hold {name!r}, got {state!r:.200}; save the optimizer again"
                )
            if type(state[name]) not in kinds or not 0 <= state[name] < math.inf:
                raise ValueError(f"{name} in the state of the guard must be {wanted}, got {state[name]!r}")
        for name in _COUNTS:
            setattr(self, name, state[name])


def _params(groups: list[dict[str, Any]]) -> list[Tensor]:
    return [param for group in groups for param in group["params"]]


def _tensors(batches: Sequence[Batch]) -> list[Tensor]:
    return [tensor for batch in batches for tensor in batch.tensors()]


def _mark_changed(batches: Sequence[Batch]) -> None:
    for batch in batches:
        batch.changed()
