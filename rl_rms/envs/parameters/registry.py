"""The registry of the parameters of each environment class."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.vector import VectorWrapper

from rl_rms.envs.parameters.parameter import Effect, NoEffectError, Parameter, of_each
from rl_rms.envs.parameters.paths import AttributePath, find_path
from rl_rms.envs.specs import qualified
from rl_rms.half_life import is_number


class Family(NamedTuple):
    """A family of parameters, one for each part of an environment, such as ``"mass.torso"`` for a body.

    Attributes:
        members: ``members(env)`` returns the names of the parts.
        make: ``make(target, member)`` returns the parameter of a part.
    """

    members: Callable[[Any], list[str]]
    make: Callable[[str, str], Parameter]


# The keys name classes as "module:Class", so that this module need not import the environments, Box2D or MuJoCo.
_PARAMETERS: dict[tuple[str, str], Parameter] = {}
_FAMILIES: dict[tuple[str, str], Family] = {}
# Vector environments whose parameters belong to the single environments in the attribute ``envs``.
_OF_SINGLES = frozenset({"rl_rms.envs.mujoco.base:MujocoVectorEnv"})


def register_parameter(
    env_class: type | str,
    name: str,
    *,
    set: Callable[[Any, Any], None] | None = None,
    get: Callable[[Any], Any] | None = None,
    derive: Callable[[Any], None] | None = None,
    batched: bool = False,
    inert: Callable[[Any], str | None] | None = None,
    low: float = -math.inf,
    above: float = -math.inf,
    high: float = math.inf,
    effect: Effect = "step",
    provoke: Callable[[Any], None] | None = None,
) -> None:
    """Register a parameter of an environment class and its subclasses, and the way to change the parameter.

    Setting a value out of bounds raises an error. Clip or reflect the schedule to avoid the error.

    Args:
        env_class: Class of the unwrapped environment, or its name as ``"module:Class"``.
        name: The target's name.
        set: ``set(env, value)``; None sets the attribute ``name`` and keeps its type. An int attribute accepts
            whole numbers, and a bool attribute accepts 0 and 1.
        get: ``get(env)`` returns the current value; None reads the attribute ``name``.
        derive: ``derive(env)`` is called after every change, and recomputes values that depend on the parameter.
        batched: Whether a vector environment accepts an array of values, shape ``(num_envs,)``.
        inert: ``inert(env)`` returns the reason why a change has no effect in this environment, or None if a
            change has an effect.
        low: Smallest allowed value.
        above: Lower bound that values must exceed.
        high: Largest allowed value.
        effect: Time at which a change takes effect: the next ``"step"``, the next ``"reset"``, or the next
            ``"episode"``, in which case the episode in progress is truncated.
        provoke: ``provoke(env)`` moves an environment after its reset to a state in which the parameter has an
            effect; None if random actions lead to such a state. rl_rms calls the function only on copies of the
            environment.

    Raises:
        ValueError: If the bounds allow no value, or ``effect`` is unknown.

    Examples:
        >>> from gymnasium.envs.classic_control import PendulumEnv
        >>> class Wheel(PendulumEnv):
        ...     radius, inertia = 1.0, 0.5
        >>> def inertia(env):
        ...     env.inertia = env.radius**2 / 2
        >>> register_parameter(Wheel, "radius", derive=inertia, above=0)
    """
    owner = env_class if isinstance(env_class, str) else qualified(env_class)
    _PARAMETERS[owner, name] = Parameter(name, set, get, derive, batched, inert, low, above, high, effect, provoke)


def register_family(env_class: str, prefix: str, family: Family) -> None:
    """Register the parameters ``"prefix.member"`` of an environment class.

    Args:
        env_class: Class of the unwrapped environment as ``"module:Class"``.
        prefix: Name before the dot.
        family: The parameters.
    """
    _FAMILIES[env_class, prefix] = family


def find_owner(env: Any, target: str) -> tuple[Any, str]:
    """Find the object that has a target as an attribute, and the attribute's name.

    Args:
        env: The environment with its wrappers.
        target: ``"Wrapper.name"`` for an attribute of the outermost wrapper of this class; any other target
            belongs to the unwrapped environment.
    """
    prefix, _, name = target.partition(".")
    one = env
    while isinstance(one, (gym.Wrapper, VectorWrapper)):
        if name and type(one).__name__ == prefix:
            return one, name
        one = one.env
    return env.unwrapped, target


def find_parameter(env: Any, name: str) -> Parameter | None:
    """Find a parameter of an unwrapped environment or a wrapper; None if the parameter does not exist.

    Args:
        env: The unwrapped environment, or the wrapper.
        name: A name registered for the class of ``env``, an attribute that is a number, or the path to a number,
            such as ``"model.opt.gravity[2]"``.

    Raises:
        ValueError: If a change of the parameter is impossible or has no effect.
    """
    single = _single_of(env)
    if single is not None:
        found = find_parameter(single, name)
        return None if found is None else of_each(found)
    prefix, _, member = name.partition(".")
    for one in type(env).__mro__:
        owner = qualified(one)
        parameter = _PARAMETERS.get((owner, name))
        if parameter is not None:
            reason = parameter.why_inert(env)
            if reason is not None:
                raise NoEffectError(f"changing {name!r} of {type(env).__name__} changes nothing: {reason}", reason)
            return parameter
        family = _FAMILIES.get((owner, prefix))
        if family is not None and member in family.members(env):
            return family.make(name, member)
    path = find_path(env, name)
    return None if path is None else _parameter_at(path)


def parameter_names(env: Any) -> list[str]:
    """Return the names of an environment's registered parameters that have an effect.

    Without such parameters, the result contains the names of the environment's public numeric attributes.
    """
    single = _single_of(env)
    if single is not None:
        return parameter_names(single)
    classes = [qualified(one) for one in type(env).__mro__]
    registered = [
        name
        for (owner, name), parameter in _PARAMETERS.items()
        if owner in classes and parameter.why_inert(env) is None
    ]
    registered += [
        f"{prefix}.{member}"
        for (owner, prefix), family in _FAMILIES.items()
        if owner in classes
        for member in family.members(env)
    ]
    plain = [name for name, value in vars(env).items() if not name.startswith("_") and is_number(value)]
    return sorted(set(registered) or plain)


def _single_of(env: Any) -> Any:
    """Return the first sub-environment of a vector environment of `_OF_SINGLES`, else None."""
    return env.envs[0] if any(qualified(one) in _OF_SINGLES for one in type(env).__mro__) else None


@cache
def _parameter_at(path: AttributePath) -> Parameter:
    # A single attribute needs no path.
    return Parameter(path.text, set=path.set, get=path.get) if len(path.steps) > 1 else Parameter(path.text)
