"""The parameters of Gymnasium's MuJoCo environments, such as gravity, masses, friction, motors and rewards.

A parameter ``*_scale``, except ``reset_noise_scale``, multiplies the initial values of arrays of the model.
Forces, frictions and damping take effect at the next step. After a change of masses or armatures, the setter calls
``mj_setConst``, which computes MuJoCo's derived constants again.
"""

import math
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from rl_rms.envs.gymnasium_internals import stored_as
from rl_rms.envs.parameters.parameter import Effect, Parameter
from rl_rms.envs.parameters.registry import Family, register_family, register_parameter

_MUJOCO = "gymnasium.envs.mujoco.mujoco_env:MujocoEnv"
_AS_MADE = "_as_made"


class _AsMade:
    """The initial values of a model's arrays, and their current scales.

    The object is an attribute of the environment, so copies of the environment include it.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.values: dict[str, npt.NDArray[np.float64]] = {}
        self.scales: dict[str, float] = {}
        self.mass_of = np.ones(model.nbody)  # scale of each body's mass without mass_scale
        self._scratch: Any = None

    def __getitem__(self, field: str) -> npt.NDArray[np.float64]:
        if field not in self.values:
            self.values[field] = getattr(self.model, field).copy()
        return self.values[field]

    def derive(self) -> None:
        """Make MuJoCo compute its derived constants at the joints' initial positions.

        The positions, contacts and warm starts of the environment's own data do not change.
        """
        import mujoco

        if self._scratch is None:
            self._scratch = mujoco.MjData(self.model)  # pyright: ignore[reportAttributeAccessIssue]
        mujoco.mj_setConst(self.model, self._scratch)  # pyright: ignore[reportAttributeAccessIssue]


def _as_made(env: Any) -> _AsMade:
    found: _AsMade | None = getattr(env, _AS_MADE, None)
    if found is None or found.model is not env.model:
        found = _AsMade(env.model)
        setattr(env, _AS_MADE, found)
    return found


# -- gravity and medium -------------------------------------------------------------------------------------------


def _register_option(name: str, field: str, index: int | None = None, **bounds: float) -> None:
    """Register a number of ``model.opt``, or an element of a vector of ``model.opt``."""

    def assign(env: Any, value: float) -> None:
        if index is None:
            setattr(env.model.opt, field, value)
        else:
            getattr(env.model.opt, field)[index] = value

    def read(env: Any) -> float:
        value = getattr(env.model.opt, field)
        return float(value if index is None else value[index])

    register_parameter(_MUJOCO, name, set=assign, get=read, **bounds)  # type: ignore[arg-type]


_register_option("gravity", "gravity", 2)
_register_option("timestep", "timestep", above=0.0)  # in seconds; an env step consists of frame_skip time steps
_register_option("density", "density", low=0.0)
_register_option("viscosity", "viscosity", low=0.0)
# Wind has an effect only with density or viscosity > 0.
for _index, _axis in enumerate("xyz"):
    _register_option(f"wind_{_axis}", "wind", _index)

# -- contacts -------------------------------------------------------------------------------------------------


def _register_friction(name: str, column: int, condim: int, what: str) -> None:
    """Register a friction coefficient of all geoms, which affects contacts of at least ``condim`` dimensions."""

    def assign(env: Any, friction: float) -> None:
        # A contact uses the larger friction of its two geoms, so changing one geom may have no effect.
        env.model.geom_friction[:, column] = friction

    def read(env: Any) -> float:
        return float(env.model.geom_friction[:, column].max())

    def inert(env: Any) -> str | None:
        return None if env.model.geom_condim.max() >= condim else f"its contacts {what} (condim < {condim})"

    register_parameter(_MUJOCO, name, set=assign, get=read, inert=inert, low=0)


_register_friction("friction", 0, 3, "are free of friction")
_register_friction("torsional_friction", 1, 4, "turn freely")
_register_friction("rolling_friction", 2, 6, "roll freely")

# -- masses ---------------------------------------------------------------------------------------------------


def _weigh(env: Any) -> None:
    made = _as_made(env)
    factors = made.mass_of * made.scales.get("body_mass", 1.0)
    mass = made["body_mass"] * factors
    if (mass != env.model.body_mass).any():
        env.model.body_mass[:] = mass
        env.model.body_inertia[:] = made["body_inertia"] * factors[:, None]
        made.derive()


def _set_mass_scale(env: Any, scale: float) -> None:
    made = _as_made(env)
    _ = made["body_mass"], made["body_inertia"]
    made.scales["body_mass"] = scale
    _weigh(env)


def _bodies(env: Any) -> list[str]:
    named = [(env.model.body(number).name, env.model.body_mass[number]) for number in range(env.model.nbody)]
    return [name for name, mass in named if name and mass > 0]


def _set_body_mass(body: str, env: Any, mass: float) -> None:
    made = _as_made(env)
    number = env.model.body(body).id
    made.mass_of[number] = mass / made["body_mass"][number]
    _ = made["body_inertia"]
    _weigh(env)


def _body_mass(body: str, env: Any) -> float:
    return float(env.model.body(body).mass[0] / _as_made(env).scales.get("body_mass", 1.0))


@cache
def _mass_of(target: str, body: str) -> Parameter:
    """Return the parameter for a body's mass in kg, without ``mass_scale``, and for its proportional inertia."""
    return Parameter(target, set=partial(_set_body_mass, body), get=partial(_body_mass, body), above=0)


register_parameter(
    _MUJOCO,
    "mass_scale",
    set=_set_mass_scale,
    get=lambda env: _as_made(env).scales.get("body_mass", 1.0),
    above=0,
)
register_family(_MUJOCO, "mass", Family(_bodies, _mass_of))

# -- joints and motors ----------------------------------------------------------------------------------------


def _register_scale(
    name: str,
    field: str,
    what: str,
    *,
    column: int | None = None,
    derives: bool = False,
    high: float = math.inf,
) -> None:
    """Register the scale of one of the model's arrays, or of one column of the array."""
    part = ... if column is None else (..., column)

    def assign(env: Any, scale: float) -> None:
        made, now = _as_made(env), getattr(env.model, field)
        scaled = made[field][part] * scale
        moves = bool((scaled != now[part]).any())
        now[part] = scaled
        made.scales[field] = scale
        if derives and moves:
            made.derive()

    def read(env: Any) -> float:
        return _as_made(env).scales.get(field, 1.0)

    def inert(env: Any) -> str | None:
        return None if _as_made(env)[field][part].any() else f"the model was made without {what}"

    register_parameter(_MUJOCO, name, set=assign, get=read, inert=inert, low=0, high=high)


_register_scale("friction_scale", "geom_friction", "friction", column=0)
_register_scale("damping_scale", "dof_damping", "damping")
_register_scale("armature_scale", "dof_armature", "armatures", derives=True)
_register_scale("stiffness_scale", "jnt_stiffness", "springs in its joints")
_register_scale("gear_scale", "actuator_gear", "motors")
# MuJoCo clips controls to their range. A wider range would have no effect, because the action space does not
# change.
_register_scale("control_range_scale", "actuator_ctrlrange", "ranges of control", high=1)


def _moved_dofs(env: Any) -> npt.NDArray[np.intp]:
    """Return the indices of the degrees of freedom that have a motor."""
    import mujoco

    moves_joint = env.model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT  # pyright: ignore[reportAttributeAccessIssue]
    joints = env.model.actuator_trnid[moves_joint, 0]
    dofs: npt.NDArray[np.intp] = env.model.jnt_dofadr[joints]
    return dofs


def _set_frictionloss(env: Any, torque: float) -> None:
    env.model.dof_frictionloss[_moved_dofs(env)] = torque


# Dry friction of the joints that have a motor, in N for sliding joints and in N m for hinges.
register_parameter(
    _MUJOCO,
    "frictionloss",
    set=_set_frictionloss,
    get=lambda env: float(env.model.dof_frictionloss[_moved_dofs(env)].max(initial=0.0)),
    low=0,
)

# -- rewards and resets ---------------------------------------------------------------------------------------


def _register_private(name: str, effect: Effect = "step", low: float = -math.inf) -> None:
    """Register a constructor argument that an environment stores as a private attribute."""
    attribute = stored_as(name)

    def assign(env: Any, value: float) -> None:
        setattr(env, attribute, value)

    def inert(env: Any) -> str | None:
        return None if hasattr(env, attribute) else "the environment does not have this parameter"

    register_parameter(
        _MUJOCO,
        name,
        set=assign,
        get=lambda env: getattr(env, attribute),
        inert=inert,
        low=low,
        effect=effect,
    )


for _name in (
    "forward_reward_weight",
    "ctrl_cost_weight",
    "contact_cost_weight",
    "impact_cost_weight",
    "healthy_reward",
    "reward_near_weight",
    "reward_dist_weight",
    "reward_control_weight",
):
    _register_private(_name)
_register_private("reset_noise_scale", effect="reset", low=0)
