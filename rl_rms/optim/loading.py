"""Checks of a state dict before an optimizer loads it."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer

from rl_rms.optim.controller import HalfLifeController
from rl_rms.optim.guard import GradientGuard
from rl_rms.optim.options import check_options
from rl_rms.optim.rule import State
from rl_rms.optim.states import checked_state, make_capturable_, parameter_name

# In a state dict, the first group has this key for the state of the whole optimizer: the guard's counts of updates
# and the estimates of the half-life.
TRACKING = "tracking"


class Loaded(NamedTuple):
    """A checked state dict that shares no memory with the original.

    Attributes:
        groups: The groups. Options that were missing are added.
        states: The states of the optimizer's parameters.
        other_states: Entries of ``"state"`` that do not belong to a parameter.
        tracking: The states of the guard and of the half-life controller.
    """

    groups: list[dict[str, Any]]
    states: dict[Tensor, State]
    other_states: dict[Any, Any]
    tracking: dict[str, Any]


def check_state_dict(
    state_dict: Mapping[str, Any], param_groups: list[dict[str, Any]], names: Mapping[str, Any]
) -> Loaded | None:
    """Check a state dict of this optimizer, `torch.optim.RMSprop` or ``RMSpropTFLike``.

    Returns:
        The checked state dict. None if the numbers of parameters differ, because torch then raises an error.

    Raises:
        ValueError: If the groups, an option, or the shape, type or range of a state is wrong.
    """
    groups = _merged_groups(state_dict, param_groups, names)
    saved = state_dict["state"]
    if [len(group["params"]) for group in groups] != [len(own["params"]) for own in param_groups]:
        return None
    states: dict[Tensor, State] = {}
    for group, own, given in zip(groups, param_groups, state_dict["param_groups"], strict=True):
        for number, (param, index) in enumerate(zip(own["params"], group["params"], strict=True)):
            name = parameter_name(group, number)
            state = checked_state(saved.get(index, {}), param, group, name=name, needed=given)
            if state:
                states[param] = state
    tracking = groups[0].pop(TRACKING, {})
    if not isinstance(tracking, dict):
        raise ValueError(f"{TRACKING!r} must be a dictionary, got {tracking!r}; save the optimizer again")
    known = {index for group in groups for index in group["params"]}
    others = {index: copy.deepcopy(value) for index, value in saved.items() if index not in known}
    return Loaded(groups, states, others, tracking)


def _merged_groups(
    state_dict: Mapping[str, Any], param_groups: list[dict[str, Any]], names: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Read the groups of a state dict, and add options that are missing."""
    saved = state_dict.get("param_groups")
    if not (isinstance(saved, list) and isinstance(state_dict.get("state"), dict)):
        raise ValueError(
            f"a state dict must hold a dictionary 'state' and a list 'param_groups', got {list(state_dict)}; "
            "save the optimizer again with state_dict()"
        )
    try:
        for group in saved:
            hash((*group["params"], *group))
        is_right = all(isinstance(group["params"], list) for group in saved)
    except (KeyError, TypeError, IndexError):
        is_right = False
    if not is_right:
        raise ValueError(
            "each entry of 'param_groups' must be a dictionary with a list 'params' of numbers, got "
            f"{saved!r:.200}; save the optimizer again with state_dict()"
        )
    groups = []
    for own, group in zip(param_groups, saved, strict=False):
        merged = {**{name: own[name] for name in names}, **group}
        check_options(merged)
        groups.append(merged)
    return groups


@contextmanager
def checked_loading(optimizer: Optimizer, controller: HalfLifeController, guard: GradientGuard) -> Iterator[None]:
    """Context in which torch loads a state dict. The context checks the dict, and loads counts and estimates."""
    states: dict[Tensor, State] = {}

    def check(_: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        loaded = check_state_dict(state_dict, optimizer.param_groups, optimizer.defaults)
        if loaded is None:
            return state_dict
        _load_tracking(loaded.tracking, controller, guard)
        states.update(loaded.states)
        return {"state": loaded.other_states, "param_groups": loaded.groups}

    def install(_: Optimizer) -> None:
        for group in optimizer.param_groups:
            for param in group["params"]:
                if param in states:
                    optimizer.state[param] = states[param]
                    if group["capturable"]:
                        make_capturable_(states[param], param.device)

    # The user's pre-hooks run before `check`, and the user's post-hooks run after `install`.
    hooks = (
        optimizer.register_load_state_dict_pre_hook(check),
        optimizer.register_load_state_dict_post_hook(install, prepend=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _load_tracking(tracking: dict[str, Any], controller: HalfLifeController, guard: GradientGuard) -> None:
    """Load counts and estimates.

    Counts and estimates may be missing. `torch.optim.RMSprop` does not save them, and torch's distributed
    checkpoints drop empty dictionaries.
    """
    before = controller.state_dict()
    controller.load_state_dict(tracking.get("controller", {}))
    try:
        if "guard" in tracking:
            guard.load_state_dict(tracking["guard"])
    except ValueError:
        controller.load_state_dict(before)
        raise
