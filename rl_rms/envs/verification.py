"""Checks that changing a parameter has an effect on an environment.

Two copies of the environment are stepped with the same seed and actions, and the parameter is changed in one copy.
If all observations, rewards, terminations and truncations are equal, the change counts as having no effect. For
example, an attribute that the physics does not read, or friction without contact, has no effect.
"""

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any
from weakref import WeakKeyDictionary

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from rl_rms.envs.checks import number_of
from rl_rms.envs.parameters import NoEffectError, Parameter
from rl_rms.envs.parameters.parameter import ParameterOfEach

# Env steps before the change, maximum env steps of an episode, and env steps in total. The steps before the change
# show that the copies are equal. Small environments may need several episodes to show a difference.
WARM_UP, STEPS, ALL_STEPS = 3, 100, 200

# Verified parameters by the environment's class. A parameter is verified once per class and constructor arguments.
_SHOWN: WeakKeyDictionary[type, dict[tuple[str, str], Parameter]] = WeakKeyDictionary()
# Sets of parameters that do not change each other, by the environment's class.
_SEPARATE: WeakKeyDictionary[type, set[tuple[frozenset[str], str]]] = WeakKeyDictionary()


class _Outcome(Enum):
    """The outcome of trying one value in a copy of the environment."""

    DIFFERS = "the transitions differ after the change"
    SAME = "all transitions are the same"
    CRASHED = "the changed copy raises an error"
    REFUSED = "the value cannot be set"
    UNLIKE = "the transitions differ before the change"
    BROKEN = "the unchanged copy raises an error"


def verify_effect(env: Any, parameters: Mapping[str, Parameter]) -> None:
    """Verify on copies of an environment that each parameter has an effect and changes no other parameter.

    A process verifies a parameter once for each class and constructor arguments. The environment, its random
    generators and its class do not change. Changes of 10 % are tried first (0.1 for a value of 0), then other
    values within the bounds. If the parameter has no effect alone, the verification is repeated with the other
    parameters changed in both copies. For example, wind has no effect without density and viscosity. In a
    `MujocoVectorEnv`, the first sub-environment is verified.

    Raises:
        ValueError: If a parameter cannot be read or set, if no tried value has an effect other than an error, or
            if setting one parameter changes another.

    Warns:
        UserWarning: If an effect cannot be verified, because the environment cannot be copied, an unchanged copy
            raises an error, or two copies with the same seed differ.
    """
    singles = {name: one.single for name, one in parameters.items() if isinstance(one, ParameterOfEach)}
    if singles:
        env, parameters = env.envs[0], singles
    shown = _SHOWN.setdefault(type(env), {})
    made_with = repr((type(env.unwrapped), getattr(getattr(env, "spec", None), "kwargs", None)))
    unseen = {name: one for name, one in parameters.items() if shown.get((name, made_with)) != one}
    example = _equal_env(env) if unseen else env
    for target, parameter in unseen.items():
        others = [one for name, one in parameters.items() if name != target]
        reason = why_unverified(example, target, parameter, others)
        if reason is not None:
            warnings.warn(
                f"the effect of changing {target!r} of {type(env).__name__} could not be verified: {reason}",
                stacklevel=2,
            )
        shown[target, made_with] = parameter
    separate, key = _SEPARATE.setdefault(type(env), set()), (frozenset(parameters), made_with)
    if len(parameters) > 1 and key not in separate:
        pair = _find_coupled(env, parameters)
        if pair is not None:
            raise ValueError(
                f"changing {pair[0]!r} of {type(env).__name__} also changes {pair[1]!r}, so the two cannot have "
                "different schedules; remove one of these targets"
            )
        separate.add(key)


def _find_coupled(env: Any, parameters: Mapping[str, Parameter]) -> tuple[str, str] | None:
    """Return two parameters of which setting the first changes the second; None if there are none."""
    try:
        clone = copy_env(env)
        if not all(_can_read(one, clone) for one in parameters.values()):
            clone.reset(seed=0)
        for target, parameter in parameters.items():
            before = {name: one.value(clone) for name, one in parameters.items()}
            assign = parameter.setter(clone)
            _assign_first(assign, _values_near(clone, parameter))
            for name, one in parameters.items():
                # A value that is computed from several numbers may change by rounding.
                if name != target and not math.isclose(one.value(clone), before[name], abs_tol=1e-9):
                    return target, name
            assign(before[target])
    except Exception:  # without a copy, nothing can be compared; `why_unverified` reports errors of parameters
        return None
    return None


def _assign_first(assign: Callable[[float], None], values: Iterator[float]) -> None:
    """Assign the first value that the environment accepts."""
    for value in values:
        try:
            assign(value)
        except Exception:  # functions of users may raise any error
            continue
        return


def _equal_env(env: Any) -> Any:
    """Make another environment from the spec; return ``env`` if this fails, or if an attribute is not equal.

    The verification copies the result instead of ``env``. A copy reads the ``__dict__`` of the copied object. In
    CPython 3.11 and 3.12, this read makes all later attribute lookups of the object slower.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = gym.make(env.spec).unwrapped
            names = vars(other).keys() - {"spec"}
            is_equal = type(other) is type(env) and all(
                np.array_equal(getattr(env, name), getattr(other, name)) for name in names
            )
    except Exception:  # constructors and comparisons of users may raise any error
        return env
    return other if is_equal else env


def why_unverified(env: Any, target: str, parameter: Parameter, others: Sequence[Parameter] = ()) -> str | None:
    """Return the reason why an effect could not be verified; None if the parameter has an effect.

    Args:
        env: The unwrapped environment.
        target: Name of the parameter.
        parameter: The parameter.
        others: Parameters that are changed in both copies if the parameter has no effect alone.

    Raises:
        NoEffectError: If the parameter has no effect.
        ValueError: If the parameter cannot be read or set, or if no value has an effect and the environment raises
            an error with some values.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # extreme values may cause warnings in a copy
        return _why_unseen(env, target, parameter, others)


def _why_unseen(env: Any, target: str, parameter: Parameter, others: Sequence[Parameter]) -> str | None:
    owner = type(env).__name__
    try:
        before = parameter.value(env)
    except Exception as error:  # properties and functions of users may raise any error
        raise ValueError(f"{target!r} of {owner} cannot be read ({type(error).__name__}: {error})") from error
    tried: list[float] = []
    refusal: Exception | None = None
    crash: tuple[float, Exception | None] | None = None
    candidates = list(_values_near(env, parameter))
    for changed_too, value in itertools.product(([], others) if others else ([],), candidates):
        try:
            usual, moved = copy_env(env), copy_env(env)
        except Exception as error:
            return f"the environment cannot be copied ({error})"
        outcome, problem = _try_value(usual, moved, parameter, before, value, changed_too)
        match outcome:
            case _Outcome.DIFFERS:
                return None
            case _Outcome.SAME:
                tried.append(value)
            case _Outcome.CRASHED:
                crash = crash or (value, problem)
            case _Outcome.REFUSED:
                refusal = problem
            case _Outcome.UNLIKE:
                return "two copies with the same seed and actions differ before anything is changed"
            case _Outcome.BROKEN:
                return f"an unchanged copy raises {type(problem).__name__}: {problem}"
    if crash is not None:
        value, cause = crash
        raise ValueError(
            f"{target!r} of {owner} cannot be changed: with {value:g} instead of {before:g}, the environment "
            f"raises {type(cause).__name__}: {cause}; fix the environment, or declare the allowed values with "
            "register_parameter(..., low=..., high=...)"
        ) from cause
    if not tried:
        raise ValueError(
            f"{target!r} of {owner} cannot be set: {refusal}; make the attribute writable, or register a function "
            "with register_parameter(..., set=...)"
        ) from refusal
    values = ", ".join(f"{value:g}" for value in dict.fromkeys(tried))
    raise NoEffectError(
        f"changing {target!r} of {owner} changes nothing: with {values} instead of {before:g}, observations, "
        f"rewards, terminations and truncations stay the same in {ALL_STEPS} random steps, in episodes of up to "
        f"{_longest_episode(parameter)} steps. {_hint(parameter)}",
        f"{ALL_STEPS} random steps give the same transitions",
    )


def _can_read(parameter: Parameter, env: Any) -> bool:
    try:
        parameter.read(env)
    except (AttributeError, LookupError, TypeError):
        return False
    return True


def copy_env(env: Any) -> Any:
    """Copy an environment with its wrappers. The copy does not render."""
    if isinstance(env, (gym.Wrapper, VectorWrapper)):
        inner, clone = copy_env(env.env), object.__new__(type(env))
        known = {id(env.env): inner, id(env.unwrapped): inner.unwrapped}
        vars(clone).update(copy.deepcopy(vars(env), known))
        return clone
    if hasattr(env, "mujoco_renderer"):
        # The clone gets a copy of the current model, without loading the model's file again, and no renderer.
        clone = object.__new__(type(env))
        state = {name: value for name, value in vars(env).items() if name != "mujoco_renderer"}
        vars(clone).update(copy.deepcopy(state), mujoco_renderer=None)
    else:
        clone = copy.deepcopy(env)
        if isinstance(env, EzPickle):
            # deepcopy constructs an EzPickle environment again, so the copy lacks the values that were set.
            vars(clone).update(
                {name: value for name, value in vars(env).items() if isinstance(value, (bool, int, float))}
            )
    if getattr(clone, "render_mode", None) is not None:
        clone.render_mode = None
    return clone


def _values_near(env: Any, parameter: Parameter) -> Iterator[float]:
    """Yield other values within the bounds, first changes of 10 % or 0.1; for an enumeration, other members."""
    present = parameter.read(env)
    before = number_of(present)
    step = before if before != 0.0 else 1.0
    ends = (parameter.low, parameter.high)
    factors = (1.1, 0.9, 2.0, 0.5, 0.1, -1.0) if before != 0.0 else (0.1, -0.1, 1.0, -1.0)
    # Integer attributes need changes of 1.
    candidates = (*(factor * step for factor in factors), before + 1.0, before - 1.0, *ends, 0.0)
    if isinstance(present, Enum):
        candidates = tuple(map(number_of, type(present)))
    seen = {before}
    for value in candidates:
        if math.isfinite(value) and value not in seen and parameter.allows(value):
            seen.add(value)
            yield value


def _hint(parameter: Parameter) -> str:
    if parameter.provoke is None:
        return (
            "If only rare states show the effect, move the environment to such a state with "
            "register_parameter(..., provoke=...)"
        )
    return "If the states after provoke do not show the effect, give another provoke to register_parameter"


def _longest_episode(parameter: Parameter) -> int:
    # After a call of ``provoke``, perhaps only some actions show the effect, so short episodes call it more often.
    return STEPS if parameter.provoke is None else STEPS // 10


def _try_value(
    usual: Any, moved: Any, parameter: Parameter, before: float, value: float, others: Sequence[Parameter]
) -> tuple[_Outcome, Exception | None]:
    """Set ``value`` in ``moved``, change ``others`` in both copies, and compare the transitions of the copies.

    Returns:
        The outcome, and the error if the outcome is BROKEN, CRASHED or REFUSED.
    """
    try:
        if not _can_read(parameter, moved):  # Box2D's copies lack the attributes that a reset creates
            usual.reset(seed=0)
            moved.reset(seed=0)
        assign = parameter.setter(moved)
        assign(value)
        assign(before)
    except Exception as error:
        return _Outcome.REFUSED, error
    both = itertools.product((usual, moved), others)
    changes = [(one.setter(env), next(_values_near(env, one), one.value(env))) for env, one in both]

    def change() -> None:
        # `provoke` moves both copies to the same state before the value is set.
        if parameter.provoke is not None:
            assign(before)
            parameter.provoke(usual)
            parameter.provoke(moved)
        for set_other, other in changes:
            set_other(other)
        assign(value)

    for is_changed, result, moved_result in _transitions(usual, moved, parameter, change):
        if isinstance(result, Exception):
            return _Outcome.BROKEN, result
        if isinstance(moved_result, Exception):
            return _Outcome.CRASHED, moved_result
        if not _same(result, moved_result):
            return (_Outcome.DIFFERS if is_changed else _Outcome.UNLIKE), None
    return _Outcome.SAME, None


def _transitions(
    usual: Any, moved: Any, parameter: Parameter, change: Callable[[], None]
) -> Iterator[tuple[bool, Any, Any]]:
    """Step two copies with the same seeds and random actions.

    ``change`` is called after the first steps of the first episode, and at the beginning of each later episode.

    Yields:
        Whether the change may have an effect, and the result of each copy's reset or step. If a copy raises an
        error, the error replaces the result.
    """
    usual.action_space.seed(0)
    steps_left, episode = ALL_STEPS, 0
    while steps_left > 0:
        yield episode > 0, _attempt(usual.reset, seed=episode), _attempt(moved.reset, seed=episode)
        change_at = WARM_UP if episode == 0 else 0
        for step in range(_longest_episode(parameter)):
            if step == change_at:
                change()
                if episode == 0 and parameter.effect != "step":
                    break
            action = usual.action_space.sample()
            result = _attempt(usual.step, action)
            yield step >= change_at, result, _attempt(moved.step, action)
            steps_left -= 1
            if _needs_reset(usual, np.logical_or(result[2], result[3])):
                break
        episode += 1


def _attempt(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the result of a call, or the error that the call raises."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return error


def _needs_reset(env: Any, ended: Any) -> bool:
    """Whether an environment needs a reset after a step, given which episodes the step ended."""
    mode = env.metadata.get("autoreset_mode", AutoresetMode.DISABLED)
    # Before Gymnasium 1.4, a SyncVectorEnv writes its autoreset mode into the metadata of its sub-environments.
    resets = isinstance(env, VectorEnv) and mode is not AutoresetMode.DISABLED
    return bool(np.any(ended)) and not resets


def _same(one: Any, other: Any) -> bool:
    """Whether the results of two resets or steps have equal parts. NaN equals NaN."""
    return all(
        np.array_equal(a, b, equal_nan=True) if _is_float(a) else data_equivalence(a, b, exact=True)
        for a, b in zip(_compared(one), _compared(other), strict=True)
    )


def _compared(result: Any) -> list[Any]:
    """Return the parts of a result that are compared: all but the info, and the final observations in the info."""
    *parts, info = result
    final = info.get("final_obs") if isinstance(info, dict) else None
    return [*parts, *final] if isinstance(final, np.ndarray) and final.ndim else parts


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f")
