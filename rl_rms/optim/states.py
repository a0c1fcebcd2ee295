"""Creates the optimizer states of parameters, and checks their shape, type and range."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rl_rms.optim.options import state_options
from rl_rms.optim.rule import AVERAGES, State, real, rmsprop_init

# Next to an epsilon of at least this size, the root of any subnormal number is lost in rounding.
_LEAST_EPS = 1e-11
_ENTRIES = {"step", "initial_weight", *AVERAGES}
_NEEDED_BY = {"centered": "grad_avg", "momentum": "momentum_buffer", "optimism": "previous_update"}


def checked_state(
    given: Any, param: Tensor, group: Mapping[str, Any], *, name: str, needed: Mapping[str, Any]
) -> State:
    """Check and copy one parameter's state, from this optimizer or from `torch.optim.RMSprop`.

    For torch's states, which have no ``initial_weight``, this function sets ``initial_weight`` to ``rho ** step``,
    or to 1 if rho is unknown. Infinite averages become the largest finite number, as in training.

    Args:
        given: The state. Empty for a parameter without updates.
        param: The parameter.
        group: The options of its group.
        name: The parameter's name in error messages.
        needed: Options, such as ``momentum``, whose state entries must be present. Missing entries of other
            options start at 0.

    Returns:
        A new state whose tensors share no memory with the given state.

    Raises:
        ValueError: If an entry is missing, or its shape, type or range is wrong.
    """
    if not isinstance(given, Mapping):
        raise ValueError(
            f"the state of {name} must be a dictionary, got {type(given).__name__}; save the optimizer again"
        )
    if not given:
        return {}
    own = rmsprop_init(param, **state_options(dict(group)))
    # Entries with other names belong to the user.
    state: State = {**copy.deepcopy({key: given[key] for key in given.keys() - _ENTRIES}), **own}
    for key in ("step", "square_avg"):
        if key not in given:
            raise _error(name, key, "is missing", "be present, as in every state of RMSprop")
    step = _number(given["step"], 0.0, math.inf, name, "step")
    if not step.is_integer():
        raise _error(name, "step", f"is {step}", "be a whole number")
    # In float32, counting stops at 2**24.
    is_double = step >= 2**24 or getattr(given["step"], "dtype", None) is torch.float64
    state["step"] = torch.tensor(step, dtype=torch.float64 if is_double else torch.float32)
    for option, key in _NEEDED_BY.items():
        if needed.get(option) and key not in given:
            raise _error(name, key, "is missing", f"be present with {option}={needed[option]!r}")
    for key in AVERAGES:
        if key in given:
            state[key] = _average(given[key], param, name, key)
    decay = group["alpha"]
    if "initial_weight" in given:
        weight = _number(given["initial_weight"], 0.0, 1.0, name, "initial_weight")
    else:
        weight = 1.0 if decay is None else float(decay) ** float(state["step"])
    state["initial_weight"] = weight
    return state


def _average(value: Any, param: Tensor, name: str, key: str) -> Tensor:
    """Check and copy an average. The copy has the parameter's precision, but at least float32."""
    shape = tuple(param.shape)
    if not isinstance(value, Tensor):
        raise _error(name, key, f"is of type {type(value).__name__}", f"be a tensor of shape {shape}")
    if tuple(value.shape) != shape:
        raise _error(name, key, f"has shape {tuple(value.shape)}", f"have the parameter's shape {shape}")
    if value.layout is not torch.strided or not (value.is_floating_point() or value.is_complex()):
        raise _error(name, key, f"has {value.dtype} and {value.layout}", "be a dense tensor of floating point")
    if value.is_complex() != param.is_complex():
        raise _error(name, key, f"has {value.dtype}", f"be {'complex' if param.is_complex() else 'real'}")
    if hasattr(value, "to_local") != hasattr(param, "to_local"):
        raise _error(
            name,
            key,
            f"is of type {type(value).__name__}",
            f"be distributed as the parameter, a {type(param).__name__}, is",
        )
    if value.is_meta != param.is_meta:
        raise _error(name, key, f"is on {value.device}", f"be on {param.device}, as the parameter is")
    dtype = torch.promote_types(param.dtype, torch.float32)
    with torch.no_grad():
        own = torch.empty_like(param, dtype=dtype, requires_grad=False).copy_(value)
        numbers = torch.view_as_real(local(own)) if own.is_complex() else local(own)
        if bool(numbers.isnan().any()):
            raise _error(name, key, "holds nan", "be finite")
        if key == "square_avg" and bool((numbers < 0).any()):
            raise _error(name, key, f"holds {float(numbers.min()):g}", "be >= 0")
        largest = torch.finfo(numbers.dtype).max
        numbers.clamp_(-largest, largest)
    return own


def has_whole_state(state: State, param: Tensor, group: Mapping[str, Any]) -> bool:
    """Whether a state has all entries for an update, with the right shape, precision and device."""
    if "initial_weight" not in state or "step" not in state or "square_avg" not in state:
        return False
    if any(group[option] and key not in state for option, key in _NEEDED_BY.items()):
        return False
    kind = (param.shape, torch.promote_types(param.dtype, torch.float32), param.device)
    averages = [state[key] for key in AVERAGES if key in state]
    return all(isinstance(one, Tensor) and (one.shape, one.dtype, one.device) == kind for one in averages)


def complete_state(state: State, param: Tensor, group: dict[str, Any]) -> State:
    """Complete a parameter's state in place, so that the state has all entries for an update.

    Returns:
        ``state``.

    Raises:
        ValueError: If the shape, type or range of an entry is wrong.
    """
    if has_whole_state(state, param, group):
        return state
    if state:
        number = [one is param for one in group["params"]].index(True)
        state.update(checked_state(state, param, group, name=parameter_name(group, number), needed={}))
    else:
        state.update(rmsprop_init(param, **state_options(group)))
    if group["capturable"]:
        make_capturable_(state, param.device)
    return state


def settle_states_(groups: list[dict[str, Any]], states: Mapping[Tensor, State]) -> None:
    """Clip averages to the largest finite number, and set subnormal averages to 0, in place.

    Groups that are differentiable or capturable, or whose epsilon is below 1e-11, do not change. An infinite
    average would stay infinite. Subnormal numbers are negligible next to epsilon, but they make CPUs many times
    slower, and rounding prevents their decay to 0.
    """
    for group in groups:
        if group["eps"] < _LEAST_EPS or group["differentiable"] or group["capturable"]:
            continue
        of_group = [states[param] for param in group["params"] if param in states]
        with torch.no_grad():
            for x in [local(real(state[name])) for state in of_group for name in AVERAGES if name in state]:
                limits = torch.finfo(x.dtype)
                torch.hardshrink(x.clamp_(-limits.max, limits.max), limits.tiny, out=x)


def make_capturable_(state: State, device: torch.device) -> None:
    """Move ``step`` and ``initial_weight`` to the device, as tensors. A captured graph cannot change numbers."""
    state["step"] = state["step"].to(device)
    state["initial_weight"] = torch.as_tensor(state["initial_weight"], dtype=torch.float64, device=device)


def parameter_name(group: Mapping[str, Any], number: int) -> str:
    """A parameter's name in messages: its index in the group, and its name if it has one."""
    names = group.get("param_names")
    return f"parameter {number}" + (f" ({names[number]!r})" if names and len(names) > number else "")


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a distributed tensor. Return any other tensor unchanged."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # pyright: ignore[reportAttributeAccessIssue]


def _number(value: Any, least: float, most: float, name: str, key: str) -> float:
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex() and not value.is_meta:
        value = value.item()
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _error(name, key, f"is {value!r}", "be one number")
    if not (least <= value <= most and math.isfinite(value)):
        raise _error(name, key, f"is {value!r}", f"be finite and in [{least:g}, {most:g}]")
    return float(value)


def _error(name: str, key: str, got: str, wanted: str) -> ValueError:
    return ValueError(
        f"in the optimizer state of {name}, {key!r} {got}, but must {wanted}. Load the state of an optimizer of "
        "the same parameters"
    )
