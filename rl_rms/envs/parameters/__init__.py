"""The dynamics parameters of environments, and the attributes to set so that a change takes effect.

A parameter has the name of the environment's attribute. It is written to the unwrapped environment, because a
wrapper's attribute would only shadow it. The registry contains the parameters that need more than setting one
attribute, by environment class. There is one file for each family of environments in Gymnasium. Users register
parameters of their own environments with `register_parameter`. Any other number is addressed by the name of its
attribute or by a path such as ``"model.opt.gravity[2]"``.
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
