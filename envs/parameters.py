"""The dynamics parameters of environments: what must be written where, so that a change takes effect.

An environment's parameter is addressed by the attribute's own name and written to the unwrapped environment:
written to a wrapper it would shadow the attribute and change nothing. What must be derived from it, or written
elsewhere too, stands in a table by the environment's class. Users register parameters of their own environments
with `register_parameter`; any other numeric attribute is set as it is.
"""

import numbers
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Parameter:
    """How a parameter of an unwrapped environment is written and read.

    Attributes:
        name: The attribute that is set, unless ``set`` says otherwise.
        set: ``set(env, value)``; None sets the attribute.
        get: ``get(env)``, the value now; None reads the attribute.
        derive: ``derive(env)`` recomputes what depends on the parameter; None for nothing.
        batched: Whether a vector environment takes one value for each sub-environment.
        inert: ``inert(env)`` says why setting it would change nothing in this environment, or None.
    """

    name: str
    set: Callable[[Any, Any], None] | None = None
    get: Callable[[Any], Any] | None = None
    derive: Callable[[Any], None] | None = None
    batched: bool = False
    inert: Callable[[Any], str | None] | None = None

    def setter(self, env: Any) -> Callable[[Any], None]:
        """What sets the parameter of an environment and derives what depends on it."""
        assign = partial(setattr, env, self.name) if self.set is None else partial(self.set, env)
        if self.derive is None:
            return assign
        derive = self.derive

        def assign_and_derive(value: Any) -> None:
            assign(value)
            derive(env)

        return assign_and_derive

    def value(self, env: Any) -> float:
        """The parameter's value now."""
        return float(getattr(env, self.name) if self.get is None else self.get(env))

    def why_inert(self, env: Any) -> str | None:
        """Why setting it would change nothing, or None."""
        return None if self.inert is None else self.inert(env)


# By "module:Class", so that the environments' modules, and Box2D and MuJoCo with them, need not be imported.
_PARAMETERS: dict[tuple[str, str], Parameter] = {}


def register_parameter(
    env_class: type | str,
    name: str,
    *,
    set: Callable[[Any, Any], None] | None = None,
    get: Callable[[Any], Any] | None = None,
    derive: Callable[[Any], None] | None = None,
    batched: bool = False,
    inert: Callable[[Any], str | None] | None = None,
) -> None:
    """Say how a parameter of a class of environments is changed; it holds for subclasses too.

    Args:
        env_class: Class of the unwrapped environment, or its name as ``"module:Class"``.
        name: The target's name.
        set: ``set(env, value)``; None sets the attribute ``name``.
        get: ``get(env)``; None reads the attribute ``name``.
        derive: ``derive(env)``, called after every change to recompute what depends on the parameter.
        batched: Whether a vector environment takes an array, shape ``(num_envs,)``.
        inert: ``inert(env)`` says why setting it would change nothing in this environment, or None.

    Example:
        >>> from gymnasium.envs.classic_control import PendulumEnv
        >>> class Wheel(PendulumEnv):
        ...     radius, inertia = 1.0, 0.5
        >>> def inertia(env):
        ...     env.inertia = env.radius**2 / 2
        >>> register_parameter(Wheel, "radius", derive=inertia)
    """
    owner = env_class if isinstance(env_class, str) else _qualified(env_class)
    _PARAMETERS[owner, name] = Parameter(name, set, get, derive, batched, inert)


def find_parameter(env: Any, name: str) -> Parameter | None:
    """The parameter of an unwrapped environment, or None where it has none of that name.

    Raises:
        ValueError: If there is one whose change would have no effect, or cannot be made.
    """
    for one in type(env).__mro__:
        parameter = _PARAMETERS.get((_qualified(one), name))
        if parameter is not None:
            reason = parameter.why_inert(env)
            if reason is not None:
                raise ValueError(f"changing {name!r} of {type(env).__name__} would change nothing: {reason}")
            return parameter
    if not _is_number(getattr(env, name, None)):
        return None
    try:
        setattr(env, name, getattr(env, name))
    except AttributeError as error:
        raise ValueError(
            f"{name!r} of {type(env).__name__} is read-only; register_parameter can say what it stands for"
        ) from error
    return Parameter(name)


def parameter_names(env: Any) -> list[str]:
    """What can be changed in an unwrapped environment: what its class registers, else its numeric attributes."""
    classes = [_qualified(one) for one in type(env).__mro__]
    registered = [
        name
        for (owner, name), parameter in _PARAMETERS.items()
        if owner in classes and parameter.why_inert(env) is None
    ]
    plain = [name for name, value in vars(env).items() if not name.startswith("_") and _is_number(value)]
    return sorted(registered or plain)


def _qualified(one: type) -> str:
    return f"{one.__module__}:{one.__qualname__}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (numbers.Real, np.number)) and not isinstance(value, bool)


# -- classic control ------------------------------------------------------------------------------------------

_CONTROL = "gymnasium.envs.classic_control"


def _derive_masses(env: Any) -> None:
    # The physics reads the masses and the pole's length only through these two.
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length


def _always(reason: str) -> Callable[[Any], str | None]:
    return lambda env: reason


for _class, _batched in (
    (f"{_CONTROL}.cartpole:CartPoleEnv", False),
    (f"{_CONTROL}.cartpole:CartPoleVectorEnv", True),
):
    for _name in ("gravity", "force_mag", "tau", "x_threshold", "theta_threshold_radians"):
        register_parameter(_class, _name, batched=_batched)
    for _name in ("masscart", "masspole", "length"):
        register_parameter(_class, _name, derive=_derive_masses, batched=_batched)
    for _name in ("total_mass", "polemass_length"):
        register_parameter(_class, _name, inert=_always("it is derived from masscart, masspole and length"))

# Class attributes: setting them on the instance leaves other environments alone.
for _name in ("dt", "LINK_LENGTH_1", "LINK_MASS_1", "LINK_MASS_2", "LINK_COM_POS_1", "LINK_COM_POS_2", "LINK_MOI"):
    register_parameter(f"{_CONTROL}.acrobot:AcrobotEnv", _name)
for _name in ("MAX_VEL_1", "MAX_VEL_2", "torque_noise_max"):
    register_parameter(f"{_CONTROL}.acrobot:AcrobotEnv", _name)
register_parameter(
    f"{_CONTROL}.acrobot:AcrobotEnv",
    "LINK_LENGTH_2",
    inert=_always("it only affects rendering; LINK_COM_POS_2 and LINK_MASS_2 move the second link"),
)

for _name in ("force", "gravity", "goal_position", "goal_velocity", "max_speed"):
    register_parameter(f"{_CONTROL}.mountain_car:MountainCarEnv", _name)
for _name in ("power", "goal_position", "goal_velocity", "max_speed"):
    register_parameter(f"{_CONTROL}.continuous_mountain_car:Continuous_MountainCarEnv", _name)
for _name in ("g", "m", "l", "dt", "max_torque", "max_speed"):
    register_parameter(f"{_CONTROL}.pendulum:PendulumEnv", _name)

# -- Box2D ----------------------------------------------------------------------------------------------------

_LANDER = "gymnasium.envs.box2d.lunar_lander:LunarLander"


def _set_lander_gravity(env: Any, gravity: float) -> None:
    env.gravity = gravity  # from which every reset makes a new world
    env.world.gravity = (0.0, gravity)


def _without_wind(env: Any) -> str | None:
    return None if env.enable_wind else "there is no wind; make the environment with enable_wind=True"


register_parameter(_LANDER, "gravity", set=_set_lander_gravity)
for _name in ("wind_power", "turbulence_power"):
    register_parameter(_LANDER, _name, inert=_without_wind)

# -- MuJoCo ---------------------------------------------------------------------------------------------------

_MUJOCO = "gymnasium.envs.mujoco.mujoco_env:MujocoEnv"


def _set_friction(env: Any, friction: float) -> None:
    # Two geoms in contact slide with the larger of their frictions, so one of them alone may change nothing.
    env.model.geom_friction[:, 0] = friction


def _set_mujoco_gravity(env: Any, gravity: float) -> None:
    env.model.opt.gravity[2] = gravity


register_parameter(
    _MUJOCO, "friction", set=_set_friction, get=lambda env: float(env.model.geom_friction[:, 0].max())
)
register_parameter(_MUJOCO, "gravity", set=_set_mujoco_gravity, get=lambda env: float(env.model.opt.gravity[2]))
