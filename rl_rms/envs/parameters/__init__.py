"""The dynamics parameters of environments, and the attributes to set so that a change takes effect.

An environment's parameter is addressed by its own name and written to the unwrapped environment: written to a
wrapper it would shadow the attribute and change nothing. What must be derived from it, or written elsewhere too,
stands in a table by the environment's class: one file for each of Gymnasium's families. Users register parameters
of their own environments with `register_parameter`; any other number is reached by its attribute's name or by a
path such as ``"model.opt.gravity[2]"``.
"""

from rl_rms.envs.parameters import box2d, classic_control, mujoco, toy_text  # noqa: F401  (they register)
from rl_rms.envs.parameters.parameter import OutOfBoundsError, Parameter
from rl_rms.envs.parameters.registry import find_parameter, parameter_names, register_parameter

__all__ = ["OutOfBoundsError", "Parameter", "find_parameter", "parameter_names", "register_parameter"]
