"""Checks of a checkpoint's fields before an agent loads them."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl_rms.agents.config import TRUSTED
from rl_rms.envs.encoding import decode
from rl_rms.optim.rmsprop import RMSprop


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_dict_or_none(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_state(value: Any) -> bool:
    return value is None or (isinstance(value, torch.Tensor) and value.dim() == 2 and _is_finite(value))


def _is_text_tensor(value: Any) -> bool:
    return value is None or (isinstance(value, torch.Tensor) and value.dtype is torch.uint8 and value.dim() == 1)


def _is_episode(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 5:
        return False
    *numbers, success = value
    return isinstance(numbers[0], float) and all(map(_is_count, numbers[1:])) and success in (None, True, False)


# Counters, mean squares and sums of squares in the states of torch's optimizers.
_AT_LEAST_0 = {"step", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "sum"}


def _is_list_of_dicts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_dict, value))


_COUNT = (_is_count, "a whole number >= 0")
_DICT = (_is_dict, "a dictionary")
# The fields of an agent, each with a check and a description of the allowed values.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "algorithm": (_is_text, "a string"),
    "config": _DICT,
    "user_policy": (lambda value: isinstance(value, bool), "true or false"),
    "seed": _COUNT,
    "observation_space": _DICT,
    "action_space": _DICT,
    "policy": _DICT,
    "optimizer": _DICT,
    "generator": (_is_text, "a string"),
    "state": (_is_state, "null or a finite tensor of two dimensions"),
    "changes": _DICT,
    "meta": (_is_dict_or_none, "null or a dictionary"),
    "num_timesteps": _COUNT,
    "num_rollouts": _COUNT,
    "num_updates": _COUNT,
    "num_nonfinite": _COUNT,
    "normalizers": _DICT,
    "episodes": (
        lambda value: isinstance(value, list) and all(map(_is_episode, value)),
        "a list of [return, length, env_index, num_timesteps, success]",
    ),
    "place": (_is_text_tensor, "null or a tensor of torch.uint8 that holds JSON"),
    "callbacks": (
        lambda value: isinstance(value, dict) and all(map(_is_list_of_dicts, value.values())),
        "a dictionary of lists of dictionaries",
    ),
}


def check_fields(path: Path, contents: Mapping[str, Any]) -> None:
    """Check every field of an agent's file, and that the policy's weights are finite.

    Args:
        path: The file, for errors.
        contents: The fields.

    Raises:
        ValueError: If a field is missing or has an invalid value.
    """
    for name, (is_allowed, allowed) in _FIELDS.items():
        if name not in contents:
            raise ValueError(f"{path} is damaged: it has no {name}; load an earlier checkpoint")
        if not is_allowed(contents[name]):
            raise ValueError(
                f"{path} is damaged: {name} must be {allowed}, got {_short(contents[name])}; load an earlier "
                "checkpoint"
            )
    for name, weight in contents["policy"].items():
        if isinstance(weight, torch.Tensor) and not _is_finite(weight):
            raise ValueError(
                f"{path} holds a policy whose {name} is nan or infinite, because its training diverged; load an "
                "earlier checkpoint, or restart training with a smaller learning_rate"
            )


@contextmanager
def damage_named(where: str) -> Iterator[None]:
    """Convert the errors of loading a damaged state to a ValueError that names the damaged object.

    Args:
        where: Name of the object in the error.

    Raises:
        ValueError: If the block raises an error about a missing key, or about a wrong type, shape or value.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        cause = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{where} is damaged: {cause}; load an earlier checkpoint") from error


def check_like(name: str, value: Any, like: Any) -> None:
    """Check that a loaded value has the structure of the agent's current value.

    Args:
        name: Name of the value in errors.
        value: The loaded value.
        like: The agent's current value. The loaded value needs the same keys, lengths, shapes and types.
            Floating-point tensors of different precision count as one type, and so do all other tensors.

    Raises:
        ValueError: If the structure differs, if a whole number is below 0, or if a tensor or float is not finite.
    """
    if isinstance(like, np.ndarray):
        _check_array(name, value, like)
    elif isinstance(like, torch.Tensor):
        is_same = isinstance(value, torch.Tensor) and value.shape == like.shape
        if not is_same or value.is_floating_point() != like.is_floating_point() or not _is_finite(value):
            wanted = f"a finite tensor of {like.dtype} and shape {tuple(like.shape)}"
            raise ValueError(f"{name} must be {wanted}, got {_short(value)}")
    elif isinstance(like, dict):
        if not isinstance(value, dict) or value.keys() != like.keys():
            raise ValueError(f"{name} must have the keys {sorted(like)}, got {_short(value)}")
        for key, part in like.items():
            check_like(f"{name}.{key}", value[key], part)
    elif isinstance(like, list):
        if not isinstance(value, list) or len(value) != len(like):
            raise ValueError(f"{name} must be a list of length {len(like)}, got {_short(value)}")
        for number, part in enumerate(like):
            check_like(f"{name}[{number}]", value[number], part)
    elif isinstance(like, float):
        if not isinstance(value, float) or not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {_short(value)}")
    elif type(value) is not type(like) or (isinstance(like, int) and value < 0):
        raise ValueError(f"{name} must be of type {type(like).__name__}, and not negative, got {_short(value)}")


def _check_array(name: str, value: Any, like: np.ndarray[Any, Any]) -> None:
    if not isinstance(value, np.ndarray) or (value.dtype, value.shape) != (like.dtype, like.shape):
        wanted = f"an array of {like.dtype} and shape {like.shape}"
        raise ValueError(f"{name} must be {wanted}, got {_short(value)}")


def check_place(place: Any) -> None:
    """Check the structure of the saved environment state, as far as possible without the environment.

    Raises:
        ValueError: If a part is missing or has a wrong type.
    """
    if not isinstance(place, dict) or not isinstance(place.get("env_state"), dict):
        raise ValueError(f"place must have the keys ['episodes', 'env_state'], got {_short(place)}")
    environment = place["env_state"]["environment"]
    if not _is_dict_or_none(environment):
        raise ValueError(f"place.env_state.environment must be null or a dictionary, got {_short(environment)}")
    episodes = decode(place["episodes"])
    resetting = episodes["resetting"] if isinstance(episodes, dict) else None
    if not isinstance(resetting, np.ndarray) or resetting.dtype != np.bool_ or resetting.ndim != 1:
        raise ValueError(f"place.episodes.resetting must be an array of booleans, got {_short(resetting)}")


def check_episodes(episodes: Any, like: Mapping[str, Any]) -> None:
    """Check the saved episodes in progress.

    Args:
        episodes: The loaded state of a `rl_rms.agents.collector.Collector`.
        like: The state of the agent's own collector.

    Raises:
        ValueError: If the structure differs, or an array has a wrong shape or dtype.
    """
    imputed = episodes.get("imputed")
    optional = {"faults": episodes.get("faults"), "imputed": None if imputed is None else like["resetting"]}
    if like["faults"] is not None and episodes.get("faults") is not None:
        seeds = [0 if seed is None else seed for seed in episodes["faults"]["seeds"]]
        counts = {**episodes["faults"], "seeds": seeds}
        check_like("place.episodes.faults", counts, {**like["faults"], "seeds": [0] * len(like["resetting"])})
    check_like("place.episodes", episodes, {**like, **optional})


def check_options(name: str, value: Any, like: Mapping[str, Any]) -> None:
    """Check that loaded options have the names and types of a configuration's options.

    Args:
        name: Name of the options in errors.
        value: The loaded options.
        like: The options of the configuration. Flags and lists must be equal; other values must have the same
            type. Whole numbers and floats count as one type.

    Raises:
        ValueError: If a name, a type, a flag or a list differs.
    """
    if not isinstance(value, dict) or value.keys() != like.keys():
        raise ValueError(f"{name} must have the keys {sorted(like)}, got {_short(value)}")
    for key, expected in like.items():
        fits = _kind(value[key]) is _kind(expected)
        if fits and isinstance(expected, (bool, list, tuple)):
            fits = value[key] == (list(expected) if isinstance(expected, tuple) else expected)
        if not fits:
            raise ValueError(f"{name}.{key} must be like {_short(expected)}, got {_short(value[key])}")


def check_numbers(name: str, value: Any) -> None:
    """Check that every whole number in loaded dictionaries and lists is below 2**63 in magnitude.

    Args:
        name: Name of the value in errors.
        value: The loaded value.

    Raises:
        ValueError: If a whole number is too large.
    """
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            check_numbers(f"{name}.{key}", part)
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{name} must be below 2**63 in magnitude, got {_short(value)}")


def check_optimizer(state: dict[str, Any], optimizer: torch.optim.Optimizer, name: str = "optimizer") -> None:
    """Check a loaded optimizer state, because torch's optimizers load states unchecked.

    Args:
        state: The loaded state, in the layout of `torch.optim.Optimizer.state_dict`.
        optimizer: The optimizer that will load the state. RMSprop itself checks all of its state except the flags.
        name: Name of the state in errors.

    Raises:
        ValueError: If a shape, an entry or an option does not fit the optimizer, if a tensor is not finite, or if
            a counter, mean square or sum of squares is below 0.
    """
    check_numbers(name, state)
    is_rmsprop = isinstance(optimizer, RMSprop)
    groups = zip(optimizer.state_dict()["param_groups"], state["param_groups"], strict=True)
    for number, (own, loaded) in enumerate(groups):
        where = f"{name}.param_groups[{number}]"
        if is_rmsprop:
            flags = {key: option for key, option in own.items() if isinstance(option, bool)}
            check_options(where, {key: loaded[key] for key in flags}, flags)
        else:
            check_options(where, loaded, own)
    if not is_rmsprop:
        _check_states(state, optimizer, name)


def _check_states(state: dict[str, Any], optimizer: torch.optim.Optimizer, name: str) -> None:
    """Check the loaded entries of all parameters."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    states = {number: entries for number, entries in state["state"].items() if entries}
    # The state of the largest parameter with the same number of axes shows which entries have the parameter's
    # shape. Optimizers with factored states have different entries for matrices and vectors.
    largest = {params[number].ndim: number for number in sorted(states, key=lambda index: params[index].numel())}
    for number, entries in states.items():
        param = params[number]
        example, example_param = states[largest[param.ndim]], params[largest[param.ndim]]
        check_options(f"{name}.state[{number}]", entries, example)
        for entry, value in entries.items():
            if not isinstance(value, torch.Tensor):
                continue
            shape = _shape_like(example[entry], example_param, param)
            if value.shape != shape or not _is_finite(value):
                wanted = f"a finite tensor of shape {shape}"
                raise ValueError(f"{name}.state[{number}].{entry} must be {wanted}, got {_short(value)}")
            if entry in _AT_LEAST_0 and bool((value < 0).any()):
                raise ValueError(f"{name}.state[{number}].{entry} must be >= 0, got {float(value.min()):g}")


def _shape_like(example: torch.Tensor, example_param: torch.Tensor, param: torch.Tensor) -> tuple[int, ...]:
    """The expected shape of a parameter's entry, given another parameter and its entry as an example."""
    sizes = list(itertools.zip_longest(example.shape, example_param.shape))
    if example.numel() == 1:
        return tuple(example.shape)
    if any(size not in (full, 1) for size, full in sizes):
        return tuple(param.shape)
    return tuple(own if size == full else 1 for (size, full), own in zip(sizes, param.shape, strict=True))


def _kind(value: Any) -> type:
    """A value's type for comparisons: a tuple counts as a list, an int as a float, a parameter as a tensor."""
    kinds: dict[type, type] = {int: float, tuple: list, torch.nn.Parameter: torch.Tensor}
    return kinds.get(type(value), type(value))


def _is_finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _short(value: Any) -> str:
    """A short description of a value for errors, such as a tensor's dtype and shape or a dictionary's keys."""
    if isinstance(value, torch.Tensor):
        finite = "" if _is_finite(value) else ", not finite"
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}{finite}"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} and shape {value.shape}"
    if isinstance(value, dict):
        return f"the keys {list(value)}"[:200]
    return " ".join(repr(value).split())[:200]


def check_trusted(argument: str, path: str) -> None:
    """Raise an error if a file names a class from a package other than ``torch.optim`` and this library.

    Args:
        argument: The argument of ``load`` that passes the class.
        path: Import path of the class.

    Raises:
        ValueError: If the class is from another package.
    """
    if not path.startswith(TRUSTED):
        raise ValueError(
            f"the checkpoint names the {argument} {path!r}; importing it could run malicious code, so "
            f"pass {argument}=..."
        )
