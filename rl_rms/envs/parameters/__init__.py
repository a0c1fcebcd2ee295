"""The dynamics parameters of environments, and the attributes to set so that a change takes effect.

Most parameters have the name of an attribute of the environment. Values are written to the unwrapped environment,
because an attribute of a wrapper would only shadow the environment's attribute. Only a target
``"WrapperClass.name"`` is written to a wrapper. If a change must set several attributes, or if a parameter has
bounds, the parameter is in the registry, under its environment's class. Gymnasium's Box2D, classic control, MuJoCo
and toy text environments have one module each. Users register parameters of their own environments with
`register_parameter`. Other numeric attributes can be changed by name, or by a path such as
``"model.opt.gravity[2]"``.
"""

from rl_rms.envs.parameters import box2d, classic_control, mujoco, toy_text  # noqa: F401  (they register)
from rl_rms.envs.parameters.parameter import NoEffectError, OutOfBoundsError, Parameter
from rl_rms.envs.parameters.registry import find_parameter, parameter_names, register_parameter

__all__ = [
    "NoEffectError",
    "OutOfBoundsError",
    "Parameter",
    "find_parameter",
    "parameter_names",
    "register_parameter",
]
