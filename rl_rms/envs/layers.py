"""Saves and restores the state of the wrappers around an environment.

The saved attributes of a wrapper are numbers, arrays, strings, bytes, None, random generators, Gymnasium's
``RunningMeanStd``, and lists, tuples, dictionaries and deques of numbers, arrays, strings, bytes and None.
Attributes of the types in `_SETTINGS`, such as functions and spaces, and the attributes in `_INHERITED` are not
saved. The wrappers in `_STATELESS` and `_OURS` count as wrappers without state.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers.utils import RunningMeanStd

from rl_rms.envs.encoding import decode, encode
from rl_rms.envs.gymnasium_internals import WRAPPER_STATES
from rl_rms.envs.specs import qualified

# Class names of Gymnasium's wrappers, single and vector, whose state does not affect later transitions.
_STATELESS = frozenset(
    {
        "AddRenderObservation",
        "AddWhiteNoise",
        "ArrayConversion",
        "ClipAction",
        "ClipReward",
        "DictInfoToList",
        "DiscretizeAction",
        "DiscretizeObservation",
        "DtypeObservation",
        "FilterObservation",
        "FlattenObservation",
        "GrayscaleObservation",
        "HumanRendering",
        "JaxToNumpy",
        "JaxToTorch",
        "NumpyToTorch",
        "ObstructView",
        "PassiveEnvChecker",
        "RecordVideo",
        "RenderCollection",
        "RepeatAction",
        "RescaleAction",
        "RescaleObservation",
        "ReshapeObservation",
        "ResizeObservation",
        "TransformAction",
        "TransformObservation",
        "TransformReward",
        "VectorizeTransformAction",
        "VectorizeTransformObservation",
        "VectorizeTransformReward",
    }
)
_OURS = frozenset({"rl_rms.envs.checked:Checked", "rl_rms.agents.attacks:FGSMAttack"})
# Attributes of Gymnasium's base classes of wrappers.
_INHERITED = frozenset(
    {
        "env",
        "_saved_kwargs",
        "_action_space",
        "_observation_space",
        "_single_action_space",
        "_single_observation_space",
        "_metadata",
        "_cached_spec",
        "metadata",
        "spec",
        "render_mode",
        "closed",
        "_np_random",
        "_np_random_seed",
    }
)
_SETTINGS = (
    gym.Space,
    Enum,
    Path,
    FunctionType,
    BuiltinFunctionType,
    MethodType,
    ModuleType,
    partial,
    type,
    np.dtype,
    np.ufunc,
)

State = list[dict[str, Any]]
WrapperStates = list[tuple[State, State]]
"""For each sub-environment, the states of the wrappers inside and around the wrapper that applies the changes."""
Names = list[tuple[str, bool]]
# A saved value may replace an attribute's value if both types are in the same group, if the type of the
# attribute's value is in no group, or if the saved value is None.
_INTERCHANGEABLE: tuple[tuple[type, ...], ...] = (
    (bool, int, float, np.generic, np.ndarray),
    (str,),
    (list, tuple),
    (dict,),
)


class OtherWrappersError(ValueError):
    """Raised if a state was saved with different wrappers."""


class Layers:
    """The stateful wrappers around an environment.

    Args:
        env: The outermost wrapper, single or vector.
        inner: The environment or wrapper inside, whose own state is not included.
    """

    def __init__(self, env: Any, inner: Any) -> None:
        self._wrappers = []
        while env is not inner:
            if not _is_stateless(type(env)):
                self._wrappers.append(env)
            env = env.env
        # An attribute that still has its initial value when the state is saved counts as a setting. If the
        # wrappers of this object were made with another setting, loading the state keeps their own setting.
        self._first = [_read(one)[0] for one in self._wrappers]

    @property
    def names(self) -> Names:
        """The wrappers' classes, from the outermost wrapper inward, and whether each wrapper has a state."""
        return [(qualified(type(one)), _read(one) != ({}, True)) for one in self._wrappers]

    @property
    def lost(self) -> list[str]:
        """Names of the wrappers with an attribute that cannot be saved."""
        return sorted({type(one).__name__ for one in self._wrappers if not _read(one)[1]})

    def state_dict(self) -> State:
        """Return the wrappers' attributes as plain JSON data, from the outermost wrapper inward."""
        states = []
        for wrapper, first in zip(self._wrappers, self._first, strict=True):
            values, _ = _read(wrapper)
            unchanged = [name for name, value in values.items() if first.get(name) == value]
            if values:
                states.append({"wrapper": qualified(type(wrapper)), "attributes": values, "unchanged": unchanged})
        return states

    def load_state_dict(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Restore a state that `state_dict` returned. A later reset can overwrite the state.

        Raises:
            OtherWrappersError: If the state was saved with different wrappers.
            ValueError: If an attribute has a wrong type.
        """
        for number, state in zip(check_wrappers(states, self.names), states, strict=True):
            wrapper, first = self._wrappers[number], self._first[number]
            for name, value in state["attributes"].items():
                is_setting = name in state["unchanged"] and name in first and first[name] != value
                if not is_setting and name not in _INHERITED:
                    _write(wrapper, name, value)


def check_wrappers(states: Sequence[Mapping[str, Any]], names: Names) -> list[int]:
    """Find the wrapper of each saved state. Wrappers without a state may be added or removed after saving.

    Returns:
        The index of the wrapper for each state.

    Raises:
        OtherWrappersError: If the state was saved with different wrappers.
    """
    saved = [state["wrapper"] for state in states]
    found: list[int] = []
    for number, (name, has_state) in enumerate(names):
        is_next = len(found) < len(saved) and name == saved[len(found)]
        if is_next:
            found.append(number)
        elif has_state:
            break
    else:
        if len(found) == len(saved):
            return found
    own = [name for name, has_state in names if has_state]
    raise OtherWrappersError(
        f"the state was saved with the wrappers {saved}, but this environment has {own}; make the environment "
        "with the same wrappers, in the same order"
    )


def lost_sentence(names: Sequence[str]) -> str:
    """Return a warning that the state of wrappers cannot be saved."""
    return (
        f"the state of {' and '.join(names)} within episodes cannot be saved, because an attribute is "
        "neither a number, an array, a string, a random generator nor a container of numbers, arrays and strings; "
        "use only these types"
    )


def _is_stateless(kind: type) -> bool:
    if kind.__module__.startswith("gymnasium.wrappers."):
        return kind.__name__ in _STATELESS
    return qualified(kind) in _OURS


def _read(wrapper: Any) -> tuple[dict[str, Any], bool]:
    """Return the attributes of a wrapper as JSON data, and whether all attributes can be saved."""
    values, is_all = {}, True
    # In CPython 3.11 and 3.12, attribute lookups are slower after an object's `__dict__` was read, so the
    # attributes of the wrappers in WRAPPER_STATES are read by name.
    for name in WRAPPER_STATES.get(type(wrapper)) or vars(wrapper):
        value = getattr(wrapper, name)
        if name in _INHERITED or isinstance(value, _SETTINGS):
            continue
        try:
            values[name] = _pack(value)
        except ValueError:
            is_all = False
    return values, is_all


def _pack(value: Any) -> dict[str, Any]:
    if isinstance(value, deque):
        return {"deque": encode(list(value))}
    if isinstance(value, np.random.Generator):
        return {"generator": encode(value.bit_generator.state)}
    if type(value) is RunningMeanStd:
        return {"statistics": encode(vars(value))}
    return {"value": encode(value)}


def _write(wrapper: Any, name: str, packed: Mapping[str, Any]) -> None:
    """Set an attribute.

    Other objects may refer to deques, random generators and running statistics, so these are changed in place.
    """
    own = getattr(wrapper, name, None)
    ((kind, data),) = packed.items()
    value = decode(data)
    if kind == "value":
        if callable(own):
            raise ValueError(f"{name} of {type(wrapper).__name__} must be a function, got {value!r}")
        if value is not None and not _is_interchangeable(own, value):
            raise ValueError(
                f"{name} of {type(wrapper).__name__} must be of type {type(own).__name__}, got "
                f"{type(value).__name__} {value!r}"
            )
        setattr(wrapper, name, value)
    elif kind == "deque" and isinstance(own, deque):
        own.clear()
        own.extend(value)
    elif kind == "generator" and isinstance(own, np.random.Generator):
        own.bit_generator.state = value
    elif kind == "statistics" and type(own) is RunningMeanStd:
        own.mean, own.var, own.count = value["mean"], value["var"], value["count"]
    else:
        raise ValueError(f"{name} of {type(wrapper).__name__} cannot be restored from a {kind}")


def _is_interchangeable(own: Any, value: Any) -> bool:
    """Whether a saved value can replace an attribute's own value."""
    kinds = [kind for kind in _INTERCHANGEABLE if isinstance(own, kind)]
    return not kinds or isinstance(value, kinds[0])
