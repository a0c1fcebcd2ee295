"""Lists the targets of an environment, and verifies whether a change of a target has an effect."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym

from rl_rms.envs.parameters import NoEffectError, Parameter, find_parameter, parameter_names
from rl_rms.envs.parameters.paths import number_paths
from rl_rms.envs.targets import NEUTRAL, all_transform_targets
from rl_rms.envs.verification import copy_env, why_unverified

# Number of env steps with random actions. An attribute that these env steps or a reset change counts as state, not
# as a parameter.
_STEPS = 20
# gymnasium.make adds these wrappers, whose attributes have no effect on transitions.
_ADDED_BY_MAKE = ("PassiveEnvChecker", "OrderEnforcing")


@dataclass(frozen=True)
class Target:
    """A possible target of `NonStationary`.

    Attributes:
        name: The target's name.
        kind: ``"transform"``, or the type of the value, with the number of elements if only the first element of
            an array or list is listed.
        value: The target's current value; for a transform, the value that has no effect.
        known: The result of `effect` if ``parameter`` is None; otherwise unused.
        parameter: The parameter to verify; None if the effect is known without a verification.
        owner: The unwrapped environment or wrapper that holds the parameter, or its copy after a reset if only the
            copy has the parameter; unused if ``parameter`` is None.
    """

    name: str
    kind: str
    value: Any
    known: str = ""
    parameter: Parameter | None = None
    owner: Any = None


def find_targets(env: gym.Env[Any, Any]) -> list[Target]:
    """List the possible targets: public attributes with numbers, registered parameters and transforms.

    Args:
        env: The environment, with the wrappers whose attributes are listed as ``"Wrapper.name"``.
    """
    found = _numbers(env.unwrapped)
    one = env
    while isinstance(one, gym.Wrapper):
        if type(one).__name__ not in _ADDED_BY_MAKE:
            prefix = f"{type(one).__name__}."
            found += [replace(target, name=prefix + target.name) for target in _numbers(one)]
        one = one.env
    return [*found, *_transforms(env)]


def effect(target: Target) -> str:
    """Verify whether a change of a target has an effect; see `rl_rms.envs.verification`.

    Returns:
        ``"yes"``, or ``"state"`` for a number that the environment itself changes, or ``"no"``, ``"fails"`` or
        ``"unknown"`` with a colon and the reason.
    """
    if target.parameter is None:
        return target.known
    try:
        reason = why_unverified(target.owner, target.name, target.parameter)
    except NoEffectError as error:
        return f"no: {error.reason}"
    except ValueError as error:
        cause = error.__cause__ or error
        return f"fails: {type(cause).__name__}: {' '.join(str(cause).split())}"
    return "yes" if reason is None else f"unknown: {reason}"


def _numbers(env: Any) -> list[Target]:
    try:
        clone = copy_env(env)
        clone.reset(seed=0)  # a reset may create attributes
    except Exception:  # the verification reports this error
        clone = None
    counts = dict(number_paths(env if clone is None else clone))
    state = set() if clone is None else _state_of(clone, list(counts))
    found = []
    for name in sorted({*parameter_names(env), *counts}):
        owner = env if clone is None or _value(env, name) is not None else clone
        found.append(_number(owner, name, counts.get(name, 1), is_state=name in state))
    return [target for target in found if target is not None]


def _number(owner: Any, name: str, count: int, *, is_state: bool) -> Target | None:
    """Return the target of an attribute or a registered parameter; None if it cannot be changed."""
    try:
        parameter = find_parameter(owner, name)
    except NoEffectError as error:
        value = getattr(owner, name)
        return Target(name, type(value).__name__, value, f"no: {error.reason}")
    except ValueError:  # read-only
        return None
    if parameter is None:
        return None
    value = parameter.read(owner)
    kind = type(value).__name__ + (f", 1 of {count}" if count > 1 else "")
    return Target(name, kind, value, "state", None if is_state else parameter, owner)


def _state_of(clone: Any, names: list[str]) -> set[str]:
    """Return the paths of the numbers that a reset or random env steps of ``clone`` change."""
    before = {name: _value(clone, name) for name in names}
    try:
        clone.action_space.seed(0)
        for _ in range(_STEPS):
            _, _, terminated, truncated, _ = clone.step(clone.action_space.sample())
            if terminated or truncated:
                clone.reset()
        clone.reset(seed=1)
    except Exception:  # the verification reports errors of the environment
        return set()
    return {name for name in names if _value(clone, name) != before[name]}


def _value(env: Any, name: str) -> float | None:
    try:
        parameter = find_parameter(env, name)
        return None if parameter is None else parameter.value(env)
    except ValueError:
        return None


def _transforms(env: gym.Env[Any, Any]) -> Iterator[Target]:
    for target in all_transform_targets(env.observation_space):
        needed = target.misfit(env.observation_space, env.action_space)
        known = "yes" if needed is None else f"no: it needs {' '.join(needed.split())}"
        yield Target(target.name, "transform", NEUTRAL[target.kind], known)
