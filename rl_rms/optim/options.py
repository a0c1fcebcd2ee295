"""Options of a parameter group: their ranges, their conflicts, and the arguments of the update rule."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from rl_rms.half_life import is_number, parse_half_life
from rl_rms.optim.rule import Scalar, is_used

_RULE_OPTIONS = (
    "eps",
    "weight_decay",
    "momentum",
    "optimism",
    "centered",
    "bias_correction",
    "eps_in_sqrt",
    "decoupled_weight_decay",
    "nesterov",
    "lr_in_momentum",
    "cautious",
    "max_update_rms",
)
_LARGEST = 3.4e38
_FLAGS = (
    "centered",
    "capturable",
    "foreach",
    "maximize",
    "differentiable",
    "bias_correction",
    "eps_in_sqrt",
    "decoupled_weight_decay",
    "nesterov",
    "lr_in_momentum",
    "cautious",
    "fused",
)
_UNDECIDED = ("foreach", "fused")
_OPTIONAL = ("alpha", "max_update_rms")
_NUMBERS = ("lr", "eps", "weight_decay", "momentum", "optimism", "initial_second_moment", *_OPTIONAL)


def check_options(group: Mapping[str, Any]) -> None:
    """Check the options of a group.

    Raises:
        ValueError: If an option is out of its range, or two options contradict each other. The message names the
            option and the value received.
    """
    _check_ranges(group)
    _check_decay(group)
    if group["bias_correction"] and group["initial_second_moment"] != 0:
        raise ValueError(
            "bias_correction needs a second moment that starts at 0, got bias_correction=True with "
            f"initial_second_moment={group['initial_second_moment']!r}; give bias_correction=False"
        )
    for name in ("nesterov", "cautious"):
        if group[name] and not is_used(group["momentum"]):
            raise ValueError(
                f"{name} needs momentum, got {name}=True with momentum=0; set momentum to a number such as 0.9"
            )
    if group["differentiable"] and group["foreach"]:
        raise ValueError(
            "foreach kernels do not support autograd, got foreach=True with differentiable=True; leave foreach out"
        )


def _check_ranges(group: Mapping[str, Any]) -> None:
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr must be a number or a tensor with one element, got shape {tuple(lr.shape)}")
    for name in _FLAGS:
        if not _is_flag(group[name]) and not (name in _UNDECIDED and group[name] is None):
            choices = "True, False or None" if name in _UNDECIDED else "True or False"
            raise ValueError(f"{name} must be {choices}, got {group[name]!r}")
    for name in _NUMBERS:
        is_one = _is_number(group[name]) and (name == "lr" or getattr(group[name], "ndim", 0) == 0)
        if not is_one and not (name in _OPTIONAL and group[name] is None):
            raise ValueError(f"{name} must be a number in the range of float32, got {group[name]!r}")
    for name in ("lr", "eps", "weight_decay", "optimism", "initial_second_moment"):
        if not group[name] >= 0:
            raise ValueError(f"{name} must be >= 0, got {group[name]!r}")
    if not group["momentum"] > -1:
        raise ValueError(
            f"momentum must be > -1, got {group['momentum']!r}; at -1 and below, the momentum buffer diverges"
        )
    if group["max_update_rms"] is not None and not group["max_update_rms"] > 0:
        raise ValueError(f"max_update_rms must be > 0, or None for no clipping, got {group['max_update_rms']!r}")


def _check_decay(group: Mapping[str, Any]) -> None:
    stated, alpha = group.get("half_life"), group["alpha"]
    if stated is not None:
        if not (isinstance(stated, str) or is_number(stated)):
            raise ValueError(
                'half_life of a parameter group must be None, a number, or a string such as "20_000 steps", got '
                f"{stated!r:.100}"
            )
        parse_half_life(stated)
    if not (0 <= alpha < 1 if alpha is not None else stated is not None):
        raise ValueError(f"alpha must be in [0, 1), or None if half_life is set, got {alpha!r}")


def _is_flag(value: Any) -> bool:
    """Whether a value is True, False, another integer or a bool of NumPy."""
    return isinstance(value, int) or type(value).__name__ in ("bool", "bool_")


def _is_number(value: Any) -> bool:
    """Whether a value is a real number within float32's range, nan or infinite, or a one-element real tensor."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not (value.is_meta or value.is_complex() or value.is_sparse)
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return not _LARGEST < abs(float(value)) < math.inf


def rule_options(group: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `rl_rms.optim.rule.rmsprop_update` for a group."""
    return {
        **{name: group[name] for name in _RULE_OPTIONS},
        "lr": as_scalar(group["lr"]),
        "rho": group["alpha"],
    }


def state_options(group: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `rl_rms.optim.rule.rmsprop_init` for a group."""
    return {name: group[name] for name in ("momentum", "optimism", "centered", "initial_second_moment")}


def takes_tensor_means(group: Mapping[str, Any]) -> bool:
    """Whether an option of the rule uses a mean over each tensor."""
    return group["max_update_rms"] is not None or bool(group["cautious"] and group["momentum"])


def as_scalar(lr: Scalar) -> Scalar:
    """Convert a learning rate that is a tensor with one element to a scalar tensor. Return a number unchanged."""
    return lr.reshape(()) if isinstance(lr, Tensor) else lr
